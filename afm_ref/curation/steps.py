"""What the steps of curation have in common: a document goes in, and a document or the reason to drop it comes out.

A step is pure and can be pickled by multiprocessing: a function of a module, a functools.partial of one, or a frozen
dataclass with __call__. Documents keep their source: "web" (HTML before extraction, its text afterwards), "text",
"code" or "maths".

    Step("extraction", html.Extraction())                                   # web alone
    Step("safety", heuristics.Safety())
    Step("personal data", pii.Masking())                                    # drops nothing
    (near-duplicates: over all documents, not a step)
    Step("heuristics", heuristics.Heuristics())
    Step("quality", quality.Quality())                                      # neither code nor maths
    Step("decontamination", decontamination.Decontamination(benchmarks, counts))    # after a pass that counts
"""

from collections.abc import Callable
from typing import NamedTuple

from ..data.corpora import Document


class Dropped(NamedTuple):
    """Why a document is not kept, in two or three words: one row of the report."""

    reason: str


class Step(NamedTuple):
    """A name, for the report, and what is done to each document."""

    name: str
    apply: Callable[[Document], Document | Dropped]

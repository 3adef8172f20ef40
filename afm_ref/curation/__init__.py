"""From a messy crawl to training text: extraction, safety, near-duplicates, quality,
benchmarks left out.

The order is that of TR24 section 3.1 (`recipe.Recipe`, `run.curate`). A step is a function:
it takes a `corpora.Document` and gives another, or `Dropped`. Documents keep their source:
"web" (HTML before extraction, its text afterwards), "text", "code" or "maths".
"""

from typing import NamedTuple


class Dropped(NamedTuple):
    """Why a document is not kept, in two or three words: one row of the report."""

    reason: str

"""What a run of curation is asked for, and the steps that follow from it."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np

from ..data import overlap
from ..data.corpora import Document
from ..disk import text_files
from . import (
    Dropped,
    decontamination,
    heuristics,
    html,
    minhash,
    near_duplicates,
    pages,
    pii,
    quality,
)

PERSONAL_DATA, NEAR_DUPLICATES = "personal data", "near-duplicates"
DECONTAMINATION = "decontamination"
Steps = dict[str, Callable]  # by name, in order: Document -> Document or Dropped


@dataclass(frozen=True)
class Recipe:
    """What is asked for. Raises ValueError for what makes no sense, naming the field.

    The defaults of the near-duplicates are `near_duplicates.choose_bands(0.75, 128, 0.9)`: 16
    bands of 8 rows.

    Source: the steps, TR24 section 3.1 [confirmed]; 4- to 13-grams and a common usage of
        1000, a single account of it [inferred]; all other numbers [ours].
    Test: tests/curation/test_run.py::test_bad_recipes_are_refused_by_name,
        tests/curation/test_near_duplicates.py::test_bands_are_those_of_datasketch
    """

    main_content: bool = True  # of web pages, without navigation and footers
    shingle: int = 5  # words
    permutations: int = 128  # entries of a signature
    bands: int = 16
    rows: int = 8
    threshold: float = 0.75  # estimated Jaccard similarity of near-duplicates
    thresholds: heuristics.Thresholds = field(default_factory=heuristics.Thresholds)
    quality: float = 0.5  # least P(good) of the classifier; 0 leaves it out
    # of what is kept; "any" leaves out what judges English alone
    language: str = heuristics.ENGLISH
    # a folder, a .jsonl with "text", or a .txt of one text a line
    benchmarks: Path | None = None
    shortest_run: int = 4  # words of a benchmark that collide
    longest_run: int = 13
    common_usage: int = 1000  # documents that hit a run before it counts as common
    chunk_bytes: int = 2**23  # of the source that are worked on, and staged, at a time
    # of memory for the near-duplicates' keys; beyond it they are read in parts
    index_bytes: int = 2**28

    def __post_init__(self):
        for each in fields(self):
            name = each.name
            value = getattr(self, each.name)
            least = 0 if name == "index_bytes" else 1
            if each.type is int and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
            if each.type is float and not 0 <= value <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {value}")
        if self.language not in heuristics.LANGUAGES:
            raise ValueError(
                f"language must be one of {', '.join(heuristics.LANGUAGES)}, got {self.language!r}"
            )
        if self.bands * self.rows > self.permutations:
            raise ValueError(
                f"{self.bands} bands of {self.rows} rows need {self.bands * self.rows} permutations"
            )
        if self.longest_run < self.shortest_run:
            raise ValueError(
                f"longest_run {self.longest_run} is below shortest_run {self.shortest_run}"
            )

    @property
    def is_english(self) -> bool:
        """Return whether English alone is kept."""
        return self.language == heuristics.ENGLISH

    @property
    def least_agreeing(self) -> int:
        """Return how many bytes of two sketches must agree."""
        return near_duplicates.least_agreeing(self.threshold, self.permutations)

    def before(self) -> Steps:
        """Return the steps before the near-duplicates. Personal data goes before them: no
        signature is of any.
        """
        # the list of bad words is English
        safety = {"safety": heuristics.Safety(self.thresholds)} if self.is_english else {}
        return {
            "extraction": html.Extraction(self.main_content),
            **safety,
            PERSONAL_DATA: pii.Masking(),
        }

    def after(self) -> Steps:
        """Return the steps between near-duplicates and decontamination."""
        steps = {"heuristics": heuristics.Heuristics(self.thresholds, self.language)}
        if self.quality and self.is_english:  # the classifier has seen no other
            steps["quality"] = quality.Quality(self.quality)
        return steps

    def shingles(self, text: str) -> np.ndarray:
        """Return the hashes of a text's runs of words; for any language a letter without
        spaces is one.
        """
        text = text if self.is_english else overlap.spaced(overlap.normal(text))
        return minhash.shingles(text, self.shingle)

    def benchmark_runs(self) -> decontamination.Benchmarks | None:
        """Return the runs of words of the benchmarks, None without benchmarks."""
        if self.benchmarks is None:
            return None
        return decontamination.Benchmarks(
            benchmark_texts(self.benchmarks), self.shortest_run, self.longest_run
        )

    def as_json(self) -> dict:
        """Return the fields as JSON can hold them."""
        return asdict(self) | {"benchmarks": self.benchmarks and str(self.benchmarks)}

    def digest(self) -> str:
        """Return a hash of all that the result depends on: the benchmarks' texts, and not
        the memory's bound.
        """
        about = asdict(self) | {"index_bytes": 0, "benchmarks": None}
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        for text in () if self.benchmarks is None else benchmark_texts(self.benchmarks):
            digest.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
        digest.update(quality.SHIPPED.read_bytes())
        return digest.hexdigest()


def through(
    steps: Steps, document: Document
) -> tuple[list[tuple], Document | None, dict[str, int]]:
    """Take a document through steps: how it went, the document at the end or None, and what
    was masked.

    How it went: of each step (its name, bytes that came in, bytes that came out or the
    reason of dropping it), of UTF-8. Masked: pieces of personal data, by kind. Raises
    RuntimeError, naming the document and the step, if a step fails: that is a fault of the
    program.
    """
    passed = []
    size = _size(document)
    masked = {}
    for name, step in steps.items():
        try:
            done = step(document)
        except Exception as error:
            raise RuntimeError(
                f"{document.name}: the step {name} failed: {error!r}"
            ) from error
        if isinstance(done, Dropped):
            return [*passed, (name, size, done.reason)], None, masked
        if name == PERSONAL_DATA:  # tags that the text had already are none of ours
            masked = dict(pii.count_tags(done.text) - pii.count_tags(document.text))
        passed.append((name, size, _size(done)))
        size = passed[-1][2]
        document = done
    return passed, document, masked


def _size(document):
    return len(document.text.encode("utf-8", "surrogatepass"))


def benchmark_texts(path) -> Iterator[str]:
    """Yield the texts of benchmarks: of a folder's files, of a .jsonl's lines, or each line
    of a .txt.

    Raises FileNotFoundError, or ValueError for a file that is none of these or a line
    without text, naming it. Nothing is passed over, not even a byte: what is left out would
    not be noticed.
    """
    path = Path(path)
    if path.is_dir():
        pages.inventory(path)  # refuses a folder of other things
    elif not path.exists():
        raise FileNotFoundError(
            f"no benchmarks at {path}: give a folder, a .jsonl or a .txt"
        )
    elif path.suffix.lower() == ".txt":
        yield from (line for _, line in text_files.read_lines(path))
        return
    elif not path.name.lower().endswith(pages.LINES):
        raise ValueError(
            f"{path} is no folder, .jsonl or .txt: benchmarks come as one of these"
        )
    yield from (_benchmark(*found) for found in pages.all_of(path))


def _benchmark(place, one):
    if isinstance(one, pages.Unreadable):
        hint = ", expected UTF-8: convert it, for example with iconv"
        raise ValueError(
            f"benchmark {place}: {one.reason}{hint if one.reason == pages.ENCODING else ''}"
        )
    return html.extract(one.text, main_content=False) if one.source == "web" else one.text

"""What is done to a chunk of documents by itself, in any process: all steps but those that look at all documents.

The steps after the near-duplicates are done before it is known which documents these are: a step looks at one document
alone, so the order of the work does not matter to the result, only that of the decisions. What it costs is the work on
duplicates; what it saves is a second trip of every text to another process.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..data.corpora import Document
from . import banding, pii, signatures, sources
from .settings import PERSONAL_DATA, Settings
from .steps import Dropped, Step


class Passed(NamedTuple):
    """One step of one document: bytes of UTF-8 that came in, and what came out: bytes, or the reason of dropping it."""

    step: str
    bytes_in: int
    out: int | str


class Outcome(NamedTuple):
    """What became of one document by itself."""

    name: str
    before: list[Passed]  # steps before the near-duplicates
    after: list[Passed]  # and those after it, if it is none
    document: Document | None  # what is left, None if a step dropped it
    row: int | None  # its place among the batch's signatures; None if it was dropped before or has no words
    personal: dict[str, int]  # pieces of personal data that were masked
    hits: list[int]  # runs of words that it shares with the benchmarks


class Batch(NamedTuple):
    """What became of a chunk. keys: uint64 [rows, bands]; sketches: uint8 [rows, permutations]."""

    outcomes: list[Outcome]
    unreadable: list[sources.Unreadable]
    keys: np.ndarray
    sketches: np.ndarray


class Worker:
    """The steps of some settings, ready to work on chunks; made once in each process."""

    def __init__(self, settings: Settings):
        self.settings, self.before, self.after = settings, settings.before(), settings.after()
        self.benchmarks = settings.benchmark_runs()

    def __call__(self, chunk: Sequence[sources.Raw | sources.Unreadable]) -> Batch:
        """Return what becomes of a chunk's documents."""
        parsed, found, s = [sources.parse(raw) for raw in chunk], [], self.settings
        outcomes = [self._outcome(one, found) for one in parsed if isinstance(one, Document)]
        table = np.array(found, np.uint32).reshape(len(found), s.permutations)
        unreadable = [one for one in parsed if isinstance(one, sources.Unreadable)]
        return Batch(outcomes, unreadable, banding.band_keys(table, s.bands, s.rows), signatures.sketch(table))

    def _outcome(self, document, found):
        name = document.name
        before, document, masked = through(self.before, document)
        if document is None:
            return Outcome(name, before, [], None, None, masked, [])
        row, hashes = None, self.settings.shingles(document.text)
        if len(hashes):
            row = len(found)
            found.append(signatures.signature(hashes, self.settings.permutations))
        after, document, _ = through(self.after, document)
        hits = []
        if document is not None and self.benchmarks is not None:
            hits = self.benchmarks.collisions(document.text).tolist()
        return Outcome(name, before, after, document, row, masked, hits)


def through(steps: Sequence[Step], document: Document) -> tuple[list[Passed], Document | None, dict[str, int]]:
    """Return (how it went step by step, the document at the end or None, pieces of personal data masked by kind).

    Raises RuntimeError, naming the document and the step, if a step fails: that is a fault of the program.

    Source: none [ours].
    Test: tests/curation/test_pipeline.py::test_steps_in_turn_by_hand
    """
    passed, size, masked = [], size_bytes(document), {}
    for step in steps:
        try:
            done = step.apply(document)
        except Exception as error:
            raise RuntimeError(f"{document.name}: the step {step.name} failed: {error!r}") from error
        if isinstance(done, Dropped):
            return [*passed, Passed(step.name, size, done.reason)], None, masked
        if step.name == PERSONAL_DATA:
            masked = dict(pii.count_tags(done.text) - pii.count_tags(document.text))
        size_in, size, document = size, size_bytes(done), done
        passed.append(Passed(step.name, size_in, size))
    return passed, document, masked


def size_bytes(document: Document) -> int:
    """Return the bytes of a document's text as UTF-8."""
    return len(document.text.encode("utf-8", "surrogatepass"))

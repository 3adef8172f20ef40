"""Benchmark texts out of the training text: documents that share a run of 4 to 13 words
with one are dropped.

Why a range. A run of 13 words is surely a copy, but short questions have none, and a copy
with a word changed here and there has none left. A run of 4 words finds those, but "what is
the number of" would drop half of the web. So a run that many documents hit counts as common
usage, and drops nothing. And 4 with that threshold is not enough either: of a text made of
common phrases all runs of 4 are common, its runs of 13 are not. The threshold needs two
passes over the documents: count, then decide.

    benchmarks = Benchmarks(texts)
    counts = count(benchmarks, (document.text for document in documents))        # shards add up: Counter + Counter
    step = Decontamination(benchmarks, counts, threshold=1000)
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .._typing import Array, UInt
from ..data import overlap
from ..data.corpora import Document
from . import Dropped

COPIED = "benchmark text"  # the reason of dropping a document
MULTIPLIER = 0x9E3779B97F4A7C15  # odd, so that multiplying by it loses nothing


class Benchmarks:
    """The runs of `low` to `high` words of benchmark texts, as 64-bit hashes; words as
    `overlap.words` sees them.

    A text shorter than `low` words has no run and is never found. Two different runs share
    a hash once in 2^64 pairs: with a million runs and 10^11 words of documents once in a
    few hundred corpora. Raises ValueError unless 1 <= low <= high and there is a run at
    all.

    Source: TR24 section 3.1: 811 benchmarks [confirmed]; hashes [ours]; n from 4 to 13, a
        single account [inferred].
    Test: tests/curation/test_decontamination.py::test_collisions_equal_brute_force
    """

    def __init__(self, texts: Iterable[str], low: int = 4, high: int = 13):
        if not 1 <= low <= high:
            raise ValueError(f"expected 1 <= low <= high, got {low} and {high}")
        self.low, self.high = low, high
        runs = [_by_length(word_hashes(text), low, high) for text in texts]
        found = [np.unique(np.concatenate(of_n)) for of_n in zip(*runs)]
        self.runs = [of_n for of_n in found if len(of_n)]  # of n = low, low + 1, ...
        if not self.runs:
            raise ValueError(
                f"no benchmark text has {low} words: nothing would ever be dropped"
            )

    def collisions(self, text: str) -> UInt[Array, " hits"]:
        """Return the different hashes of the runs that a text shares with the benchmarks,
        uint64, in order.

        A run of n words can be shared only where its first n - 1 words are: so the longer
        runs are looked up in few places.

        Source: TR24 section 3.1 (collisions of n-grams, a single account) [inferred]; the
            search by length [ours].
        Test: tests/curation/test_decontamination.py::test_collisions_equal_brute_force
        """
        words = word_hashes(text)
        at = np.arange(max(0, len(words) - self.low + 1))
        state = _start(words, at, self.low - 1)
        hits = []
        for n, of_n in enumerate(self.runs, start=self.low):
            inside = at + n <= len(words)
            at, state = at[inside], state[inside]
            state = _extend(state, words[at + n - 1])
            shared = of_n.take(np.searchsorted(of_n, state), mode="clip") == state
            at, state = at[shared], state[shared]
            hits.append(state)
        return np.unique(np.concatenate(hits))


def word_hashes(text: str) -> UInt[Array, " words"]:
    """Return a 64-bit hash of each word of a text, the same in every process and on every
    machine.
    """
    return np.array([_word_hash(word) for word in overlap.words(text)], np.uint64)


@lru_cache(maxsize=200_000)
def _word_hash(word):
    raw = word.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "little")


def _extend(state, words):
    """Return the hashes of runs that are one word longer: h' = h P + w modulo 2^64."""
    return state * MULTIPLIER + words


def _start(words, at, n):
    """Return the hashes of the runs of n words that start at these places; the 1 in front
    tells lengths apart.
    """
    state = np.ones(len(at), np.uint64)
    for i in range(n):
        state = _extend(state, words[at + i])
    return state


def _by_length(words, low, high):
    return [
        _start(words, np.arange(max(0, len(words) - n + 1)), n)
        for n in range(low, high + 1)
    ]


def count(benchmarks: Benchmarks, texts: Iterable[str]) -> Counter:
    """Pass 1: return {hash of a run: how many of the texts hit it}. Counters of parts of a
    corpus add up.

    A text counts once for a run, however often it says it: one page must not make a phrase
    common usage.

    Source: the collision count of a run, TR24 section 3.1, a single account [inferred]; of
        documents [ours].
    Test: tests/curation/test_decontamination.py::test_decisions_equal_brute_force
    """
    counts = Counter()
    for text in texts:
        counts.update(benchmarks.collisions(text).tolist())
    return counts


@dataclass(frozen=True)
class Decontamination:
    """Pass 2, the step: a document is dropped if it hits a run that fewer than `threshold`
    documents hit.

    counts: of `count` over the documents that come to this step. Raises ValueError for a
    threshold below 1.

    Source: TR24 section 3.1 decontaminates [confirmed]; whole documents, from 1000 on, a
        single account [inferred].
    Test: tests/curation/test_decontamination.py::test_decisions_equal_brute_force
    """

    benchmarks: Benchmarks
    counts: Mapping[int, int]
    threshold: int = 1000

    def __post_init__(self):
        if self.threshold < 1:
            raise ValueError(
                f"the common-usage threshold must be at least 1, got {self.threshold}"
            )

    def __call__(self, document: Document) -> Document | Dropped:
        hits = self.benchmarks.collisions(document.text).tolist()
        return Dropped(COPIED) if self.is_copied(hits) else document

    def is_copied(self, hits: Iterable[int]) -> bool:
        """Return whether a document with these hits is dropped: one is not common usage."""
        return any(self.counts.get(hit, 0) < self.threshold for hit in hits)

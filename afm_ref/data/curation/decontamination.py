"""STUB (helper A1)."""

from dataclasses import dataclass


class Benchmarks:
    """Benchmarks(texts, low=4, high=13); collisions(text) -> sorted unique uint64 array of the n-grams hit."""

    def __init__(self, texts, low=4, high=13):
        raise NotImplementedError

    def collisions(self, text):
        raise NotImplementedError


def count(benchmarks, texts):
    """Pass 1: Counter {hash: documents that it hits}; add Counters of shards."""
    raise NotImplementedError


@dataclass(frozen=True)
class Decontamination:
    benchmarks: Benchmarks
    counts: dict
    threshold: int = 1000

    def __call__(self, document):
        """Pass 2: Dropped("benchmark text") or the document."""
        raise NotImplementedError

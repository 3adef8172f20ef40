"""STUB (helper A1). Safety()(document) and Heuristics(thresholds)(document)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    pass


@dataclass(frozen=True)
class Safety:
    def __call__(self, document):
        raise NotImplementedError


@dataclass(frozen=True)
class Heuristics:
    thresholds: Thresholds = Thresholds()

    def __call__(self, document):
        raise NotImplementedError

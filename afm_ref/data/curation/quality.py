"""STUB (helper A1). Classifier.score(text) -> probability; shipped(); Quality(threshold)(document) -> Dropped("low quality")."""

from dataclasses import dataclass


def shipped():
    """Return the shipped Classifier."""
    raise NotImplementedError


@dataclass(frozen=True)
class Quality:
    threshold: float = 0.5

    def __call__(self, document):
        raise NotImplementedError

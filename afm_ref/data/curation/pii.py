"""STUB (helper A1). mask(text) -> (text, Counter by kind); Masking()(document) -> Document; count_tags(text)."""

from dataclasses import dataclass


def mask(text: str):
    """Return (masked text, Counter by kind)."""
    raise NotImplementedError


def count_tags(text: str):
    """Return a Counter of the tags that mask wrote: {"email": 2, ...}."""
    raise NotImplementedError


@dataclass(frozen=True)
class Masking:
    def __call__(self, document):
        raise NotImplementedError

"""STUB (helper A1). HTML bytes -> text."""

from dataclasses import dataclass


def decode(raw: bytes, declared: str | None = None) -> str:
    """bytes of a file -> text (BOM, declared charset, detection)."""
    raise NotImplementedError


def extract(html: str, main_content: bool = True) -> str:
    raise NotImplementedError


@dataclass(frozen=True)
class Extraction:
    main_content: bool = True

    def __call__(self, document):
        """web alone; Dropped("empty body")"""
        raise NotImplementedError

"""Keeping held-out text out of the training text: no run of 13 words may be in both.

A word is a maximal run of letters, digits and underscores, normalised and lower-cased;
punctuation and white space do not count. So re-wrapped, re-punctuated or differently
encoded copies are found too.
"""

import re
import unicodedata
from itertools import groupby, pairwise

from afm_ref.data.corpora import Document

WORD = re.compile(r"\w+")
UNSPACED = (  # Thai, Lao, Tibetan, Burmese, Khmer; kana; Chinese characters
    "\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
# with its vowel signs and tones
LETTER = re.compile(rf"(?=\w)[{UNSPACED}](?:(?!\w)[{UNSPACED}])*")
BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")
# soft hyphens, places to break a line, joiners and byte order marks
UNSEEN = re.compile("[\u00ad\u200b\u2060\ufeff]")
SHORTEST_PIECE_CHARS = 80


def normal(text: str) -> str:
    """Return a text in Unicode's form NFKC, without what cannot be seen, in which it is
    compared and never kept.

    C and not D: an accent apart from its letter would end a word. K: it makes one of what
    differs in looks alone, the ligatures of a PDF, full-width letters, no-break spaces, as
    lower-casing does.
    """
    if text.isascii():
        return text
    return unicodedata.normalize("NFKC", UNSEEN.sub("", text))


def words(text: str) -> list[str]:
    """Return the words of a text as the comparison sees them."""
    return [word.lower() for word in WORD.findall(normal(text))]


def spaced(text: str) -> str:
    """Return a text with each letter of a script without spaces between words as a word of
    its own.

    Else a clause, or a page, of Chinese, Japanese or Thai would be one word.
    """
    return text if text.isascii() else LETTER.sub(r" \g<0> ", text)


def ngrams(documents, n: int = 13) -> set[tuple[str, ...]]:
    """Return all runs of n words within one document each."""
    return {run for document in documents for run in _runs(words(document.text), n)}


def remove_shared(train, held_out, n: int = 13) -> list[Document]:
    """Return training documents without the paragraphs that share a run of n words with a
    held-out document.

    The held-out side stays as it is. What is left between two removed paragraphs becomes a
    document of its own, so that nothing is joined that was apart: no run of n words is made
    that was not there. Documents with turn markers are dropped whole.

    Source: TR24 section 3.1 decontaminates [confirmed]; by paragraphs, and n = 13 [ours].
    Test: tests/data/test_pretraining_text.py::test_nothing_is_shared_after_removal
    """
    forbidden = ngrams(held_out, n)
    return [piece for document in train for piece in _clean_pieces(document, forbidden, n)]


def _runs(sequence, n):
    return zip(*(sequence[i:] for i in range(n)), strict=False)


def _clean_pieces(document, forbidden, n):
    ends = (match.end() for match in BLANK_LINES.finditer(document.text))
    edges = [0, *ends, len(document.text)]
    paragraphs = [words(document.text[left:right]) for left, right in pairwise(edges)]
    # the paragraph of each word
    place = [i for i, of_one in enumerate(paragraphs) for _ in of_one]
    runs = _runs([word for of_one in paragraphs for word in of_one], n)
    hits = set()
    for k, run in enumerate(runs):
        if run in forbidden:
            hits.update(range(place[k], place[k + n - 1] + 1))
    if not hits:
        return [document]
    if document.markers:
        return []
    pieces = []
    for shared, stretch in groupby(range(len(paragraphs)), hits.__contains__):
        stretch = list(stretch)
        text = document.text[edges[stretch[0]] : edges[stretch[-1] + 1]].strip("\n") + "\n"
        if not shared and len(text) >= SHORTEST_PIECE_CHARS:
            pieces.append(
                document._replace(text=text, name=f"{document.name}#{len(pieces) + 1}")
            )
    return pieces

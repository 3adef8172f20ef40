"""HTML pages -> the text that a reader came for.

Apple's body extraction uses Safari's reader mode and Boilerpipe (TR24 section 3.1). Ours is
resiliparse, the extractor of DCLM.
"""

import re
from collections import Counter
from dataclasses import dataclass

from .. import overlap
from ..corpora import Document
from .steps import Dropped

BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
META_BYTES = 2048  # where a page may declare its encoding
DEEPEST = 512  # elements in each other, as in browsers: the time to parse or judge deeper ones may grow by the square
FLAT = {  # elements that hold nothing, or that the next one of their kind or the end of their parent closes
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr",
    "a", "body", "colgroup", "dd", "dt", "head", "html", "li", "optgroup", "option", "p", "rp", "rt", "tbody", "td",
    "tfoot", "th", "thead", "tr",
}  # fmt: skip
TAG = re.compile(  # comments, scripts and styles as a whole: what looks like a tag in them is none
    r"<(?:!--[^-]*(?:-(?!->)[^-]*)*|script\b[^<]*(?:<(?!/script)[^<]*)*|style\b[^<]*(?:<(?!/style)[^<]*)*"
    r"|(?P<end>/?)(?P<name>[a-z][a-z0-9-]*)(?P<rest>[^>]*))",
    re.IGNORECASE,
)
META_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{2,40})""", re.IGNORECASE)


def decode(raw: bytes, declared: str | None = None) -> str:
    """Return the text of a file's bytes, by the first of these that fits:

        a byte order mark;  valid UTF-8;  the declared encoding;  that of <meta charset>;  the detected one

    Valid UTF-8 goes before what is declared: text in another encoding hardly ever is valid UTF-8 by accident, and pages
    that declare the wrong encoding are common. UTF-16 and ISO-2022 are valid UTF-8 too, but hold zero bytes or escapes.
    declared: from an HTTP header. Never raises: what fits nowhere is detected, and undecodable bytes become U+FFFD.

    Source: declared, else detected, is what crawl pipelines do [standard]; the order [ours].
    Test: tests/data/curation/test_html.py::test_encodings, tests/data/curation/test_html.py::test_decode_never_raises
    """
    for mark, encoding in BOMS:
        if raw.startswith(mark):
            return raw.decode(encoding, errors="replace")
    if b"\0" not in raw and b"\x1b" not in raw and (text := _strict(raw, "utf-8")) is not None:
        return text
    meta = META_CHARSET.search(raw[:META_BYTES])
    for encoding in (declared, meta and meta[1].decode("ascii")):
        if encoding and (text := _strict(raw, encoding)) is not None:
            return text
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding

    return bytes_to_str(raw, detect_encoding(raw))


def _strict(raw, encoding):
    """Return the text, or None if the bytes are not in this encoding or there is none of this name."""
    from resiliparse.parse.encoding import map_encoding_to_html5

    try:  # browsers read latin-1 as windows-1252, and so on
        return raw.decode(map_encoding_to_html5(encoding, fallback_utf8=False) or encoding)
    except (UnicodeDecodeError, LookupError, ValueError):
        return None


def extract(html: str, main_content: bool = True) -> str:
    """Return the visible text of a page; with `main_content` without navigation, banners and footers.

    Paragraphs are parted by blank lines. What is main content is judged by names of elements, their classes and their
    share of links: heuristics, which err; `agreement` measures how much.

    Source: body extraction, TR24 section 3.1 [confirmed]; by resiliparse, as in DCLM (Li et al. 2024) [ours].
    Test: tests/data/curation/test_html.py::test_boilerplate_goes_and_the_body_stays
    """
    from resiliparse.extract.html2text import extract_plain_text

    return extract_plain_text(html, main_content=main_content, alt_texts=False, preserve_formatting=True).strip()


def is_deep(html: str, deepest: int = DEEPEST) -> bool:
    """Return whether more than so many elements lie in each other, by counting tags as they come, in linear time.

    An end tag counts if an element of its name is open. Elements whose end tag may lack (<p>, <li>) do not count, nor
    do <path/> and the like in pictures. An estimate: a page may be made to deceive it.

    Source: none [ours]; 512 is where Blink and WebKit stop nesting [standard].
    Test: tests/data/curation/test_html.py::test_depth_by_hand,
        tests/data/curation/test_html.py::test_pages_that_are_too_deep_are_not_even_parsed
    """
    opened, depth = Counter(), 0
    for tag in TAG.finditer(html):
        name = (tag["name"] or "").lower()
        if not name or name in FLAT:
            continue
        if tag["end"]:
            if opened[name]:
                opened[name] -= 1
                depth -= 1
        elif not (tag["rest"].endswith("/") and (opened["svg"] or opened["math"])):
            opened[name] += 1
            depth += 1
            if depth > deepest:
                return True
    return False


@dataclass(frozen=True)
class Extraction:
    """The step: a web document's HTML becomes its text. Others pass as they are.

    A page without text is dropped, and so is one that `is_deep`: it could hold up the whole run.

    Source: body extraction first, TR24 section 3.1 [confirmed]; pages that are too deep [ours].
    Test: tests/data/curation/test_html.py::test_empty_bodies_are_dropped,
        tests/data/curation/test_html.py::test_pages_that_are_too_deep_are_not_even_parsed
    """

    main_content: bool = True

    def __call__(self, document: Document) -> Document | Dropped:
        if document.source != "web":
            return document
        if is_deep(document.text):
            return Dropped("nested too deep")
        text = extract(document.text, self.main_content)
        return document._replace(text=text + "\n") if overlap.words(text) else Dropped("empty body")


def agreement(extracted: str, body: str) -> tuple[float, float]:
    """Return the precision and the recall of extracted words against those of the true body.

        precision = |E & B| / |E|,  recall = |E & B| / |B|,  E and B multisets of words

    Order does not count. An empty side gives 0, two empty ones (1, 1).

    Source: none [ours].
    Test: tests/data/curation/test_html.py::test_agreement_by_hand
    """
    ours, true = Counter(overlap.words(extracted)), Counter(overlap.words(body))
    if not ours and not true:
        return 1.0, 1.0
    shared = (ours & true).total()
    return shared / max(1, ours.total()), shared / max(1, true.total())

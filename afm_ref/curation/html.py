"""HTML pages -> the text that a reader came for.

Apple's body extraction uses Safari's reader mode and Boilerpipe (TR24 section 3.1). Ours is
resiliparse, the extractor of DCLM.
"""

import re
from collections import Counter
from typing import NamedTuple

from ..data import overlap
from ..data.corpora import Document
from . import Dropped

MARKS = (  # byte order marks, and how an XML or HTML file in UTF-16 begins without one
    (b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe\0\0", "utf-32-le"), (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"), (b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"),
)  # fmt: skip
ASCII = bytes(range(128))
# Korean has a name that the web has not; ASCII is no evidence
DETECTED = {"cp949": "euc_kr", "ascii": None}
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
# as browsers read them
WIDER = {
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "iso8859-11": "cp874",
}
META_BYTES = 2048  # where a page may declare its encoding
# elements in each other, as in browsers; judging 5,000 takes 0.6 s, 20,000 take 11 s
DEEPEST = 512
HOLD_NOTHING = "area base br col embed hr img input link meta param source track wbr"
# by the next one of their kind or the end of their parent
CLOSED_BY_OTHERS = (
    "a body colgroup dd dt head html li optgroup option p rp rt tbody td tfoot th thead tr"
)
FLAT = {*HOLD_NOTHING.split(), *CLOSED_BY_OTHERS.split()}  # names of elements
# comments, scripts and styles as a whole: what looks like a tag in them is none
TAG = re.compile(
    r"<(?:!--[^-]*(?:-(?!->)[^-]*)*|script\b[^<]*(?:<(?!/script)[^<]*)*|style\b[^<]*(?:<(?!/style)[^<]*)*"
    r"|(?P<end>/?)(?P<name>[a-z][a-z0-9-]*)(?P<rest>[^>]*))",
    re.IGNORECASE,
)
HIDDEN = re.compile(
    rb"<!--.*?(?:-->|\Z)|<(script|style)\b.*?(?:</\1|\Z)", re.IGNORECASE | re.DOTALL
)
DECLARED = re.compile(  # as HTML, XML, CSS, Emacs and vim have it
    rb"""(?:<meta\b[^>]{0,200}?\bcharset|^<\?xml\b[^>]{0,200}?\bencoding|^@charset"""
    rb"""|(?:^(?:\#|//|/\*)|-\*-)[^\n]{0,60}?coding[:=])"""
    rb"""\s*=?\s*["']?\s*([A-Za-z0-9_:.-]{2,40})""",
    re.IGNORECASE | re.MULTILINE,
)
# no text has control characters of C1
BAD, GOOD = re.compile("[\ufffd\x80-\x9f]"), re.compile("[^\0-\x9f\ufffd]")
# of surrogate pairs, and Java's zero: one error each
HALVES = re.compile(rb"(?:\xed[\xa0-\xbf][\x80-\xbf])+|\xc0\x80")
ESCAPES = re.compile(rb"\x1b\$[B@]")  # to ISO-2022-JP's characters
FEW = 3  # so many bad bytes speak for no other encoding, whatever they are
LEAST_BYTES = 64  # of a piece that is still worth detecting
PIECES = 8


class Read(NamedTuple):
    """Bytes as one encoding has them: the text, how much of it no text has, and what
    well-formed non-ASCII there is.
    """

    text: str
    bad: int
    good: int

    @property
    def is_nearly_valid(self) -> bool:
        """Few errors, or one to ten characters: damage, no other encoding."""
        return self.bad <= max(FEW, self.good // 10)


def decode(raw: bytes, declared: str | None = None) -> str:
    """Return the text of a file's bytes, by the first of these that fits:

        valid UTF-8;  UTF-8 with at most one error to two good continuation bytes;  what is declared, valid;
        UTF-8 with at most one error to one;  what is declared, nearly valid;  the detected one

    declared: from an HTTP header; others are a byte order mark, <meta charset>, <?xml
    encoding?> and "coding:". Never raises: bytes that do not fit become U+FFFD, and spoil
    nothing else.

    Source: declared, else detected, is what crawl pipelines do [standard]; the order
        [ours].
    Test: tests/curation/test_html.py::test_encodings, tests/curation/test_html.py::test_decode_never_raises
    """
    # Pages that declare the wrong encoding are common, and other text read as UTF-8 has 2.2
    # errors or more to a good continuation byte (EUC-JP; of German, Greek or Korean ones it
    # has none): so one to two is UTF-8 with damage.
    utf8 = _utf8(raw)
    if 2 * utf8.bad <= utf8.good:
        return utf8.text
    reads = [read for name in _declared(raw, declared) for read in _reads(raw, name)]
    valid = [read for read in reads if not read.bad] + [utf8] * (utf8.bad <= utf8.good)
    nearly = [read for read in reads if read.is_nearly_valid]
    return valid[0].text if valid else _best(raw, nearly).text


def _utf8(raw):
    """Return the reading as UTF-8, all bad for what only looks like it: UTF-16 and
    ISO-2022.
    """
    if (
        b"\0" in raw
        or (b"\x1b" in raw and raw.isascii())
        or _is_japanese(raw)
        or raw.startswith(UTF16_MARKS)
    ):
        return Read("", 1, 0)
    try:
        # U+FFFD that the file itself has is no error
        return Read(raw.decode("utf-8-sig"), 0, 0)
    except UnicodeDecodeError:
        return _read(raw, "utf-8")


def _is_japanese(raw):
    """Return whether bytes are ISO-2022-JP, which has none above 127: so few of these are
    damage.
    """
    return bool(ESCAPES.search(raw)) and len(raw.translate(None, ASCII)) <= max(
        FEW, len(raw) // 100
    )


def _best(raw, reads):
    """Return the declared reading with the fewest errors, or the detected one if there is
    none or it proves it wrong.

    Proof is a text of several bytes a character with fewer errors: an encoding of one byte
    would fit to anything.
    """
    found = min(_detected(raw), key=lambda read: (not read.is_nearly_valid, len(read.text)))
    if not reads:
        return found
    best = min(reads, key=lambda read: read.bad)
    return found if len(found.text) < len(raw) and found.bad < best.bad else best


def _detected(raw):
    """Return the readings by what is detected in the whole and in most pieces: damage
    misleads it in few of these.
    """
    from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

    # None for what is none of the web's, as DOS had; html5_compatible would call that UTF-8
    def detect(part):
        name = DETECTED.get(found := detect_encoding(part, html5_compatible=False), found)
        return name and map_encoding_to_html5(name, fallback_utf8=False)

    between_tags = re.split(rb"[<>]", raw)  # markup would dilute the votes
    prose = b" ".join(part for part in between_tags if not part.isascii()) or raw
    size = max(LEAST_BYTES, -(-len(prose) // PIECES))
    # cut behind a character
    votes = Counter(map(detect, re.findall(rb"(?s).{1,%d}[\x80-\xff]*" % size, prose)))
    likely = [detect(prose), *(name for name, n in votes.most_common() if name)][:2]
    if votes[likely[-1]] * 2 > max(4, votes.total()):
        likely.reverse()
    found = [read for name in likely if name for read in _reads(raw, name)]
    return found or _reads(raw, "windows-1252")


def _declared(raw, declared):
    """Return the encodings that are said to be the file's, the surest first."""
    mark = next((encoding for mark, encoding in MARKS if raw.startswith(mark)), None)
    mark = mark or ("iso-2022-jp" if _is_japanese(raw) else None)
    said = DECLARED.search(HIDDEN.sub(b"", raw[:META_BYTES]))
    names = [declared or "", said[1].decode("ascii") if said else ""]
    # markup in UTF-16 is half zeros: who says so without one means UTF-8, as in browsers
    if b"\0" not in raw:
        names = [re.sub("(?i)^utf-(16|32).*", "utf-8", name) for name in names]
    return [name.lower() for name in (mark, *names) if name]


def _reads(raw, encoding):
    """Return [the reading of bytes by an encoding, or by what browsers read under its
    name], [] for an unknown one.
    """
    from resiliparse.parse.encoding import map_encoding_to_html5

    try:  # browsers read latin-1 as windows-1252, and so on
        encoding = map_encoding_to_html5(encoding, fallback_utf8=False) or encoding
        found = [_read(raw, name) for name in (encoding, WIDER.get(encoding)) if name]
        return [min(found, key=lambda read: read.bad)]
    except (UnicodeError, LookupError, ValueError):
        return []


def _read(raw, encoding):
    raw = HALVES.sub(b"\xff", raw) if encoding == "utf-8" else raw
    text = raw.decode(encoding, errors="replace").removeprefix("\ufeff")
    bad, good = len(BAD.findall(text)), GOOD.findall(text)
    weight = len("".join(good).encode()) - len(good) if encoding == "utf-8" else len(good)
    return Read(text, bad, weight)


def extract(html: str, main_content: bool = True) -> str:
    """Return the visible text of a page; with `main_content` without navigation, banners
    and footers.

    Paragraphs are parted by blank lines. What is main content is judged by names of
    elements, their classes and their share of links: heuristics, which err; `agreement`
    measures how much.

    Source: body extraction, TR24 section 3.1 [confirmed]; by resiliparse, as in DCLM (Li et
        al. 2024) [ours].
    Test: tests/curation/test_html.py::test_boilerplate_goes_and_the_body_stays
    """
    from resiliparse.extract.html2text import extract_plain_text

    return extract_plain_text(
        html, main_content=main_content, alt_texts=False, preserve_formatting=True
    ).strip()


def is_deep(html: str, deepest: int = DEEPEST) -> bool:
    """Return whether more than so many elements lie in each other, by counting tags as they
    come, in linear time.

    An end tag counts if an element of its name is open. Elements whose end tag may lack
    (<p>, <li>) do not count, nor do <path/> and the like in pictures. An estimate: a page
    may be made to deceive it.

    Source: none [ours]; 512 is where Blink and WebKit stop nesting [standard].
    Test: tests/curation/test_html.py::test_depth_by_hand,
        tests/curation/test_html.py::test_pages_that_are_too_deep_are_not_even_parsed
    """
    opened = Counter()
    depth = 0
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


class Extraction(NamedTuple):
    """The step: a web document's HTML becomes its text. Others pass as they are.

    A page without text is dropped, and so is one that `is_deep`: it could hold up the whole
    run.

    Source: body extraction first, TR24 section 3.1 [confirmed]; pages that are too deep
        [ours].
    Test: tests/curation/test_html.py::test_empty_bodies_are_dropped,
        tests/curation/test_html.py::test_pages_that_are_too_deep_are_not_even_parsed
    """

    main_content: bool = True

    def __call__(self, document: Document) -> Document | Dropped:
        if document.source != "web":
            return document
        if is_deep(document.text):
            return Dropped("nested too deep")
        text = extract(document.text, self.main_content)
        if not overlap.words(text):
            return Dropped("empty body")
        return document._replace(text=text + "\n")


def agreement(extracted: str, body: str) -> tuple[float, float]:
    """Return the precision and the recall of extracted words against those of the true
    body.

        precision = |E & B| / |E|,  recall = |E & B| / |B|,  E and B multisets of words

    Order does not count. An empty side gives 0, two empty ones (1, 1).
    """
    ours, true = Counter(overlap.words(extracted)), Counter(overlap.words(body))
    if not ours and not true:
        return 1.0, 1.0
    shared = (ours & true).total()
    return shared / max(1, ours.total()), shared / max(1, true.total())

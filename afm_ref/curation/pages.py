"""A folder of whatever a crawl has left, as a stream of documents in a fixed order.

One file is one document, except for .jsonl and .jsonl.gz, of which each line is one: an
object with "text", and perhaps "name" or "path". What cannot be used is no error but an
`Unreadable`, with its name and reason. Files come in the order of their names, folder by
folder, so that a run can go on behind the `Position` where another one stopped. What kind a
document is, "web", "text", "code" or "maths", is told by its name and its text: each kind
has rules of its own.
"""

import gzip
import hashlib
import json
import os
import re
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..data import overlap
from ..data.corpora import Document
from . import html, shards

LARGEST_BYTES = 2**24  # of a file that is one document, and of a line: 16 MiB
# the 14 languages are our choice: TR24 says 14 common ones and names none that the copies
# show
EXTENSIONS = {
    "bash": ".sh .bash",
    "c": ".c .h",
    "c++": ".cc .cpp .cxx .hpp",
    "c#": ".cs",
    "go": ".go",
    "java": ".java",
    "javascript": ".js .mjs",
    "kotlin": ".kt",
    "objective-c": ".m .mm",
    "php": ".php",
    "python": ".py",
    "rust": ".rs",
    "swift": ".swift",
    "typescript": ".ts .tsx",
}
CODE = {*" ".join(EXTENSIONS.values()).split()}
WEB = {".html", ".htm", ".xhtml"}
MATHS_TAG = re.compile(
    r"<math[\s>]|\\begin\{(?:equation|align|gather)|class=[\"'](?:MathJax|katex)",
    re.IGNORECASE,
)
MATHS_SYMBOLS = re.compile(
    r"[=+^±\u00d7÷√∑∏∫∂∇∈∉∀∃≤≥≠≈≡∞²³]"
    # in Greek they are letters
    r"|(?<![\u0370-\u03ff\u1f00-\u1fff])[πθλ](?![\u0370-\u03ff\u1f00-\u1fff])"
    r"|\\(?:frac|sum|int|sqrt|alpha|beta|mathbb|cdot|leq|geq)\b"
)
MATHS_DENSITY = 0.1  # such symbols to a word
TEXT = {".txt", ".md"}
LINES = (".jsonl", ".jsonl.gz")
MOST_UNDECODABLE = 0.01  # share of characters that no encoding explains
FILE_FIELDS = ("name", "path")  # where a line may say which file its text was

# why something is unreadable
LARGE = f"larger than {LARGEST_BYTES >> 20} MiB"
BINARY, ENCODING, EMPTY = "binary", "bad encoding", "empty"
UNKNOWN, UNREADABLE = "unknown extension", "cannot be read"
BROKEN, NO_TEXT = "cut off or no gzip", 'no JSON with "text"'


class Position(NamedTuple):
    """A place in the order of the stream: a file, and a line of it from 0."""

    file: str
    line: int = 0


class Raw(NamedTuple):
    """The bytes of one document; `name` ends in #line for a line of a file."""

    name: str
    data: bytes
    is_line: bool = False


class Unreadable(NamedTuple):
    """What could not be used, and why."""

    name: str
    reason: str


class Inventory(NamedTuple):
    """How much there is, and a digest of all names, sizes and times of change."""

    files: int
    size_bytes: int
    digest: str


def is_code(name: str) -> bool:
    """Return whether a file's extension is of a programming language."""
    return _extension(name) in CODE


def maths_density(text: str) -> float:
    """Return how many mathematical symbols a text has to each of its words.

    Source: maths found by tags and symbols, TR24 section 3.1 [confirmed]; which, and the
        density [ours].
    Test: tests/curation/test_files.py::test_kinds_by_hand
    """
    words = overlap.spaced(overlap.normal(text)).split()
    return len(MATHS_SYMBOLS.findall(text)) / max(1, len(words))


def kind_of(name: str, text: str = "") -> str:
    """Return "code" or "web" by a file's extension, else "maths" by tag or density, else
    "text".

    A page of HTML is "web" whatever it shows: its text is still to be extracted, and its
    attributes are full of equals signs.

    Source: 14 common languages, TR24 section 3.1 [confirmed]; these 14, and by extension
        [ours].
    Test: tests/curation/test_files.py::test_kinds_by_hand
    """
    if is_code(name):
        return "code"
    if _extension(name) in WEB:
        return "web"
    is_maths = MATHS_TAG.search(text) or maths_density(text) >= MATHS_DENSITY
    return "maths" if is_maths else "text"


def inventory(folder) -> Inventory:
    """Return what a folder holds of files with a known extension, without reading them.

    A file that changes without another size or time is not noticed. Raises
    FileNotFoundError or ValueError for no folder, for one without such a file and for an
    unfinished run of curation.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(
            f"no folder at {root}; give the folder that holds your pages"
        )
    shards.check_finished(root)
    count = 0
    size = 0
    digest = hashlib.sha256()
    for name, path in _files(root):
        if _is_known(name) and path.is_file():
            about = path.stat()
            count += 1
            size += about.st_size
            digest.update(f"{name!r} {about.st_size} {about.st_mtime_ns}\n".encode())
    if not count:
        known = ", ".join(sorted({*WEB, *TEXT, *LINES})) + " or a programming language's"
        raise ValueError(
            f"{root} holds no file that can be used: give a folder with files ending in {known}"
        )
    return Inventory(count, size, digest.hexdigest())


def walk(
    folder, after: Position | None = None
) -> Iterator[tuple[Position, Raw | Unreadable]]:
    """Yield what a folder holds, in order and with its place; one file or line is in memory
    at a time.

    after: go on behind this place. A line that cannot be read ends its file.
    """
    start = [] if after is None else after.file.split("/")
    for name, path in _files(Path(folder)):
        if name.split("/") > start:
            yield from _items(name, path)
        elif name == after.file and _is_lines(name):
            for position, item in _items(name, path):
                if position > after:
                    yield position, item


def all_of(path) -> Iterator[tuple[str, Document | Unreadable]]:
    """Yield (its place, what there is) of a folder, or of one .jsonl or .jsonl.gz, to the
    letter.

    A place is a path, and ", line n" from 1. What holds a byte that cannot be decoded is
    Unreadable.
    """
    path = Path(path)
    root, found = (
        (path, walk(path)) if path.is_dir() else (path.parent, _items(path.name, path))
    )
    for (name, line), raw in found:
        place = f", line {line + 1}" if _is_lines(name) else ""
        yield f"{root / name}{place}", parse(raw, strict=True)


def parse(raw: Raw | Unreadable, strict: bool = False) -> Document | Unreadable:
    """Return the document of some bytes; what is unreadable already stays so.

    HTML and text are decoded by `html.decode`; a line is JSON, and so UTF-8: bytes that are
    none become U+FFFD. A few of these are let pass, but none if `strict`.
    """
    if isinstance(raw, Unreadable):
        return raw
    if strict and _has_lost(raw):
        return Unreadable(raw.name, ENCODING)
    if raw.is_line:
        return _parse_line(raw)
    return _checked(raw.name, html.decode(raw.data), raw.name)


def _has_lost(raw):
    """Return whether decoding loses a byte: U+FFFD that stands in the bytes themselves is
    none.
    """
    own = "\ufffd".encode()
    decoded = raw.data.decode("utf-8", "replace") if raw.is_line else html.decode(raw.data)
    return decoded.count("\ufffd") > raw.data.count(own)


def _parse_line(raw):
    line = raw.data.decode("utf-8-sig", errors="replace")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        is_other = "\0" in line or "\ufffd" in line
        return Unreadable(raw.name, ENCODING if is_other else NO_TEXT)
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        return Unreadable(raw.name, NO_TEXT)
    return _checked(raw.name, row["text"], _code_file(row))


def _code_file(row):
    """Return the file of code that a line says its text was, or "": text, even of a page in
    .html.
    """
    # Addresses do not count: .rs, .cc and .sh are countries too, and a page in .php is no
    # PHP.
    names = [row[field] for field in FILE_FIELDS if isinstance(row.get(field), str)]
    return next((name for name in names if "://" not in name and is_code(name)), "")


def _checked(name, text, called):
    if "\0" in text:
        return Unreadable(name, BINARY)
    if not overlap.WORD.search(text):
        return Unreadable(name, EMPTY)
    if text.count("\ufffd") > MOST_UNDECODABLE * len(text):
        return Unreadable(name, ENCODING)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return Unreadable(name, ENCODING)
    return Document(text, kind_of(called, text), name)


def _is_lines(name):
    return name.lower().endswith(LINES)


def _extension(name):
    return PurePosixPath(name).suffix.lower()


def _is_known(name):
    return _is_lines(name) or _extension(name) in TEXT | WEB | CODE


def _files(root, prefix=""):
    """Yield (name, path) of all that is no folder, by name; names are relative, with /."""
    try:
        entries = sorted(os.scandir(root), key=_shown)
    except OSError:
        yield prefix.rstrip("/"), Path(root)
        return
    for entry in entries:
        name = prefix + _shown(entry)
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path, f"{name}/")
        else:
            yield name, Path(entry.path)


def _shown(entry):
    """Return a file's name as UTF-8 can hold it: that of a file may be any bytes."""
    return os.fsencode(entry.name).decode("utf-8", "backslashreplace")


def _items(name, path):
    """Yield (place, item) of a file, or of each of its lines."""
    try:
        if not _is_known(name) and not path.is_dir():
            found = UNKNOWN
        elif not stat.S_ISREG(path.stat().st_mode):
            found = UNREADABLE
        elif _is_lines(name):
            for number, line in _lines(path):
                yield Position(name, number), _item(f"{name}#{number}", line, True)
            return
        else:
            found = LARGE if path.stat().st_size > LARGEST_BYTES else path.read_bytes()
    except OSError:
        found = UNREADABLE
    yield Position(name), _item(name, found, False)


def _item(name, found, is_line):
    return Unreadable(name, found) if isinstance(found, str) else Raw(name, found, is_line)


def _lines(path):
    """Yield (number, line or what is wrong with it); blank ones are passed over, too long
    ones never held whole.

    A failure ends the file. It has the number of the line that it hit: a run that goes on
    behind it must not begin the file again.
    """
    number = 0
    with gzip.open(path) if path.suffix.lower() == ".gz" else open(path, "rb") as file:
        try:
            while line := file.readline(LARGEST_BYTES + 1):
                if len(line) > LARGEST_BYTES:
                    while line and not line.endswith(b"\n"):
                        line = file.readline(LARGEST_BYTES)
                    yield number, LARGE
                elif line.strip():
                    yield number, line
                number += 1
        except (EOFError, gzip.BadGzipFile, zlib.error):
            yield number, BROKEN
        except OSError:
            yield number, UNREADABLE

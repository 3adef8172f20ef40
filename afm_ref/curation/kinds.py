"""What kind of document a file holds: "web", "text", "code" or "maths". Each kind has rules of its own."""

import re
from pathlib import PurePosixPath

from ..data import overlap

EXTENSIONS = {  # the 14 languages are our choice: TR24 says 14 common ones and names none that the copies show
    "bash": (".sh", ".bash"),
    "c": (".c", ".h"),
    "c++": (".cc", ".cpp", ".cxx", ".hpp"),
    "c#": (".cs",),
    "go": (".go",),
    "java": (".java",),
    "javascript": (".js", ".mjs"),
    "kotlin": (".kt",),
    "objective-c": (".m", ".mm"),
    "php": (".php",),
    "python": (".py",),
    "rust": (".rs",),
    "swift": (".swift",),
    "typescript": (".ts", ".tsx"),
}
CODE = {extension: language for language, extensions in EXTENSIONS.items() for extension in extensions}
WEB = {".html", ".htm", ".xhtml"}
MATHS_TAG = re.compile(r"<math[\s>]|\\begin\{(?:equation|align|gather)|class=[\"'](?:MathJax|katex)", re.IGNORECASE)
MATHS_SYMBOLS = re.compile(
    r"[=+^±\u00d7÷√∑∏∫∂∇∈∉∀∃≤≥≠≈≡∞²³]"
    r"|(?<![\u0370-\u03ff\u1f00-\u1fff])[πθλ](?![\u0370-\u03ff\u1f00-\u1fff])"  # in Greek they are letters
    r"|\\(?:frac|sum|int|sqrt|alpha|beta|mathbb|cdot|leq|geq)\b"
)
MATHS_DENSITY = 0.1  # such symbols to a word


def language(name: str) -> str | None:
    """Return the programming language of a file's extension, or None."""
    return CODE.get(PurePosixPath(name).suffix.lower())


def maths_density(text: str) -> float:
    """Return how many mathematical symbols a text has to each of its words.

    Source: maths found by tags and symbols, TR24 section 3.1 [confirmed]; which, and the density [ours].
    Test: tests/curation/test_kinds.py::test_kinds_by_hand
    """
    return len(MATHS_SYMBOLS.findall(text)) / max(1, len(overlap.spaced(overlap.normal(text)).split()))


def kind_of(name: str, text: str = "") -> str:
    """Return "code" or "web" by a file's extension, else "maths" by a tag or the density of symbols, else "text".

    A page of HTML is "web" whatever it shows: its text is still to be extracted, and its attributes are full of equals
    signs.

    Source: 14 common languages, TR24 section 3.1 [confirmed]; these 14, and by extension [ours].
    Test: tests/curation/test_kinds.py::test_kinds_by_hand
    """
    if language(name):
        return "code"
    if PurePosixPath(name).suffix.lower() in WEB:
        return "web"
    return "maths" if MATHS_TAG.search(text) or maths_density(text) >= MATHS_DENSITY else "text"

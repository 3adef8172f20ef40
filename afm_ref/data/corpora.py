"""Real text: what every Python carries with it, or a folder of your own.

The embedded corpus needs no download. It has three parts, all written by people: the
language reference in `pydoc_data.topics`, the standard library's docstrings, and its source
code without those docstrings. It differs between Python versions, so nothing exact may be
claimed about it.
"""

import ast
import hashlib
import inspect
import os
import re
import sysconfig
import warnings
from pathlib import Path
from typing import NamedTuple

from ..disk import text_files

HELD_OUT_SHARE = 0.05
# chosen for its sizes alone: the first that holds out 5 to 11% of the bytes of every part
# (Python 3.11)
SPLIT_SALT = 2
SKIPPED_FOLDERS = {
    "test",
    "tests",
    "idle_test",
    "lib2to3",
    "encodings",
    "site-packages",
    "pydoc_data",
    "_bundled",
    "__pycache__",
    "dist-packages",
    "__phello__",
}
TABLE_DIGIT_SHARE = 0.12  # a source file with more digits than this is a data table
LARGEST_SOURCE_BYTES = 300_000
SKIPPED_NAMES = ("config-", "_sysconfigdata")  # they tell how this Python was built


class Document(NamedTuple):
    """A text, the part of the corpus it belongs to, and a name for it (which decides the
    side it is held on).
    """

    text: str
    # real: "topics", "docstrings", "code", "folder", curated: "web", "text", "maths";
    # generated: the rest
    source: str
    name: str
    # the text holds turn markers that the program wrote, to be read as special tokens
    markers: bool = False


def embedded(stdlib=None, progress: bool = True) -> list[Document]:
    """Return the documents of the running Python: topics, and per module one of docstrings
    and one of code.
    """
    from tqdm.auto import tqdm

    documents = topics()
    seen = set()
    for name, path in tqdm(
        modules(stdlib), desc="reading the standard library", disable=not progress
    ):
        documents += module_documents(
            name, path.read_text(encoding="utf-8", errors="replace"), seen
        )
    if len(documents) < 100:
        raise ValueError(
            "this Python lacks the sources of its standard library; use corpora.read_folder(path)"
        )
    return documents


def topics() -> list[Document]:
    """Return the language reference's topics, each one a document."""
    from pydoc_data.topics import topics as texts

    return [
        Document(text.strip() + "\n", "topics", name)
        for name, text in sorted(texts.items())
    ]


def modules(stdlib=None) -> list[tuple[str, Path]]:
    """Return (dotted name, path) of the standard library's modules, without tests, tables
    and generated files.
    """
    root = Path(stdlib or sysconfig.get_paths()["stdlib"])
    found = []
    for folder, inner, files in os.walk(root):
        inner[:] = set(inner) - SKIPPED_FOLDERS
        for path in (Path(folder, file) for file in files if file.endswith(".py")):
            parts = path.relative_to(root).with_suffix("").parts
            if (
                not any(part.startswith(SKIPPED_NAMES) for part in parts)
                and path.stat().st_size <= LARGEST_SOURCE_BYTES
            ):
                found.append((".".join(parts), path))
    return sorted(found)


def module_documents(name: str, source: str, seen: set) -> list[Document]:
    """Return a module's docstrings as one document and the rest of its code as another.

    Each docstring is taken once: `seen` holds those of the modules before. Nothing is
    imported or executed. A file that does not parse, or that is mostly digits (a table),
    gives nothing.
    """
    if sum(map(str.isdigit, source)) > TABLE_DIGIT_SHARE * len(source):
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in other people's strings
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    # as `ast` counts lines, which knows no form feed
    texts, lines = [], re.split("\r\n?|\n", source)
    for node in _definitions(tree):
        if (raw := ast.get_docstring(node, clean=False)) is None:
            continue
        first, last = node.body[0].lineno - 1, node.body[0].end_lineno
        texts.append((first, inspect.cleandoc(raw).strip()))
        lines[first:last] = [None] * (last - first)
    new = [
        text for _, text in sorted(texts) if text and not (text in seen or seen.add(text))
    ]
    code = "\n".join(line.rstrip() for line in lines if line is not None).strip()
    parts = (("docstrings", "\n\n".join(new)), ("code", code))
    return [Document(text + "\n", part, name) for part, text in parts if len(text) >= 80]


def _definitions(tree):
    """Yield the nodes that may have a docstring. They are in bodies of statements, so no
    expression is visited.
    """
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ):
            yield node
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            nodes += getattr(node, field, ())


def read_folder(path) -> list[Document]:
    """Return the .txt and .md files under a folder as documents, in order of their names.

    Raises FileNotFoundError or ValueError, naming the file, for a missing folder, a folder
    without text, a binary file and a file that is not UTF-8.
    """
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(
            f"no folder at {root}; give the folder that holds your .txt and .md files"
        )
    files = sorted(
        p for p in root.rglob("*") if p.suffix.lower() in (".txt", ".md") and p.is_file()
    )
    documents = [
        Document(text, "folder", file.relative_to(root).as_posix())
        for file in files
        if (text := text_files.read_text(file)).strip()
    ]
    if not documents:
        raise ValueError(
            f"empty corpus: {root} holds no .txt or .md file with text in it ({len(files)} such files)"
        )
    return documents


def is_held_out(document: Document, share: float = HELD_OUT_SHARE) -> bool:
    """Return whether a document belongs to the held-out side, by a hash of its module,
    topic or file name.

    The docstrings and the code of one module are on the same side.
    """
    kind = "module" if document.source in ("docstrings", "code") else document.source
    return hash_below(share, SPLIT_SALT, kind, document.name)


def hash_below(share: float, *parts) -> bool:
    """Return whether the hash of these parts is in the lowest `share` of all hashes."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64

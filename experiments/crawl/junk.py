"""Real junk, out of the standard library: texts that people wrote for another purpose than reading.

For training a quality classifier and for testing one; `made_up_pages.junk` makes more.
"""

import ast
import importlib.util
import re
import sysconfig
import warnings
from pathlib import Path

from afm_ref.curation import html
from afm_ref.data import corpora
from afm_ref.data.corpora import Document
from afm_ref.teaching.made_up_pages import JUNK_WORDS

REAL = ("data table", "change list", "index of names", "symbol list")


def real(stdlib=None) -> list[Document]:
    """Return real junk of the running Python: documents whose source is one of REAL, each named for its file.

    Codec tables; change logs, where the installation has them; the short lines of pydoc's pages (indexes of names);
    the names that a module uses, in order. Nothing is imported but what pydoc needs for some well-known modules.
    """
    root = Path(stdlib or sysconfig.get_paths()["stdlib"])
    tables = [path for path in sorted((root / "encodings").glob("*.py")) if "charmap" in _read(path)]
    documents = [Document(_read(path), "data table", path.stem) for path in tables]
    logs = (root / "idlelib" / name for name in ("NEWS.txt", "HISTORY.txt", "NEWS2x.txt", "ChangeLog"))
    documents += [Document(_read(path), "change list", path.name) for path in logs if path.exists()]
    for name, path in corpora.modules(stdlib):
        if len(symbols := _symbols(_read(path))) >= 60:
            documents.append(Document(" ".join(symbols), "symbol list", name))
    return documents + [Document(_short_lines(page), "index of names", name) for name, page in pydoc_pages()]


def _read(path):
    return path.read_text(encoding="utf-8", errors="replace")


def _symbols(source):
    """Return the different names in a module's code, or none if it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    return sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)})


def _short_lines(page):
    return "\n".join(line for line in html.extract(page, main_content=False).splitlines() if len(line.split()) <= 3)


PYDOC_MODULES = """argparse ast base64 bisect calendar cmd codecs collections configparser csv datetime decimal difflib
dis email enum fileinput fractions ftplib functools getopt gettext glob gzip heapq hmac html http inspect io itertools
json locale logging mailbox math mimetypes numbers operator optparse os pathlib pickle pprint queue random re sched
selectors shelve shlex shutil smtplib socket sqlite3 statistics string struct subprocess tarfile tempfile textwrap
threading timeit token trace traceback types typing unittest urllib uuid warnings wave weakref zipfile"""


def pydoc_pages(modules: str = PYDOC_MODULES):
    """Yield (name, HTML) of the pages that pydoc makes of modules: real HTML that another program laid out."""
    import pydoc

    maker = pydoc.HTMLDoc()
    for name in modules.split():
        if importlib.util.find_spec(name) is None:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of deprecated members that pydoc looks at
            module = importlib.import_module(name)
            page = maker.page(name, maker.docmodule(module))
        yield name, re.sub(r'<a href="file:[^"]*">.*?</a>', "", page)  # paths of this machine


def cut(document: Document, words: int = JUNK_WORDS) -> list[Document]:
    """Return a document in pieces of about so many words, cut at line ends; a last piece of under half is left out."""
    pieces, lines, total = [], [], 0
    for line in document.text.splitlines():
        lines.append(line)
        total += len(line.split())
        if total >= words:
            pieces.append("\n".join(lines))
            lines, total = [], 0
    if total >= words / 2:
        pieces.append("\n".join(lines))
    return [document._replace(text=piece) for piece in pieces]

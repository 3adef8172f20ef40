"""Text that nobody would want to learn from, by kind: some real, out of the standard library, some model-written.

For training a quality classifier and for testing one. Kinds in REAL are texts that other people's programs or people
wrote for another purpose than reading; those in GENERATED are made here by a program from sentences that a model wrote,
and documents say so by their names. "log lines" and "terms of use" are never trained on.
"""

import ast
import importlib.util
import re
import sysconfig
import warnings
from pathlib import Path

import numpy as np

from ..data import corpora
from ..data.corpora import Document

REAL = ("data table", "change list", "index of names", "symbol list")
GENERATED = ("navigation", "cookie banner", "keyword spam", "shuffled words")
UNSEEN = ("log lines", "terms of use")
CHUNK_WORDS = 160

LINKS = """Home About Contact Products Services Blog News Careers Press Support FAQ Help Login Register Cart Wishlist
Account Settings Search Sitemap Privacy Terms Imprint Shipping Returns Stores Gift-cards Newsletter Facebook Twitter
Instagram YouTube Share Print Next Previous Older Newer Top Menu Close Categories Archive Tags Comments RSS"""
COOKIES = (
    "We use cookies to improve your experience on our site.",
    "By continuing to browse you accept our cookie policy.",
    "Accept all cookies. Reject all. Manage preferences.",
    "Some cookies are necessary for the site to work; others help us and our 314 partners to understand you.",
    "You can change your choice at any time in the settings.",
    "Strictly necessary: always active. Analytics: off. Marketing: off.",
    "Your privacy matters to us. We and our partners store and access information on your device.",
    "See our privacy notice for details of the data that is processed.",
)
GOODS = "shoes watches laptops mattresses sunglasses handbags phones insurance loans vitamins tickets hotels"
PRAISE = "cheap best buy discount online free top sale deal offer new price low shop review 2024 near-me"
TERMS = (
    "The Provider may amend these Terms at its sole discretion, and continued use constitutes acceptance thereof.",
    "To the fullest extent permitted by applicable law, all warranties, express or implied, are hereby disclaimed.",
    "In no event shall the Provider be liable for any indirect, incidental or consequential damages.",
    "The User shall indemnify and hold harmless the Provider from any claim arising out of the use of the Service.",
    "If any provision is held to be unenforceable, the remaining provisions shall remain in full force and effect.",
    "These Terms shall be governed by the laws of the place in which the Provider has its registered office.",
    "Notices under this Agreement shall be given in writing and shall be deemed received upon dispatch.",
    "The User grants the Provider a non-exclusive, worldwide and royalty-free licence to the submitted Content.",
)


def generate(kind: str, rng: np.random.Generator, good: str = "", words: int = CHUNK_WORDS) -> str:
    """Return model-written junk of a kind with about so many words; "shuffled words" are those of a good text.

    Raises ValueError for a kind that is not in GENERATED or UNSEEN.
    """
    if kind not in MAKERS:
        raise ValueError(f"no junk of kind {kind!r} is generated; the kinds are {', '.join(MAKERS)}")
    return MAKERS[kind](rng, words, good)


def _navigation(rng, words, _):
    rows = [rng.choice(LINKS.split(), size=int(rng.integers(3, 9))) for _ in range(words // 6 + 1)]
    between = str(rng.choice([" | ", " » ", "  ", "\n"]))
    return "\n".join(between.join(row) for row in rows)


def _sentences(rng, texts, words):
    picked = []
    while sum(len(text.split()) for text in picked) < words:
        picked.append(str(rng.choice(texts)))
    return "\n".join(picked)


def _keyword_spam(rng, words, _):
    goods = rng.choice(GOODS.split(), size=3, replace=False)
    return " ".join(rng.choice([*goods, *PRAISE.split()], size=words))


def _shuffled(rng, words, good):
    found = good.split()
    return " ".join(found[i] for i in rng.permutation(len(found))[:words])


def _log_lines(rng, words, _):
    lines = []
    for _ in range(words // 8 + 1):
        hour, minute, second, code, size = (int(rng.integers(n)) for n in (24, 60, 60, 5, 9000))
        level, path = rng.choice(["INFO", "WARN", "DEBUG", "ERROR"]), rng.choice(["/", "/api/v2/items", "/login"])
        status = (200, 301, 403, 404, 500)[code]
        lines.append(f"{hour:02}:{minute:02}:{second:02} {level} worker-{code} GET {path} {status} {size}b")
    return "\n".join(lines)


MAKERS = {
    "navigation": _navigation,
    "cookie banner": lambda rng, words, _: _sentences(rng, COOKIES, words),
    "keyword spam": _keyword_spam,
    "shuffled words": _shuffled,
    "log lines": _log_lines,
    "terms of use": lambda rng, words, _: _sentences(rng, TERMS, words),
}


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
    from . import html

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


def chunks(document: Document, words: int = CHUNK_WORDS) -> list[Document]:
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

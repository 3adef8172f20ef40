"""A messy crawl whose truth is known: real text in model-written pages, with everything that curation has to find.

    write("crawl", megabytes=200, seed=0)

makes crawl/pages/00000/000000.html, .txt, .py and .jsonl files, crawl/benchmarks.jsonl ({"text": ...} a line) and
crawl/truth.jsonl: one line a document, {"name": "pages/00000/000000.html", "source": "web", "planted": "clean", ...}.
A document of a .jsonl file is named for its file and line: "pages/00003/003000.jsonl#7", from 0.

Bodies are paragraphs of the standard library's prose (corpora.embedded) in new orders, everyday text and sums, both
generated, and stretches of real code. So unrelated documents have paragraphs in common: nothing planted, but so it is.

planted     what else the line of truth says
clean       nothing
exact       "original": the name of the document whose body it repeats
near        "original", "edited": the share of its words that were replaced
junk        "junk": its kind (see made_up_pages)
pii         "pii": how many of each kind of pii.KINDS were put in
benchmark   "benchmark": the line of benchmarks.jsonl that it holds, in the middle of clean text
empty       nothing: a page without a body
pydoc       nothing: a page that pydoc made, real HTML
A web page also has "style" (see made_up_pages), "encoding" and "declared".
"""

import json
from pathlib import Path

import numpy as np

from afm_ref.data.corpora import Document
from afm_ref.disk import atomic
from afm_ref.teaching import made_up_pages
from experiments.crawl import planting

FILES_PER_FOLDER = 1000
LINES_PER_JSONL = 50
RECENT = 500  # originals of copies are drawn from so many: what is held in memory does not grow
PYDOC_SHARE = 0.03  # of the bytes, as far as there are such pages
EDITS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)

ACCENTS = "Café Zoë says: \u201cna\u00efve\u201d! "  # so that the encoding makes a difference


# Shares of documents; what is left is clean, or of the web. All are ours: no crawl was measured.
PLANTED = {"near": 0.10, "exact": 0.05, "junk": 0.15, "pii": 0.04, "benchmark": 0.02, "empty": 0.02}
SOURCES = {"text": 0.20, "code": 0.08, "maths": 0.04}
MISDECLARED = 0.05  # of web pages


class Writer:
    """Files under a folder, in turn; texts of the kinds "text" and "maths" are collected into .jsonl files."""

    def __init__(self, folder: Path):
        self.folder, self.files, self.bytes, self.lines = folder, 0, 0, []

    def place(self, extension: str) -> str:
        """Return the name of a new file."""
        folder = f"pages/{self.files // FILES_PER_FOLDER:05}"
        (self.folder / folder).mkdir(parents=True, exist_ok=True)
        self.files += 1
        return f"{folder}/{self.files - 1:06}.{extension}"

    def file(self, extension: str, raw: bytes) -> str:
        """Write a file and return its name."""
        name = self.place(extension)
        (self.folder / name).write_bytes(raw)
        self.bytes += len(raw)
        return name

    def line(self, text: str) -> str:
        """Put a text into the current .jsonl file and return its name."""
        if not self.lines:
            self.open = self.place("jsonl")
        self.lines.append(json.dumps({"text": text}, ensure_ascii=False))
        name = f"{self.open}#{len(self.lines) - 1}"
        if len(self.lines) == LINES_PER_JSONL:
            self.close()
        return name

    def close(self) -> None:
        """Write the .jsonl file that is not full yet."""
        if self.lines:
            raw = ("\n".join(self.lines) + "\n").encode()
            (self.folder / self.open).write_bytes(raw)
            self.bytes, self.lines = self.bytes + len(raw), []


def write(folder, megabytes: float = 1.0, seed: int = 0, documents: list[Document] | None = None) -> Path:
    """Write a crawl of about so many megabytes (10^6 bytes) and return the path of its truth.jsonl, written last.

    documents: what bodies are made of; None reads corpora.embedded. The same arguments give the same
    bytes.
    """
    folder = Path(folder)
    rng, writer = np.random.default_rng(seed), Writer(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stock = planting.Stock.of(documents, rng)
    items = [planting.benchmark_item(rng) for _ in range(200)]
    (folder / "benchmarks.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in items))
    with atomic.replacing(folder / "truth.jsonl") as [temporary], temporary.open("w", encoding="utf-8") as truth:
        for row in _documents(rng, writer, stock, items, megabytes * 1e6):
            truth.write(json.dumps(row) + "\n")
        writer.close()
    return folder / "truth.jsonl"


def _documents(rng, writer, stock, items, size):
    """Write documents until the size is reached; yield the truth of each."""
    for _, html in stock.pydoc:
        if writer.bytes > PYDOC_SHARE * size:
            break
        yield {"name": writer.file("html", html.encode()), "source": "web", "planted": "pydoc"}
    recent = []  # (name, source, body) of clean documents
    kinds, odds = _table(PLANTED, "clean")
    sources, source_odds = _table(SOURCES, "web")
    while writer.bytes < size:
        planted, source = rng.choice(kinds, p=odds), str(rng.choice(sources, p=source_odds))
        planted = "clean" if planted in ("near", "exact") and not recent else str(planted)
        body, source, truth = _planted(rng, planted, source, stock, items, recent)
        name, about = _place(rng, writer, source, body)
        if planted == "clean":
            _keep(rng, recent, (name, source, body))
        yield {"name": name, "source": source, "planted": planted} | truth | about


def _table(shares, rest):
    """Return names and their probabilities, that of the rest last."""
    return [*shares, rest], [*shares.values(), 1 - sum(shares.values())]


def _keep(rng, recent, entry):
    """Add an entry, in the place of a random one where there are enough."""
    if len(recent) < RECENT:
        recent.append(entry)
    else:
        recent[int(rng.integers(RECENT))] = entry


def _planted(rng, planted, source, stock, items, recent):
    """Return (body, source, what the truth says of it)."""
    if planted in ("near", "exact"):
        original, source, body = recent[int(rng.integers(len(recent)))]
        share = float(rng.choice(EDITS)) if planted == "near" else 0.0
        body, edited = planting.edit(rng, body, share, stock.vocabulary)
        return body, source, {"original": original} | ({"edited": edited} if planted == "near" else {})
    if planted == "empty":
        return "", "web", {}
    if planted == "junk":
        kind = str(rng.choice([*made_up_pages.GENERATED, *made_up_pages.UNSEEN]))
        good = stock.body(rng, "web")
        return made_up_pages.junk(kind, rng, good, int(rng.integers(80, 400))), "web", {"junk": kind}
    source = "web" if planted != "clean" and source in ("code", "maths") else source
    body = stock.body(rng, source)
    if planted == "pii":
        body, counts = planting.with_personal_data(rng, body)
        return body, source, {"pii": counts}
    if planted == "benchmark":
        item = int(rng.integers(len(items)))
        return planting.inside(rng, body, items[item]), source, {"benchmark": item}
    return body, source, {}


def _place(rng, writer, source, body):
    """Write one document as its kind is kept; return (name, what the truth says of how)."""
    if source == "code":
        return writer.file("py", body.encode()), {}
    if source != "web":
        if rng.random() < 0.5:
            return writer.line(body), {}
        return writer.file("txt", body.encode()), {}
    style = str(rng.choice(made_up_pages.STYLES))
    encoding = declared = "utf-8"
    if rng.random() < MISDECLARED:
        encoding, declared = [("windows-1252", "utf-8"), ("utf-8", "iso-8859-1")][int(rng.integers(2))]
        body = ACCENTS + body if body else body
    html = made_up_pages.page(rng, planting.title(rng) if body else "", body, style, declared)
    name = writer.file("html", html.encode(encoding, errors="xmlcharrefreplace"))
    return name, {"style": style, "encoding": encoding, "declared": declared}


def read_truth(folder) -> list[dict]:
    """Return the lines of a crawl's truth."""
    with (Path(folder) / "truth.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]

"""Curation: megabytes a second of each step and of the whole, memory, and near-duplicates beside datatrove.

    python -m benchmarks.curation [--megabytes X] [--rounds N] [--peer PYTHON] [--plot [FILE]]

step_*: MB of raw crawl a CPU-second of each step alone, one process, on a generated crawl (`wild.write`).
curate_1, curate_2: the command in one and in two processes: MB a second of wall clock and a CPU-second, and the peak of
the resident memory of all its processes.

dedup_vs_datatrove: near-duplicate removal alone, of the crawl's extracted texts, one process on either side, from
JSON lines to JSON lines. Ours: `minhash`, `near_duplicates`, `shards`. Theirs: Hugging Face's datatrove, which
made FineWeb: MinhashDedupSignature, -Buckets, -Cluster, -Filter by LocalPipelineExecutor, with its own settings (14
buckets of 8 hashes of 64 bits, 5-grams) and its English tokenizer; it verifies no candidate. dedup_vs_datatrove_split
is the same with words by a regular expression in place of its tokenizer, which takes most of its time. What both
remove is compared by name, and so is what both find of the planted copies.

datatrove is optional. It wants packages that this project does not, so it lives in an environment of its own:

    python -m venv peer && peer/bin/pip install datatrove==0.10.1 spacy regex "xxhash<4" ftfy
    python -m benchmarks.curation --peer peer/bin/python
"""

import gzip
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import _common

PEER = r"""
import re, shutil, sys, time
from pathlib import Path
from loguru import logger
logger.remove()
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.word_tokenizers import WordTokenizer

class Split(WordTokenizer):
    def word_tokenize(self, text):
        return re.findall(r"\w+", text)
    def sent_tokenize(self, text):
        return [text]
    def span_tokenize(self, text):
        return []

source, out, words = sys.argv[1:4]
language, config = ("en" if words == "own" else Split()), MinhashConfig()
if words == "own":
    from datatrove.utils.typeshelper import Languages
    language = Languages.english

def run(*steps, tasks=1):
    LocalPipelineExecutor(list(steps), tasks=tasks, workers=1, skip_completed=False, logging_dir=out + "/logs").run()

print("ready", flush=True)
for line in sys.stdin:
    shutil.rmtree(out, ignore_errors=True)
    run(JsonlReader(source), MinhashDedupSignature(out + "/signatures", config, language=language))
    run(MinhashDedupBuckets(out + "/signatures", out + "/buckets", config=config), tasks=config.num_buckets)
    run(MinhashDedupCluster(out + "/buckets", out + "/remove", config=config))
    run(JsonlReader(source), MinhashDedupFilter(out + "/remove", exclusion_writer=None), JsonlWriter(out + "/kept"))
    print("done", flush=True)
"""


def crawl(folder: Path, megabytes: float):
    """Write a crawl and, as JSON lines, its texts as they come to the near-duplicates; return (documents, truth)."""
    from afm_ref.curation import pages
    from afm_ref.curation.recipe import Recipe, through
    from experiments.crawl import wild

    wild.write(folder / "crawl", megabytes, seed=1)
    steps = Recipe().before()
    parsed = (pages.parse(raw) for _, raw in pages.walk(folder / "crawl" / "pages"))
    done = (through(steps, one)[1] for one in parsed if not isinstance(one, pages.Unreadable))
    documents = [document for document in done if document is not None]
    (folder / "texts").mkdir()
    with gzip.open(folder / "texts" / "all.jsonl.gz", "wt", compresslevel=6) as file:
        for document in documents:
            file.write(json.dumps({"id": document.name, "text": document.text}) + "\n")
    return documents, wild.read_truth(folder / "crawl")


def steps_alone(folder: Path) -> None:
    """Print MB of raw crawl a CPU-second of each step."""
    import numpy as np

    from afm_ref.curation import Dropped, minhash, near_duplicates, pages
    from afm_ref.curation.recipe import Recipe

    s = Recipe(benchmarks=folder / "crawl" / "benchmarks.jsonl")
    runs, raw = s.benchmark_runs(), [raw for _, raw in pages.walk(folder / "crawl" / "pages")]
    size = sum(len(one.data) for one in raw) / 1e6

    def timed(name, call, items):
        call(items[0])  # what it loads
        start = time.process_time()
        result = [call(item) for item in items]
        rate = size / max(1e-9, time.process_time() - start)
        print(json.dumps({"name": f"step_{name}", "ours": float(f"{rate:.3g}"), "unit": "MB/CPU-s"}), flush=True)
        return [one for one in result if not isinstance(one, Dropped)]

    documents = timed("reading", pages.parse, raw)
    for name, step in s.before().items():
        documents = timed(name.replace(" ", "_"), step, documents)
    hashes = timed("shingles", minhash.shingles, [d.text for d in documents])
    signed = timed("signatures", minhash.signature, [h for h in hashes if len(h)])
    kept = timed("bands", lambda table: near_duplicates.entries(table, s.bands, s.rows), [np.array(signed)])
    timed("originals", lambda batch: near_duplicates.originals([batch], s.least_agreeing), kept)
    for name, step in s.after().items():
        documents = timed(name, step, documents)
    timed("decontamination", lambda d: runs.collisions(d.text), documents)


def whole(folder: Path) -> None:
    """Print what the command takes in one and in two processes."""
    from tools.memory import measured

    size = sum(path.stat().st_size for path in (folder / "crawl" / "pages").rglob("*") if path.is_file()) / 1e6
    for processes in (1, 2):
        out = folder / f"out{processes}"
        command = [sys.executable, "-m", "afm_ref", "curate", folder / "crawl" / "pages", "--out", out, "--benchmarks",
                   folder / "crawl" / "benchmarks.jsonl", "--processes", processes]  # fmt: skip
        usage = measured(list(map(str, command)))
        if usage.returncode:
            raise RuntimeError(usage.output[-2000:])
        line = {"name": f"curate_{processes}", "ours": float(f"{size / usage.wall_s:.3g}"), "unit": "MB/s",
                "mb_a_cpu_s": float(f"{size / usage.cpu_s:.3g}"), "peak_mb": round(usage.peak_bytes / 1e6)}  # fmt: skip
        print(json.dumps(line), flush=True)


def ours(folder: Path) -> set[str]:
    """Remove near-duplicates from the texts and write the rest; return the names that stay."""
    import numpy as np

    from afm_ref.curation import minhash, near_duplicates, shards
    from afm_ref.curation.recipe import Recipe
    from afm_ref.data.corpora import Document

    def documents():
        with gzip.open(folder / "texts" / "all.jsonl.gz", "rt") as lines:
            for row in map(json.loads, lines):
                yield Document(row["text"], "text", row["id"])

    s = Recipe()
    signed = np.array([minhash.signature(minhash.shingles(d.text)) for d in documents()])
    found = near_duplicates.originals([near_duplicates.entries(signed, s.bands, s.rows)], s.least_agreeing)
    stay = [d for d, original in zip(documents(), found, strict=True) if original is None]
    shards.write(folder / "ours.jsonl.gz", stay)
    return {d.name for d in stay}


class Peer:
    """datatrove in a process of its own: each call runs it once."""

    def __init__(self, python: str, folder: Path, words: str):
        self.out = folder / f"theirs_{words}"
        self.log = folder / f"theirs_{words}.log"  # it says much
        command = map(str, [python, "-c", PEER, folder / "texts", self.out, words])
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.log.open("w"), "text": True}
        self.process = subprocess.Popen(list(command), **pipes)
        self._expect("ready")

    def __call__(self):
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        self._expect("done")

    def _expect(self, word):
        if self.process.stdout.readline().strip() != word:
            raise RuntimeError(f"datatrove's process ended: {self.log.read_text()[-2000:]}")

    def kept(self) -> set[str]:
        """Return the names that stay."""
        files = (self.out / "kept").glob("*.jsonl.gz")
        return {json.loads(line)["id"] for file in files for line in gzip.open(file, "rt")}

    def close(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def beside(folder: Path, documents, truth, python: str, rounds: int) -> list[dict]:
    """Compare near-duplicate removal with datatrove's, and what both remove."""
    size, names = sum(len(d.text.encode()) for d in documents) / 1e6, {d.name for d in documents}
    copies = {row["name"].removeprefix("pages/") for row in truth if row["planted"] in ("near", "exact")} & names
    lines = []
    for name, words in (("dedup_vs_datatrove", "own"), ("dedup_vs_datatrove_split", "split")):
        peer = Peer(python, folder, words)
        lines.append(_common.compare(name, lambda: ours(folder), peer, "MB/s", size, rounds=rounds, warmup=1))
        mine, theirs = names - ours(folder), names - peer.kept()
        about = {"name": f"{name}_removed", "ours": len(mine), "theirs": len(theirs), "both": len(mine & theirs)}
        about |= {"planted": len(copies), "planted_ours": len(copies & mine), "planted_theirs": len(copies & theirs)}
        print(json.dumps(about), flush=True)
        peer.close()
    return lines


def main():
    """Run what the command line asks for."""
    _common.prepare()

    def add(parser):
        parser.add_argument("--megabytes", type=float, default=10, help="of the crawl (default: %(default)s)")
        parser.add_argument("--peer", metavar="PYTHON", help="the Python that has datatrove (default: left out)")

    a = _common.arguments(__doc__, rounds=5, add=add)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        documents, truth = crawl(folder, a.megabytes)
        steps_alone(folder)
        whole(folder)
        lines = [] if a.peer is None else beside(folder, documents, truth, a.peer, a.rounds)
    if lines:
        _common.plot(lines, a.plot, "curation.png")


if __name__ == "__main__":
    main()

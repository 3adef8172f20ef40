"""curate(): a folder of pages becomes shards of training text, and goes on where it was
stopped.

    extraction -> safety -> personal data -> near-duplicates -> heuristics -> quality -> decontamination

Every step but two looks at one document by itself, so the order of the work does not matter
to the result, only that of the decisions. First each chunk of the source goes through all
of these steps and is staged: one file of what became of its documents, one of their
signatures. Then all is known that needs all documents: which repeat others, and which runs
of a benchmark's words are common usage. Last the staged chunks are gone through once more
and what stays is written. A run that was killed begins behind the chunks that are staged,
and does the rest anew.

No text is held longer than its chunk. What is held of all documents is said in
`near_duplicates.originals`, and a count of each run of a benchmark's words that a document
has.
"""

import json
import multiprocessing
import os
import re
import shutil
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..data.corpora import Document
from ..disk import atomic, targets
from . import minhash, near_duplicates, pages, shards
from .decontamination import COPIED, Decontamination
from .recipe import DECONTAMINATION, NEAR_DUPLICATES, Recipe, through
from .report import Report
from .shards import REPORT, STAGED

OURS = re.compile(  # and what the command adds
    rf"{STAGED}|report\.(?:json|md)|(?:part|dropped)-\d{{5,}}\.jsonl\.gz"
    r"|(?:funnel|drops|s_curve|lengths)\.png"
)
DUPLICATE = "near-duplicate"
IDENTITY = "run.json"  # in the staged folder: what the run was asked for
MOST_ITEMS = 10_000  # of a chunk, however small
AHEAD = 2  # chunks that are waiting or worked on, for each process
DEFAULTS = Recipe()


def curate(
    source, out, recipe: Recipe = DEFAULTS, processes: int = 1, progress: bool = True
) -> Report:
    """Curate a folder into shards and return the report; call it again to go on after an
    interruption.

    out has part-*.jsonl.gz (see `shards.read`), report.json, and dropped-*.jsonl.gz: a line
    for each document that was dropped, with its step and reason, and of a near-duplicate
    with the name of its original. All have the same bytes whatever the number of processes,
    and however often it was stopped.

    Raises FileNotFoundError or ValueError for a source that does not exist or holds nothing
    to use, an out that is in the source, holds it or holds other files, a run in it of
    another source or recipe, and benchmarks without a text of enough words.

    Source: order of the steps, TR24 section 3.1 [confirmed]; where personal data is masked
        [ours].
    Test: tests/curation/test_run.py::test_numbers_of_a_small_run_by_hand,
        tests/curation/test_run.py::test_killed_anywhere_it_goes_on_to_the_same_bytes
    """
    source, out = Path(source), Path(out)
    if processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
    inventory = pages.inventory(source)
    _check_folders(source, out)
    identity = {"settings": recipe.digest(), "source": inventory.digest}
    done = out / REPORT
    if not done.exists():
        recipe.benchmark_runs()  # what is wrong with them is said before anything is made
    with targets.only_writer(out):
        if done.exists():
            report = Report.load(done)
            found = {
                "settings": report.source.get("settings_digest"),
                "source": report.source.get("digest"),
            }
            told = "a finished run with other {}: give another --out, or remove the folder"
            _check_identity(out, identity, found, told)
        else:
            staged = Staged(out / STAGED, identity)
            _stage(staged, source, recipe, processes, inventory.size_bytes, progress)
            about = inventory._asdict() | {"settings_digest": identity["settings"]}
            report = _settle(staged, out, recipe, Report(recipe.as_json(), about), progress)
            report.save(done)
        # a finished run may have been killed here
        shutil.rmtree(out / STAGED, ignore_errors=True)
        return report


def _check_folders(source, out):
    inside, here = out.resolve(), source.resolve()
    if inside.is_relative_to(here) or here.is_relative_to(inside):
        raise ValueError(
            f"--out {out} and the source {source} must lie apart: one is in the other"
        )
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"--out {out} is a file: give a folder")
    # the lock may be a killed run's
    there = [path for path in sorted(out.iterdir()) if path.name != targets.LOCK]
    for path in there:
        if not OURS.fullmatch(atomic.intended(path.name)):
            raise ValueError(
                f"--out {out} holds {path.name}, which is none of ours: give an empty or a new folder"
            )
    if there and not any((out / name).exists() for name in (REPORT, STAGED)):
        raise ValueError(
            f"--out {out} holds shards without a run that they belong to: give an empty or a new folder"
        )


def _check_identity(out, asked, found, told):
    for name in asked:
        if found.get(name) != asked[name]:
            raise ValueError(f"{out} holds {told.format(name)}")


class Staged:
    """The chunks that are done, each a file of rows and one of signatures; iterating yields
    the latter.

    Raises ValueError if the folder is of a run that was asked for something else.
    """

    def __init__(self, folder: Path, identity: dict[str, str]):
        self.folder = folder
        if (folder / IDENTITY).exists():
            found = json.loads((folder / IDENTITY).read_text(encoding="utf-8"))
            told = "an unfinished run with other {}: give the same again to finish it, or another --out, or remove it"
            _check_identity(folder.parent, identity, found, told)
        else:
            atomic.write(folder / IDENTITY, json.dumps(identity))
        for each in (folder.parent, folder):  # what a killed run was writing
            atomic.sweep(each)

    def __len__(self):
        return len(shards.numbers(self.folder))

    def __iter__(self):
        return (np.load(self.folder / f"{number:05}.npy") for number in range(len(self)))

    def write(
        self, number: int, header: dict, rows: list[dict], signatures: np.ndarray
    ) -> None:
        """Write one chunk. It is done when its rows are there, which come last."""
        with (
            atomic.replacing(self.folder / f"{number:05}.npy") as [temporary],
            temporary.open("wb") as file,
        ):
            np.save(file, signatures)
        shards.write_lines(shards.path_of(self.folder, number), [header, *rows], level=1)

    def reached(self) -> tuple[pages.Position | None, int]:
        """Return behind which place to go on, and how many bytes were read up to there."""
        if not len(self):
            return None, 0
        _, header = next(shards.read_gzip_lines(shards.path_of(self.folder, len(self) - 1)))
        return pages.Position(*header["position"]), header["read"]

    def decided(self, originals: list[int | None]) -> Iterator[list[dict]]:
        """Yield each chunk's rows, those of near-duplicates with the name of the
        "original".
        """
        names = {}
        wanted = set(originals)
        number = 0
        for chunk in range(len(self)):
            lines = shards.read_gzip_lines(shards.path_of(self.folder, chunk))
            _, *rows = (row for _, row in lines)
            for row in rows:
                if row.get("is_signed"):
                    if number in wanted:
                        names[number] = row["name"]
                    row["original"] = names.get(originals[number])
                    number += 1
            yield rows


def _stage(staged, source, recipe, processes, size_bytes, progress):
    """Take what is left of the source through all steps that look at one document by
    itself.
    """
    from tqdm.auto import tqdm

    after, read = staged.reached()
    chunks = chunked(pages.walk(source, after), recipe.chunk_bytes)
    work = partial(_worked, recipe, recipe.digest())
    with tqdm(
        total=size_bytes,
        initial=read,
        desc="curating",
        unit="B",
        unit_scale=True,
        disable=not progress,
    ) as bar:
        for number, done in enumerate(_in_turn(work, chunks, processes), start=len(staged)):
            position, size, rows, signatures = done
            read += size
            staged.write(number, {"position": position, "read": read}, rows, signatures)
            bar.update(size)


class Chunk(NamedTuple):
    """Documents that are worked on together, and the place of the last one."""

    position: pages.Position
    items: list[pages.Raw | pages.Unreadable]
    size_bytes: int


def chunked(stream: Iterable, chunk_bytes: int) -> Iterator[Chunk]:
    """Yield a stream of (position, item) in chunks that end with the item that reaches
    chunk_bytes.
    """
    items, size = [], 0
    for position, item in stream:
        items.append(item)
        size += len(item.data) if isinstance(item, pages.Raw) else 0
        if size >= chunk_bytes or len(items) >= MOST_ITEMS:
            yield Chunk(position, items, size)
            items, size = [], 0
    if items:
        yield Chunk(position, items, size)


def _in_turn(work, items, processes):
    """Yield work(item) in the order of the items, of this process or of others that import
    no JAX.
    """
    if processes == 1:
        yield from map(work, items)
        return
    waiting = deque()
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(processes, context, _end_with_parent) as pool:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= AHEAD * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise OSError(
            f"a process died, perhaps for want of memory ({error}); the same call goes on"
        ) from None


def _end_with_parent():
    """Have this process end when its parent does, even if that is killed; Ctrl-C is the
    parent's.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


@lru_cache(maxsize=1)
def _benchmarks(recipe, digest):
    return recipe.benchmark_runs()  # of the texts that the digest is of: a file may change


def _worked(recipe, digest, chunk):
    """Return (position, bytes, rows, signatures) of a chunk after all steps on single
    documents.

    A row has the "name", and the reason why it is "unreadable" or: how it went "before" and
    "after" the near-duplicates, the "source" and "text" that are left, what was "masked",
    the benchmarks' "hits", and whether it "is_signed", that is, has the next of the chunk's
    signatures.
    """
    rows = []
    signed = []
    benchmarks = _benchmarks(recipe, digest)
    before, after = recipe.before(), recipe.after()
    for one in map(pages.parse, chunk.items):
        rows.append(row := {"name": one.name})
        if isinstance(one, pages.Unreadable):
            row["unreadable"] = one.reason
            continue
        row["before"], document, row["masked"] = through(before, one)
        if document is None:
            continue
        hashes = recipe.shingles(document.text)
        row["is_signed"] = len(hashes) > 0
        if row["is_signed"]:
            signed.append(minhash.signature(hashes, recipe.permutations))
        row["after"], document, _ = through(after, document)
        if document is not None:
            hits = benchmarks.collisions(document.text).tolist() if benchmarks else []
            row |= {"source": document.source, "text": document.text, "hits": hits}
    table = np.array(signed, np.uint32).reshape(len(signed), recipe.permutations)
    kept = near_duplicates.entries(table, recipe.bands, recipe.rows)
    return chunk.position, chunk.size_bytes, rows, kept


def _settle(staged, out, recipe, report, progress):
    """Decide on all documents, write those that stay and a line on each that does not, and
    count.
    """
    from tqdm.auto import tqdm

    originals = near_duplicates.originals(staged, recipe.least_agreeing, recipe.index_bytes)
    report.index = {
        "documents": originals.count(None),
        "bytes_a_document": 8 * recipe.bands,
    }
    last_step = None
    if recipe.benchmarks is not None:
        counts = Counter(
            hit
            for chunk in staged.decided(originals)
            for row in chunk
            if "text" in row and not row.get("original")
            for hit in row["hits"]
        )
        last_step = Decontamination(recipe.benchmark_runs(), counts, recipe.common_usage)
    chunks = tqdm(staged.decided(originals), "deciding", len(staged), disable=not progress)
    for number, rows in enumerate(chunks):
        lines = [_counted(report, row, last_step) for row in rows]
        if dropped := [line for line in lines if line]:
            shards.write_lines(shards.path_of(out, number, "dropped"), dropped)
        if kept := [row for row, line in zip(rows, lines) if not line]:
            documents = (Document(row["text"], row["source"], row["name"]) for row in kept)
            shards.write(shards.path_of(out, report.shards), documents)
            report.shards += 1
    return report


def _counted(report, row, last_step):
    """Count what became of a row's document; return the line on it if it was dropped, else
    None.
    """
    if "unreadable" in row:
        report.could_not_read(row["name"], row["unreadable"])
        return {"name": row["name"], "step": "reading", "reason": row["unreadable"]}
    passed = _passed(row, last_step)
    report.measure("read", passed[0][1])
    for kind, count in row["masked"].items():
        report.personal_data[kind] = report.personal_data.get(kind, 0) + count
    for step in passed:
        report.passes(*step)
    step, _, last = passed[-1]
    if not isinstance(last, str):
        report.leave(row["source"], last)
        return None
    original = {"original": row["original"]} if last == DUPLICATE else {}
    return {"name": row["name"], "step": step, "reason": last} | original


def _passed(row, last_step):
    """Return (step, bytes in, bytes out or the reason of dropping it) of all steps of a
    document.
    """
    passed = row["before"]
    size = row["before"][-1][2]
    if row.get("original"):
        return [*passed, (NEAR_DUPLICATES, size, DUPLICATE)]
    if "after" in row:
        passed = [*passed, (NEAR_DUPLICATES, size, size), *row["after"]]
    if last_step and "text" in row:
        size = passed[-1][2]
        fate = COPIED if last_step.is_copied(row["hits"]) else size
        passed = [*passed, (DECONTAMINATION, size, fate)]
    return passed

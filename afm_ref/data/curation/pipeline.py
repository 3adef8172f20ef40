"""curate(): a folder of pages becomes shards of training text, in one stream, and goes on where it was stopped.

    extraction -> safety -> personal data -> near-duplicates -> heuristics -> quality          first pass
    -> decontamination                                                                         second pass

No text is held longer than its chunk. What grows with the corpus is the index of near-duplicates, which goes to disk
beyond a bound, and the table of counts, which has at most a row for each run of words of the benchmarks.
"""

import shutil
from pathlib import Path

from ... import atomic, targets
from . import pool, shards, sources
from .index import ENTRY_BYTES, Index
from .report import Report
from .settings import DECONTAMINATION, NEAR_DUPLICATES, Settings
from .shards import REPORT, STAGED, STATE
from .state import State
from .work import Batch, size_bytes

OURS = ("report.md", "funnel.png", "drops.png", "s_curve.png", "lengths.png")  # what the command adds
DUPLICATE = "near-duplicate"
DEFAULTS = Settings()


def curate(source, out, settings: Settings = DEFAULTS, processes: int = 1, progress: bool = True) -> Report:
    """Curate a folder into shards and return the report; call it again to go on after an interruption.

    out has part-*.jsonl.gz (see `shards.read`), report.json, and dropped-*.jsonl.gz: a line for each document that was
    dropped, with its step and reason, and of a near-duplicate with the name of its original. All of them have the same
    bytes whatever the number of processes and however often the run was stopped or killed.

    Raises FileNotFoundError or ValueError for a source that does not exist or holds nothing to use, an out that is in
    the source, holds it or holds other files, and for an unfinished or finished run in it of another source, or of
    other settings; ValueError for benchmarks without a text of enough words; OSError for a disk that is full, after
    which the same call goes on. A file changed without another size or time is not noticed.

    Source: order of the steps, TR24 section 3.1 [confirmed]; where personal data is masked [ours].
    Test: tests/data/curation/test_pipeline.py::test_numbers_of_a_small_run_by_hand,
        tests/data/curation/test_pipeline.py::test_one_and_two_processes_give_the_same_bytes,
        tests/data/curation/test_pipeline.py::test_killed_anywhere_it_goes_on_to_the_same_bytes,
        tests/data/curation/test_pipeline.py::test_benchmarks_that_are_too_short_are_refused_before_anything_is_made
    """
    source, out = Path(source), Path(out)
    if processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
    inventory = sources.inventory(source)
    _check_folders(source, out)
    identity = {"settings": settings.digest(), "source": inventory.digest}
    if not (out / REPORT).exists():
        settings.benchmark_runs()  # what is wrong with them is said here, and not by a worker that dies of it
    with targets.only_writer(out):
        if (out / REPORT).exists():
            return _finished(out, identity)
        (out / STAGED).mkdir(exist_ok=True)
        with State(out / STATE, identity) as state:
            _sweep(out)
            fresh = Report(settings.as_json(), inventory._asdict() | {"settings_digest": identity["settings"]})
            with pool.workers(settings, processes) as work:
                run = Run(source, out, settings, state, state.report(fresh), work)
                run.first_pass(inventory.size_bytes, progress)
                run.second_pass(progress)
        run.report.save(out / REPORT)
        _clean(out)
        return run.report


def _check_folders(source, out):
    inside, here = out.resolve(), source.resolve()
    if inside == here or here in inside.parents or inside in here.parents:
        raise ValueError(f"--out {out} and the source {source} must lie apart: one is in the other")
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"--out {out} is a file: give a folder")
    there = [path for path in sorted(out.iterdir()) if path.name != targets.LOCK]  # a killed run's
    for path in there:
        name = atomic.intended(path.name)
        mine = name in (STAGED, REPORT, *OURS) or name.startswith(STATE)
        if not (mine or shards.SHARD.fullmatch(name) or shards.DROPPED.fullmatch(name)):
            raise ValueError(f"--out {out} holds {path.name}, which is none of ours: give an empty or a new folder")
    if there and not any((out / name).exists() for name in (STATE, REPORT, STAGED)):
        raise ValueError(f"--out {out} holds shards without a run that they belong to: give an empty or a new folder")


def _sweep(out):
    """Remove what an earlier run was killed while writing; not before the state is ours, or it may still be writing."""
    for folder in (out, out / STAGED):
        atomic.sweep(folder)


def _finished(out, identity):
    report = Report.load(out / REPORT)
    found = {"settings": report.source.get("settings_digest"), "source": report.source.get("digest")}
    for name, value in identity.items():
        if found[name] != value:
            raise ValueError(f"{out} holds a finished run with other {name}: give another --out, or remove the folder")
    _clean(out)  # it may have been killed while cleaning
    return report


def _clean(out):
    shutil.rmtree(out / STAGED, ignore_errors=True)
    for path in out.glob(f"{STATE}*"):
        path.unlink()


class Run:
    """One run of curate: its folders, its state, and the report as it grows."""

    def __init__(self, source, out, settings, state, report, work):
        self.source, self.out, self.settings = source, out, settings
        self.state, self.report, self.work = state, report, work

    def first_pass(self, total_bytes: int, progress: bool) -> None:
        """Do what is left of the first pass: all steps but decontamination, into staged shards."""
        from tqdm.auto import tqdm

        if self.state.get("first_pass_is_done"):
            return
        s = self.settings
        index = Index(self.state.database, s.bands, s.least_agreeing, s.index_bytes)
        first, position = self.state.position()
        chunks = pool.chunks(sources.stream(self.source, position), s.chunk_bytes)
        with tqdm(total=total_bytes, desc="curating", unit="B", unit_scale=True, disable=not progress) as bar:
            bar.update(min(total_bytes, self.state.get("read", 0)))
            for number, (chunk, batch) in enumerate(self.work.batches(chunks), start=first):
                self.state.set("read", self.state.get("read", 0) + chunk.size_bytes)
                self._consume(number, chunk.position, batch, index)
                bar.update(chunk.size_bytes)
                bar.set_postfix_str(f"{index.documents:,} kept by near-duplicates")
        self.report.index = {
            "documents": index.documents,
            "bytes_a_document": ENTRY_BYTES * s.bands,
            "on_disk": index.spilled,
        }
        self.state.commit(self.report, first_pass_is_done=True)

    def _consume(self, number, position, batch: Batch, index: Index) -> None:
        """Decide which documents of a chunk are near-duplicates, count everything, and commit it."""
        rows = [outcome.name for outcome in batch.outcomes if outcome.row is not None]
        originals = index.add(rows, batch.keys, batch.sketches)
        kept, dropped, hits = [], [], []
        for one in batch.unreadable:
            self.report.could_not_read(*one)
            dropped.append(_line(one.name, "reading", one.reason))
        for outcome in batch.outcomes:
            original = None if outcome.row is None else originals[outcome.row]
            self._count(outcome, original, dropped)
            if outcome.document is not None and original is None:
                kept.append(outcome.document)
                hits += outcome.hits
        staged = self.out / STAGED
        if dropped:
            shards.write_lines(shards.dropped_path(staged, number), dropped)
        if kept:
            shards.write(shards.path_of(staged, number), kept)
        self.state.commit_chunk(number, position, len(kept), hits, self.report)

    def _count(self, outcome, original, dropped):
        self.report.measure("read", outcome.before[0].bytes_in)
        for kind, n in outcome.personal.items():
            self.report.personal_data[kind] = self.report.personal_data.get(kind, 0) + n
        passed = list(outcome.before)
        size = passed[-1].out
        if not isinstance(size, str):
            passed.append((NEAR_DUPLICATES, size, size if original is None else DUPLICATE))
            passed += outcome.after if original is None else []
        for step in passed:
            self.report.passes(*step)
        step, _, out = passed[-1]
        if isinstance(out, str):
            dropped.append(_line(outcome.name, step, out, original))

    def second_pass(self, progress: bool) -> None:
        """Do what is left of the second pass: decontamination of the staged shards, into the shards that stay."""
        from tqdm.auto import tqdm

        done, self.report.shards = self.state.get("decontaminated", [-1, 0])
        chunks = [number for number in range(self.state.position()[0]) if number > done]
        staged = self.state.staged()
        paths = [shards.path_of(self.out / STAGED, number) if number in staged else None for number in chunks]
        if self.settings.benchmarks is None:
            decisions = ([None] * staged.get(number, 0) for number in chunks)
        else:
            decisions = self.work.decisions(paths, self.state.hits(), self.settings.common_usage)
        for number, path, reasons in zip(chunks, tqdm(paths, "decontaminating", disable=not progress), decisions):
            self._settle(number, path, reasons)
            self.state.commit(self.report, decontaminated=[number, self.report.shards])

    def _settle(self, number, path, reasons):
        """Write what stays of a staged shard, and the lines on all that was dropped of its chunk."""
        early = shards.dropped_path(self.out / STAGED, number)
        dropped = [row for _, row in shards.read_lines(early)] if early.exists() else []
        kept = []
        for document, reason in zip(() if path is None else shards.read_shard(path), reasons, strict=True):
            size = size_bytes(document)
            if self.settings.benchmarks is not None:
                self.report.passes(DECONTAMINATION, size, size if reason is None else reason)
            if reason is None:
                kept.append(document)
                self.report.leave(document.source, size)
            else:
                dropped.append(_line(document.name, DECONTAMINATION, reason))
        if dropped:
            shards.write_lines(shards.dropped_path(self.out, number), dropped)
        if kept:
            target = shards.path_of(self.out, self.report.shards)
            if any(reasons):
                shards.write(target, kept)
            else:
                shards.copy(path, target)
            self.report.shards += 1


def _line(name, step, reason, original=None):
    return {"name": name, "step": step, "reason": reason} | ({} if original is None else {"original": original})

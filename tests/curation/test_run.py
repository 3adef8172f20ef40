"""A run through all steps: by hand, interrupted anywhere, in two processes; and what it refuses."""

import contextlib
import gzip
import itertools
import json
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from afm_ref.curation import Dropped, pages, pii, recipe, report, run, shards
from afm_ref.curation.recipe import Recipe
from afm_ref.curation.run import curate
from afm_ref.data.corpora import Document
from afm_ref.disk import atomic, targets

NAMES = ["river", "stone", "bridge", "market", "winter", "garden", "letter", "window", "island", "captain", "harbour"]
BENCHMARK = "seven purple elephants calculate the orbital period of a distant copper moon"
STAGES = (
    (atomic, "write"), (run.Staged, "write"), (np, "save"), (shards, "write_lines"), (shards, "write"),
    (report.Report, "save"), (run.shutil, "rmtree"),
)  # fmt: skip
QUESTION = "Wie führte die Straße über größere Hügel, vorbei an Häusern und Gärten bis zum Fluß? " * 2


def prose(seed):
    """Return sentences that no rule objects to and no two seeds share."""
    said = []
    for i in range(14):
        a, b, c = random.Random(seed + 100 * i).choices(NAMES, k=3)
        said.append(f"The {a} of the {b}{seed} was in {c}{i} and they have the {a}{seed + i}.")
    return "\n\n".join(said) + "\n"


@pytest.fixture
def crawl(tmp_path):
    """Write nine documents of a known fate, and two files that cannot be used."""
    page = "<body><main><article>" + "".join(f"<p>{p}</p>" for p in prose(1).split("\n\n"))
    files = {
        "a.html": page,
        "b.html": page,
        "c.txt": prose(2) + "Write to ada@example.org or call.\n",
        "d.txt": "too short to be of use",
        "e.txt": prose(3) + BENCHMARK + ".\n",
        "f.html": "<html><body></body></html>",
        "g.jsonl": json.dumps({"text": prose(4)}) + "\n" + json.dumps({"text": prose(2) + "Write or call.\n"}) + "\n",
        "h.py": "def add(a, b):\n    return a + b\n\n\nprint(add(1, 2), add(3, 4))\n",
        "x.txt": "\0\0\1",
        "y.png": "x",
        "../benchmarks.txt": f"\n{BENCHMARK}\n",
    }
    (tmp_path / "in").mkdir()
    for name, text in files.items():
        (tmp_path / "in" / name).write_text(text)
    return tmp_path / "in"


def go(crawl, out, processes=1, **changes):
    asked = Recipe(benchmarks=crawl.parent / "benchmarks.txt", quality=0, chunk_bytes=1500)
    return curate(crawl, out, replace(asked, **changes), processes, progress=False)


def stop(crawl, out, where, name, at=0):
    """Run until the function of this name is called for the time after so many."""
    real, calls = getattr(where, name), iter(range(99))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, name, lambda *args, **more: real(*args, **more) if next(calls) < at else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            go(crawl, out)


def contents(out):
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def test_numbers_of_a_small_run_by_hand(crawl, tmp_path):
    out = tmp_path / "out"
    found = go(crawl, out)
    rows = (row for path in out.glob("dropped-*") for _, row in shards.read_gzip_lines(path))
    dropped = {row["name"]: tuple(row.values())[1:] for row in rows}
    assert dropped == {
        "b.html": ("near-duplicates", "near-duplicate", "a.html"), "d.txt": ("heuristics", "too short"),
        "e.txt": ("decontamination", "benchmark text"), "f.html": ("extraction", "empty body"),
        "g.jsonl#1": ("near-duplicates", "near-duplicate", "c.txt"), "x.txt": ("reading", "binary"),
        "y.png": ("reading", "unknown extension"),
    }  # fmt: skip
    left = list(shards.read(out))
    kept = {"a.html": "web", "c.txt": "text", "g.jsonl#0": "text", "h.py": "code"}
    assert [(d.name, d.source) for d in left] == list(kept.items())
    assert "[EMAIL]" in left[1].text and "ada@" not in left[1].text and found.personal_data == {"email": 1}
    assert left[0].text.split() == prose(1).split()
    flows = {name: (flow.documents_in, flow.documents_out) for name, flow in found.steps.items()}
    assert list(flows.items()) == [
        ("extraction", (9, 8)), ("safety", (8, 8)), ("personal data", (8, 8)), ("near-duplicates", (8, 6)),
        ("heuristics", (6, 5)), ("decontamination", (5, 4)),
    ]  # fmt: skip
    assert found.steps["decontamination"].bytes_out == sum(len(d.text.encode()) for d in left)
    for before, after in itertools.pairwise(found.steps.values()):
        assert before.bytes_out == after.bytes_in
    assert found.index == {"documents": 6, "bytes_a_document": 128}
    assert found.kinds["text"][0] == 2 and sum(found.lengths["left"].values()) == 4
    assert report.Report.load(out / "report.json") == found == go(crawl, out)
    assert "near-duplicate" in found.table() and "1 email" in found.table()
    assert {n for n in contents(out) if not n.startswith(("part-", "dropped-"))} == {"report.json"}


def test_steps_in_turn_by_hand():
    shorten = {"shorten": lambda d: d._replace(text=d.text[:2])}
    refuse = {"refuse": lambda d: Dropped("no é") if d.text == "éa" else d}
    passed, left, _ = recipe.through(shorten | refuse | {"again": len}, Document("éab", "text", "n"))
    assert left is None and passed == [("shorten", 4, 3), ("refuse", 3, "no é")]
    assert recipe.through(shorten, Document("abc", "text", "n"))[1].text == "ab"
    with pytest.raises(RuntimeError, match="n: the step shorten failed: TypeError"):
        recipe.through({"shorten": lambda d: None + 1}, Document("abc", "text", "n"))
    masking = {recipe.PERSONAL_DATA: pii.Masking()}  # a tag that a text had already is none of ours
    _, left, masked = recipe.through(masking, Document("[EMAIL] and [EMAIL] and ada@example.org", "text", "n"))
    assert left.text == "[EMAIL] and [EMAIL] and [EMAIL]" and masked == {"email": 1}


def test_lengths_are_counted_up_to_a_power_of_two():
    for size, bucket in ((0, "1"), (1, "1"), (2, "2"), (3, "4"), (1024, "1024"), (1025, "2048")):
        found = report.Report()
        found.measure("read", size)
        assert found.lengths == {"read": {bucket: 1}, "left": {}}


def test_killed_anywhere_it_goes_on_to_the_same_bytes(crawl, tmp_path, monkeypatch):
    """Stopped before each write in turn, which is behind the one before it."""
    called = []
    go(crawl, tmp_path / "whole", chunk_bytes=4000)

    def stopping(name, real):
        def call(*args, **more):
            called.append(name)
            assert (out / targets.LOCK).exists()  # against a second writer
            if len(called) == stop_at:
                raise KeyboardInterrupt
            return real(*args, **more)

        return call

    for stop_at in range(1, 100):
        out = tmp_path / f"out{stop_at}"
        called.clear()
        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            for where, name in STAGES:
                patch.setattr(where, name, stopping(name, getattr(where, name)))
            go(crawl, out, chunk_bytes=4000)
            break
        if (out / "report.json").exists():  # killed while it sweeps up: it is a corpus already
            assert len(list(shards.read(out))) == 4
        go(crawl, out, chunk_bytes=4000)
        assert contents(out) == contents(tmp_path / "whole"), called
    assert set(called) == {name for _, name in STAGES} and stop_at == len(called) + 1 > 12


@pytest.mark.parametrize(("name", "at"), [("write_lines", 2), ("write", 1)])
def test_a_stopped_run_is_neither_corpus_nor_source(crawl, tmp_path, name, at):
    """While it stages and while it settles, until the same call has finished it, and swept up what was half written."""
    out = tmp_path / "out"
    stop(crawl, out, shards, name, at)
    for read in (lambda: list(shards.read(out)), lambda: curate(out, tmp_path / "again", progress=False)):
        with pytest.raises(ValueError, match="is unfinished: run the same curate again"):
            read()
    assert shards.is_curated(out) == (name == "write") and not (tmp_path / "again").exists()
    for left in (targets.LOCK, ".part-00000.jsonl.gz.1.tmp", "staged/.part-00000.jsonl.gz.1.tmp"):
        (out / left).write_text("of a process that was killed")
    go(crawl, out)
    go(crawl, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


PROGRAM = """
import sys, time
from pathlib import Path
from afm_ref.curation import recipe, run
real = run.Staged.write
def slow(self, number, *rest):
    real(self, number, *rest)
    print(number, flush=True)
    time.sleep(60 if number == 1 else 0)
run.Staged.write = slow
assert not {"jax", "scipy"} & set(sys.modules)  # each process would pay for them
if __name__ == "__main__":
    import afm_ref.teaching.chapters.data  # which draws the report
    assert "jax" not in sys.modules
    asked = recipe.Recipe(benchmarks=Path(sys.argv[1]).parent / "benchmarks.txt", quality=0, chunk_bytes=1500)
    run.curate(sys.argv[1], sys.argv[2], asked, 2, progress=False)
"""


def test_workers_end_with_their_parent(crawl, tmp_path):
    """Killed by SIGKILL in the middle: nothing is left running; one more ends with the bytes of two from the start."""
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py"), str(crawl), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert [process.stdout.readline(), process.stdout.readline()] == ["0\n", "1\n"]
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signal.SIGKILL)
    assert len(children) >= 2
    end = time.monotonic() + 10
    while alive := [pid for pid in children if _is_alive(pid)]:
        assert time.monotonic() < end, alive
        time.sleep(0.05)
    go(crawl, tmp_path / "out")
    go(crawl, tmp_path / "whole", processes=2)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole") and len(contents(tmp_path / "out")) > 4


def _is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_another_run_is_refused(crawl, tmp_path):
    out, benchmarks = tmp_path / "out", crawl.parent / "benchmarks.txt"
    stop(crawl, out, run, "_settle")
    with pytest.raises(ValueError, match="unfinished run with other settings"):
        go(crawl, out, rows=7)
    benchmarks.write_text("another text of at least four words")
    with pytest.raises(ValueError, match="unfinished run with other settings"):
        go(crawl, out)
    benchmarks.write_text(f"\n{BENCHMARK}\n")
    go(crawl, out, index_bytes=0)  # the bound is no part of what is asked for, and changes no shard
    go(crawl, tmp_path / "plain")
    little, much = contents(out), contents(tmp_path / "plain")
    assert little.pop("report.json") != much.pop("report.json") and little == much
    (crawl / "z.txt").write_text(prose(9))
    with pytest.raises(ValueError, match="a finished run with other source"):
        go(crawl, out)


def test_bad_folders_and_benchmarks_are_refused_before_anything_is_made(crawl, tmp_path):
    for name in ("mine.txt", "part-00000.jsonl.gz"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("x")
    for source, out, message in (
        (crawl, crawl, "must lie apart"), (crawl, crawl / "out", "must lie apart"),
        (crawl, crawl.parent, "must lie apart"), (tmp_path / "none", tmp_path / "out", "no folder at"),
        (crawl, crawl.parent / "benchmarks.txt", "is a file"), (crawl, tmp_path / "mine.txt", "none of ours"),
        (crawl, tmp_path / "part-00000.jsonl.gz", "without a run"),
    ):  # fmt: skip
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            curate(source, out, progress=False)
    with pytest.raises(ValueError, match="processes must be at least 1"):
        curate(crawl, tmp_path / "out", processes=0, progress=False)
    (tmp_path / "benchmarks.txt").write_text("two words\n")
    with pytest.raises(ValueError, match="no benchmark text has 4 words"):
        go(crawl, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_recipes_are_refused_by_name():
    for changes, message in (
        ({"rows": 9}, "16 bands of 9 rows need 144"), ({"threshold": 1.5}, "threshold must be from 0 to 1"),
        ({"shingle": 0}, "shingle must be at least 1"), ({"index_bytes": -1}, "index_bytes"),
        ({"longest_run": 3}, "longest_run 3 is below"), ({"quality": float("nan")}, "quality must be"),
        ({"language": "german"}, "language must be one of english, any, got 'german'"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            Recipe(**changes)


def test_benchmarks_of_any_form(tmp_path):
    (tmp_path / "in").mkdir()
    files = {
        "in/a.html": b"<body><p>one two</p></body>", "in/b.jsonl": b'{"text": "three"}\n', "f.csv": b"x",
        "c.txt": "\ufefffour\n\nfi\u2028ve\r\n".encode(), "d.jsonl.gz": gzip.compress(b'{"text": "six"}\n'),
        "e.jsonl": b'{"question": "?"}\n',
    }  # fmt: skip
    for name, raw in files.items():
        (tmp_path / name).write_bytes(raw)
    for name, texts in {"in": ["one two", "three"], "c.txt": ["four", "fi\u2028ve"], "d.jsonl.gz": ["six"]}.items():
        assert list(recipe.benchmark_texts(tmp_path / name)) == texts
    for name, message in {"e.jsonl": "e.jsonl, line 1: no JSON", "f.csv": "is no folder", "g": "no benchmarks"}.items():
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            list(recipe.benchmark_texts(tmp_path / name))


def test_benchmarks_are_read_to_the_letter(tmp_path):
    """One byte lost would be a question that is not found; U+FFFD that the file itself has is a character."""
    (tmp_path / "in").mkdir()
    good = (json.dumps({"text": QUESTION + "\ufffd"}, ensure_ascii=False) + "\n\n").encode()
    latin = json.dumps({"text": QUESTION}, ensure_ascii=False).encode("latin-1")
    bad_lines = [good + raw for raw in (latin, b'{"text": "a \\ud83d b"}', b'{"text": "wh\0"}')]
    html, text = f"<p>{QUESTION}".encode(), QUESTION.encode()
    for asked, file, whole, bad in (
        ("in", "in/a.jsonl", good, bad_lines), ("a.jsonl", "a.jsonl", good, bad_lines),
        ("a.jsonl.gz", "a.jsonl.gz", good, bad_lines), ("in", "in/a.html", html, [html + b"\xff"]),
        ("in", "in/a.txt", text, [text + b"\xff"]),
    ):  # fmt: skip
        is_line, as_it_is = whole is good, gzip.compress if file.endswith(".gz") else bytes
        for raw in bad:
            (tmp_path / file).write_bytes(as_it_is(raw))
            place = f"{tmp_path / file}{', line 3' if is_line else ''}: bad encoding, expected UTF-8"
            with pytest.raises(ValueError, match=re.escape(place)):
                list(recipe.benchmark_texts(tmp_path / asked))
        (tmp_path / file).write_bytes(as_it_is(whole))
        found = [text.strip() for text in recipe.benchmark_texts(tmp_path / asked)]
        assert found == [QUESTION + "\ufffd" if is_line else QUESTION.strip()]
        (tmp_path / file).unlink()


def test_copies_make_no_phrase_common(crawl, tmp_path):
    """Ten copies of the page with the benchmark's text are one page that has it; with three more they are four."""
    for i in range(13):
        text = prose(20 + i) + BENCHMARK + ".\n" if i < 3 else (crawl / "e.txt").read_text()
        (crawl / f"k{i}.txt").write_text(text)
    for usage, left in ((5, 0), (4, 4)):
        go(crawl, tmp_path / str(usage), common_usage=usage)
        assert sum(BENCHMARK in d.text for d in shards.read(tmp_path / str(usage))) == left


def test_chunks_hold_everything_once(monkeypatch):
    monkeypatch.setattr(run, "MOST_ITEMS", 3)
    items = [(pages.Position("f", i), pages.Raw("f", b"x" * size)) for i, size in enumerate((1, 9, 12, 1, 1, 1, 1))]
    cut = list(run.chunked(iter(items), 10))
    assert [[len(raw.data) for raw in chunk.items] for chunk in cut] == [[1, 9], [12], [1, 1, 1], [1]]
    assert [chunk.position.line for chunk in cut] == [1, 2, 5, 6] and [c.size_bytes for c in cut] == [10, 12, 3, 1]
    assert list(run.chunked(iter([]), 10)) == []

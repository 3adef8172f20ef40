"""A run through all steps: by hand, interrupted anywhere, in two processes; and what it refuses."""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from afm_ref.curation import Dropped, pages, pii, recipe, report, run, shards
from afm_ref.curation.recipe import Recipe
from afm_ref.curation.run import curate
from afm_ref.data.corpora import Document
from afm_ref.disk import atomic, targets

NAMES = ["river", "stone", "bridge", "market", "winter", "garden", "letter", "window", "island", "captain", "harbour"]
BENCHMARK = "seven purple elephants calculate the orbital period of a distant copper moon"


def prose(seed, sentences=12):
    """Return sentences that no rule objects to and no two seeds share."""
    rng = random.Random(seed)
    said = []
    for i in range(sentences):
        a, b, c, d = (rng.choice(NAMES) for _ in range(4))
        said.append(
            f"The {a} of the {b} was {rng.choice(NAMES)}{seed} to {c}{i} and they have the {d} with {a}{seed + i}."
        )
    return "\n\n".join(said) + "\n"


def page(text):
    paragraphs = "".join(f"<p>{p}</p>" for p in text.split("\n\n"))
    return f"<html><head><title>t</title></head><body><main><article>{paragraphs}</article></main></body></html>"


def small_crawl(folder):
    """Write nine documents of a known fate, and two files that cannot be used."""
    (folder / "in").mkdir(parents=True)
    files = {
        "a.html": page(prose(1)),
        "b.html": page(prose(1)),  # twice
        "c.txt": prose(2) + "Write to ada@example.org or call.\n",
        "d.txt": "too short to be of use",
        "e.txt": prose(3) + BENCHMARK + ".\n",
        "f.html": "<html><body></body></html>",
        "g.jsonl": json.dumps({"text": prose(4)}) + "\n" + json.dumps({"text": prose(2) + "Write or call.\n"}) + "\n",
        "h.py": "def add(a, b):\n    return a + b\n\n\nprint(add(1, 2), add(3, 4))\n",
    }
    for name, text in files.items():
        (folder / "in" / name).write_text(text)
    (folder / "in" / "x.txt").write_bytes(b"\0\0\1")
    (folder / "in" / "y.png").write_bytes(b"x")
    (folder / "benchmarks.txt").write_text(f"\n{BENCHMARK}\n")
    return folder / "in"


@pytest.fixture
def crawl(tmp_path):
    return small_crawl(tmp_path)


def ask(crawl, **changes):
    return replace(Recipe(benchmarks=crawl.parent / "benchmarks.txt", quality=0, chunk_bytes=1500), **changes)


def contents(out):
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def dropped(out):
    return {row["name"]: row for path in sorted(out.glob("dropped-*")) for _, row in shards.read_lines(path)}


def test_numbers_of_a_small_run_by_hand(crawl, tmp_path):
    out = tmp_path / "out"
    found = curate(crawl, out, ask(crawl), progress=False)
    assert {name: (row["step"], row["reason"]) for name, row in dropped(out).items()} == {
        "b.html": ("near-duplicates", "near-duplicate"), "d.txt": ("heuristics", "too short"),
        "e.txt": ("decontamination", "benchmark text"), "f.html": ("extraction", "empty body"),
        "g.jsonl#1": ("near-duplicates", "near-duplicate"), "x.txt": ("reading", "binary"),
        "y.png": ("reading", "unknown extension"),
    }  # fmt: skip
    assert dropped(out)["b.html"]["original"] == "a.html" and dropped(out)["g.jsonl#1"]["original"] == "c.txt"
    left = list(shards.read(out))
    assert [d.name for d in left] == ["a.html", "c.txt", "g.jsonl#0", "h.py"]
    assert [d.source for d in left] == ["web", "text", "text", "code"]
    assert "[EMAIL]" in left[1].text and "ada@" not in left[1].text and found.personal_data == {"email": 1}
    assert left[0].text.split() == prose(1).split()
    flows = {name: (flow.documents_in, flow.documents_out) for name, flow in found.steps.items()}
    assert list(flows) == [
        "extraction", "safety", "personal data", "near-duplicates", "heuristics", "decontamination"
    ]  # fmt: skip
    assert flows["near-duplicates"] == (8, 6) and flows["heuristics"] == (6, 5) and flows["decontamination"] == (5, 4)
    assert found.steps["decontamination"].bytes_out == sum(len(d.text.encode()) for d in left)
    for before, after in zip(list(found.steps.values()), list(found.steps.values())[1:]):
        assert (before.documents_out, before.bytes_out) == (after.documents_in, after.bytes_in)
    assert found.index == {"documents": 6, "bytes_a_document": 128}
    assert found.kinds["text"][0] == 2 and sum(found.lengths["left"].values()) == 4
    assert report.Report.load(out / "report.json") == found == curate(crawl, out, ask(crawl), progress=False)
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


def test_only_what_is_masked_is_counted_as_personal_data():
    """A tag that a text had already is none of ours."""
    masking = {recipe.PERSONAL_DATA: pii.Masking()}
    _, left, masked = recipe.through(masking, Document("[EMAIL] and [EMAIL] and ada@example.org", "text", "n"))
    assert left.text == "[EMAIL] and [EMAIL] and [EMAIL]" and masked == {"email": 1}


@pytest.mark.parametrize(("size", "bucket"), [(0, 1), (1, 1), (2, 2), (3, 4), (1024, 1024), (1025, 2048)])
def test_lengths_are_counted_up_to_a_power_of_two(size, bucket):
    found = report.Report()
    found.measure("read", size)
    assert found.lengths == {"read": {str(bucket): 1}, "left": {}}


def test_one_and_two_processes_give_the_same_bytes(crawl, tmp_path):
    for processes in (1, 2):
        curate(crawl, tmp_path / str(processes), ask(crawl), processes, progress=False)
    assert contents(tmp_path / "1") == contents(tmp_path / "2") and len(contents(tmp_path / "1")) > 4


def test_the_bound_of_memory_changes_no_shard(crawl, tmp_path):
    for bound in (0, 2**28):
        curate(crawl, tmp_path / str(bound), ask(crawl, index_bytes=bound), progress=False)
    little, much = (contents(tmp_path / str(bound)) for bound in (0, 2**28))
    assert little.pop("report.json") != much.pop("report.json") and little == much


STAGES = (
    (atomic, "write"), (run.Staged, "write"), (np, "save"), (shards, "write_lines"), (shards, "write"),
    (report.Report, "save"), (run.shutil, "rmtree"),
)  # fmt: skip


def test_killed_anywhere_it_goes_on_to_the_same_bytes(crawl, tmp_path, monkeypatch):
    """Stopped before each write in turn, which is behind the one before it."""
    asked, called = ask(crawl, chunk_bytes=4000), []
    curate(crawl, tmp_path / "whole", asked, progress=False)

    def stopping(name, real):
        def call(*args, **kwargs):
            called.append(name)
            if len(called) == stop:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        return call

    for stop in range(1, 100):
        out = tmp_path / f"out{stop}"
        called.clear()
        with monkeypatch.context() as patch:
            for where, name in STAGES:
                patch.setattr(where, name, stopping(name, getattr(where, name)))
            try:
                curate(crawl, out, asked, progress=False)
                break
            except KeyboardInterrupt:
                pass
        curate(crawl, out, asked, progress=False)
        assert contents(out) == contents(tmp_path / "whole"), called
    assert set(called) == {name for _, name in STAGES} and stop == len(called) + 1 > 12


@pytest.mark.parametrize(("name", "at"), [("write_lines", 2), ("write", 1)])
def test_a_stopped_run_is_neither_corpus_nor_source(crawl, tmp_path, monkeypatch, name, at):
    """While it stages and while it settles, until the same call has finished it."""
    out, real, calls = tmp_path / "out", getattr(shards, name), iter(range(99))
    with monkeypatch.context() as patch:
        patch.setattr(shards, name, lambda *args, **more: real(*args, **more) if next(calls) < at else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            curate(crawl, out, ask(crawl), progress=False)
    for read in (lambda: list(shards.read(out)), lambda: curate(out, tmp_path / "again", progress=False)):
        with pytest.raises(ValueError, match="is unfinished: run the same curate again"):
            read()
    assert shards.is_curated(out) == (name == "write") and not (tmp_path / "again").exists()
    curate(crawl, out, ask(crawl), progress=False)
    assert len(list(shards.read(out))) == 4


def test_it_goes_on_behind_what_is_staged(crawl, tmp_path, monkeypatch):
    """A chunk that was done is not read again."""
    out, real, worked = tmp_path / "out", run._worked, []
    with monkeypatch.context() as patch:
        patch.setattr(run, "_settle", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            curate(crawl, out, ask(crawl), progress=False)
    monkeypatch.setattr(run, "_worked", lambda *of: worked.append(of) or real(*of))
    curate(crawl, out, ask(crawl), progress=False)
    assert worked == [] and len(list(shards.read(out))) == 4


def test_the_state_of_an_older_version_is_refused(crawl, tmp_path):
    (tmp_path / "out" / "staged").mkdir(parents=True)
    (tmp_path / "out" / "state.sqlite").touch()
    with pytest.raises(ValueError, match=r"holds state.sqlite, which is none of ours: give an empty or a new folder"):
        curate(crawl, tmp_path / "out", ask(crawl), progress=False)


PROGRAM = """
import sys
from pathlib import Path
from afm_ref.curation import run
from afm_ref.curation.recipe import Recipe
real = run.Staged.write
def slow(self, number, *rest):
    real(self, number, *rest)
    print(number, flush=True)
    import time
    time.sleep(60 if number == 1 else 0)
run.Staged.write = slow
if __name__ == "__main__":
    assert "jax" not in sys.modules
    asked = Recipe(benchmarks=Path(sys.argv[1]).parent / "benchmarks.txt", quality=0, chunk_bytes=1500)
    run.curate(sys.argv[1], sys.argv[2], asked, 2, progress=False)
"""


def test_workers_end_with_their_parent(crawl, tmp_path):
    """Killed by SIGKILL in the middle: nothing is left running, and the next call ends with the same bytes."""
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py"), str(crawl), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert [process.stdout.readline(), process.stdout.readline()] == ["0\n", "1\n"]
        children = [int(pid) for pid in _children(process.pid)]
        process.send_signal(signal.SIGKILL)
    assert len(children) >= 2
    end = time.monotonic() + 10
    while alive := [pid for pid in children if _is_alive(pid)]:
        assert time.monotonic() < end, alive
        time.sleep(0.05)
    curate(crawl, tmp_path / "out", ask(crawl), progress=False)
    curate(crawl, tmp_path / "whole", ask(crawl), progress=False)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def _children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()


def _is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_another_run_is_refused(crawl, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(run, "_settle", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        curate(crawl, out, ask(crawl), progress=False)
    with pytest.raises(ValueError, match="unfinished run with other settings"):
        curate(crawl, out, ask(crawl, rows=7), progress=False)
    (crawl.parent / "benchmarks.txt").write_text("another text of at least four words")
    with pytest.raises(ValueError, match="unfinished run with other settings"):
        curate(crawl, out, ask(crawl), progress=False)
    (crawl.parent / "benchmarks.txt").write_text(f"\n{BENCHMARK}\n")
    monkeypatch.undo()
    curate(crawl, out, ask(crawl, index_bytes=0), progress=False)  # the bound is no part of what is asked for
    (crawl / "z.txt").write_text(prose(9))
    with pytest.raises(ValueError, match="a finished run with other source"):
        curate(crawl, out, ask(crawl), progress=False)


def test_a_run_is_refused_while_another_is_at_it(crawl, tmp_path, monkeypatch):
    """What a killed one leaves of its lock is no file of the folder."""
    out, settle = tmp_path / "out", run._settle

    def at_the_end(*args):
        with pytest.raises(ValueError, match=f"{out} is being written by process {os.getpid()} on "):
            curate(crawl, out, ask(crawl), progress=False)
        return settle(*args)

    out.mkdir()
    (out / targets.LOCK).write_text("process 1 on a machine that has lost its power")
    monkeypatch.setattr(run, "_settle", at_the_end)
    curate(crawl, out, ask(crawl), progress=False)
    assert not (out / targets.LOCK).exists() and len(list(shards.read(out))) == 4


def test_what_a_killed_run_was_writing_is_swept_up(crawl, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(run, "_settle", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        curate(crawl, out, ask(crawl), progress=False)
    monkeypatch.undo()
    for half in (out / ".part-00000.jsonl.gz.1.tmp", out / "staged" / ".part-00000.jsonl.gz.1.tmp"):
        half.write_bytes(b"half")
    curate(crawl, out, ask(crawl), progress=False)
    curate(crawl, tmp_path / "whole", ask(crawl), progress=False)
    assert contents(out) == contents(tmp_path / "whole")


def test_bad_folders_are_refused(crawl, tmp_path):
    for out in (crawl, crawl / "out", crawl.parent):
        with pytest.raises(ValueError, match="must lie apart"):
            curate(crawl, out, progress=False)
    with pytest.raises(FileNotFoundError, match="no folder at"):
        curate(tmp_path / "none", tmp_path / "out", progress=False)
    with pytest.raises(ValueError, match="is a file"):
        curate(crawl, crawl.parent / "benchmarks.txt", progress=False)
    for name, message in (("mine.txt", "none of ours"), ("part-00000.jsonl.gz", "without a run")):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("x")
        with pytest.raises(ValueError, match=message):
            curate(crawl, tmp_path / name, progress=False)
    with pytest.raises(ValueError, match="processes must be at least 1"):
        curate(crawl, tmp_path / "out", processes=0, progress=False)
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
    (tmp_path / "in" / "a.html").write_text("<body><p>one two</p></body>")
    (tmp_path / "in" / "b.jsonl").write_text('{"text": "three"}\n')
    (tmp_path / "c.txt").write_text("\ufefffour\n\nfi\u2028ve\r\n", encoding="utf-8", newline="")
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(b'{"text": "six"}\n'))
    (tmp_path / "e.jsonl").write_text('{"question": "?"}\n')
    (tmp_path / "f.csv").write_text("x")
    read = recipe.benchmark_texts
    assert list(read(tmp_path / "in")) == ["one two", "three"] and list(read(tmp_path / "c.txt")) == [
        "four",
        "fi\u2028ve",
    ]
    assert list(read(tmp_path / "d.jsonl.gz")) == ["six"]
    for name, error, message in (("e.jsonl", ValueError, "e.jsonl, line 1: no JSON"),
                                 ("f.csv", ValueError, "is no folder"),
                                 ("g.txt", FileNotFoundError, "no benchmarks at")):  # fmt: skip
        with pytest.raises(error, match=message):
            list(read(tmp_path / name))


QUESTION = "Wie führte die Straße über größere Hügel, vorbei an Häusern und Gärten bis zum Fluß? " * 2


@pytest.mark.parametrize(
    ("name", "raw", "line"),
    [
        ("a.jsonl", json.dumps({"text": QUESTION}, ensure_ascii=False).encode("latin-1"), ", line 3"),
        ("a.jsonl", b'{"text": "a \\ud83d b"}', ", line 3"),
        ("a.jsonl", b'{"text": "who"}'.replace(b"o", b"o\0"), ", line 3"),
        ("a.html", f"<p>{QUESTION}".encode() + b"\xff", ""),
        ("a.txt", QUESTION.encode() + b"\xff", ""),
    ],
)
def test_benchmarks_are_read_to_the_letter(tmp_path, name, raw, line):
    """One byte lost would be a question that is not found; U+FFFD that the file itself has is a character."""
    good = (json.dumps({"text": QUESTION + "\ufffd"}, ensure_ascii=False) + "\n\n").encode() if line else b""
    (tmp_path / "in").mkdir()
    files = [tmp_path / "in" / name, *([tmp_path / name, tmp_path / f"{name}.gz"] if line else [])]
    for file in files:
        in_folder = file.parent.name == "in"
        as_it_is = gzip.compress if file.suffix == ".gz" else bytes
        file.write_bytes(as_it_is(good + raw))
        with pytest.raises(ValueError, match="bad encoding, expected UTF-8") as caught:
            list(recipe.benchmark_texts(file.parent if in_folder else file))
        assert f"{file}{line}:" in str(caught.value)
        file.write_bytes(as_it_is(good or QUESTION.encode()))
        found = list(recipe.benchmark_texts(file.parent if in_folder else file))
        assert [text.strip() for text in found] == [(QUESTION + "\ufffd") if line else QUESTION.strip()]


def test_benchmarks_that_are_too_short_are_refused_before_anything_is_made(crawl, tmp_path):
    """By one process and by two in the same words, and with better ones the same folder can be used."""
    (tmp_path / "benchmarks.txt").write_text("two words\n")
    for processes in (1, 2):
        with pytest.raises(ValueError, match="no benchmark text has 4 words"):
            curate(crawl, tmp_path / "out", ask(crawl), processes, progress=False)
        assert not (tmp_path / "out").exists()


def test_common_phrases_stay(crawl, tmp_path):
    """A run of words that as many documents hit as common usage takes drops none of them."""
    for i in range(3):
        (crawl / f"k{i}.txt").write_text(prose(20 + i) + BENCHMARK + ".\n")
    for usage, left in ((5, 0), (4, 4)):
        curate(crawl, tmp_path / str(usage), ask(crawl, common_usage=usage), progress=False)
        assert sum(BENCHMARK in d.text for d in shards.read(tmp_path / str(usage))) == left


def test_copies_make_no_phrase_common(crawl, tmp_path):
    """Ten copies of the page with the benchmark's text are one page that has it."""
    for i in range(10):
        (crawl / f"k{i}.txt").write_text((crawl / "e.txt").read_text())
    curate(crawl, tmp_path / "out", ask(crawl, common_usage=2), progress=False)
    assert not any(BENCHMARK in d.text for d in shards.read(tmp_path / "out"))


def test_chunks_hold_everything_once(monkeypatch):
    monkeypatch.setattr(run, "MOST_ITEMS", 3)
    items = [(pages.Position("f", i), pages.Raw("f", b"x" * size)) for i, size in enumerate((1, 9, 12, 1, 1, 1, 1))]
    cut = list(run.chunked(iter(items), 10))
    assert [[len(raw.data) for raw in chunk.items] for chunk in cut] == [[1, 9], [12], [1, 1, 1], [1]]
    assert [chunk.position.line for chunk in cut] == [1, 2, 5, 6] and [c.size_bytes for c in cut] == [10, 12, 3, 1]
    assert list(run.chunked(iter([]), 10)) == []


def test_nothing_left_is_no_error(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("short")
    found = curate(tmp_path / "in", tmp_path / "out", Recipe(quality=0), progress=False)
    assert found.shards == 0 and not shards.is_curated(tmp_path / "out") and found.kinds == {}


def test_no_jax_is_imported(tmp_path):
    """Other processes begin anew: what they import is paid for by each."""
    code = "import sys; from afm_ref.curation import run; print('jax' in sys.modules, 'scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert done.stdout.split() == ["False", "False"], done.stderr

"""python -m afm_ref itself: help, streams, what surrounds it, and targets looked at before any work."""

import contextlib
import errno
import io
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from unittest import mock

import jax
import pytest
from tqdm import tqdm

from afm_ref import __main__ as command_line
from afm_ref.cli import info
from afm_ref.data import corpora
from afm_ref.disk import targets

ROOT = Path(__file__).parents[1]
main = command_line.main


@pytest.fixture
def say(monkeypatch):
    """Return what lets `info` do something else, such as raising an error."""
    return lambda run: monkeypatch.setattr(info, "run", mock.Mock(side_effect=run))


def line_of(capsys):
    """Return the one line that was written, on the error."""
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    return err.removeprefix("error: ")


WITHOUT_DOCSTRINGS = """
import pathlib, sys, textwrap
from afm_ref import __main__ as command_line
from afm_ref.data import corpora
assert False, "asserts are gone as well"
for name in sys.argv[1:]:
    try:
        command_line.main([name, "--help"])
    except SystemExit:
        pass
command_line.main(["info"])
print(corpora.module_documents("textwrap", pathlib.Path(textwrap.__file__).read_text(), set()))
"""


@pytest.mark.parametrize(
    "names",
    [
        ["curate", "info"],  # the others import JAX, all of which Python -OO compiles anew
        pytest.param([*command_line.COMMANDS], marks=pytest.mark.slow),
    ],
)
def test_without_docstrings_help_and_corpora_are_the_same(monkeypatch, capsys, names):
    monkeypatch.setenv("COLUMNS", "100")
    command = [sys.executable, "-OO", "-c", WITHOUT_DOCSTRINGS, *names]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr == ""
    for name in names:
        with pytest.raises(SystemExit):
            main([name, "--help"])
        help_text = command_line.COMMANDS[name]
        assert len(help_text) > 30 and help_text[:30] in done.stdout
    main(["info"])
    print(corpora.module_documents("textwrap", Path(textwrap.__file__).read_text(), set()))
    assert done.stdout == capsys.readouterr().out


@pytest.mark.parametrize(
    "encoding, written",
    [
        ("ascii", rb"Stra\xdfe \u65e5 \udcff"),
        ("latin-1", b"Stra\xdfe \\u65e5 \\udcff"),
        ("utf-8", "Straße 日 \\udcff".encode()),
    ],
)
def test_what_an_encoding_lacks_is_written_as_an_escape(monkeypatch, say, encoding, written):
    """In the output and in an error; the last is half a character, as of an undecodable byte in an argument."""

    def run(args):
        print("Straße 日 \udcff")
        raise ValueError("Straße 日 \udcff")

    say(run)
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert main(["info"]) == 2
    assert out.buffer.getvalue() == written + b"\n" and err.buffer.getvalue() == b"error: " + written + b"\n"


def without_reader(buffering):
    read, write = os.pipe()
    os.close(read)
    return io.TextIOWrapper(os.fdopen(write, "wb", buffering), write_through=not buffering)


@pytest.mark.parametrize("buffering", [0, 8192])
@pytest.mark.parametrize("arguments", [["info"], ["info", "--help"]])
def test_a_pipe_that_nobody_reads_ends_it_in_silence(monkeypatch, capsys, buffering, arguments):
    stream = without_reader(buffering)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        try:
            status = main(arguments)
        except SystemExit as end:  # argparse has swallowed the failure of an unbuffered help
            assert not buffering
            status = command_line.NOBODY_READS if end.code == 0 else end.code
    stream.close()  # as the interpreter does at its end: what was left has somewhere to go
    assert (status, capsys.readouterr().err) == (141, "")
    with contextlib.closing(without_reader(buffering)) as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        assert main(["info", "--model", "none"]) == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_an_output_that_takes_no_more_is_one_line(monkeypatch, capsys):
    with monkeypatch.context() as patch, open("/dev/full", "w") as full:
        patch.setattr(sys, "stdout", full)
        assert main(["info"]) == 2
    assert os.strerror(errno.ENOSPC) in line_of(capsys)


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_without_an_output_it_runs(monkeypatch, say, name):
    def run(args):
        print("\u00fc", file=getattr(sys, name))
        list(tqdm(range(2)))  # writes to stderr

    say(run)
    monkeypatch.setattr(sys, name, None)  # as python has it where the shell says >&- or 2>&-
    assert main(["info"]) == 0 and getattr(sys, name) is None


def test_a_platform_that_jax_does_not_know_is_one_line_of_what_to_do():
    command, env = [sys.executable, "-m", "afm_ref", "generate"], os.environ | {"JAX_PLATFORMS": "cpu,nonsense"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: JAX_PLATFORMS is cpu,nonsense: Unable to initialize backend 'nonsense'")
    assert "Unset it to take what there is, or set it to cpu" in done.stderr


@pytest.mark.parametrize("said", [AssertionError(), RuntimeError("no GPU")])
def test_a_platform_without_a_device_is_one_line(monkeypatch, say, capsys, said):
    """For "cuda" JAX asserts that it has found something; with devices, the same errors are faults of ours."""
    say(said)
    with pytest.raises(type(said)):
        main(["info"])
    monkeypatch.setattr(jax, "devices", mock.Mock(side_effect=said))
    assert main(["info"]) == 2
    line = line_of(capsys)
    assert line.startswith(f"JAX_PLATFORMS is {jax.config.jax_platforms or 'not set'}: ")
    assert "set it to cpu" in line and (str(said) or "there is no") in line


def test_too_little_memory_and_a_pipe_of_its_own_are_one_line(say, capsys):
    for error, told in (
        (MemoryError(), "out of memory: a smaller model"),
        (MemoryError("Unable to allocate 3 TiB"), "out of memory: Unable to allocate 3 TiB"),
        (BrokenPipeError(errno.EPIPE, "a worker has gone"), "[Errno 32] a worker has gone"),
    ):
        say(error)
        assert main(["info"]) == 2
        assert line_of(capsys).startswith(told)


def test_ctrl_c_while_commands_are_loaded_is_silent(monkeypatch, capsys):
    monkeypatch.setattr(command_line, "_parser", mock.Mock(side_effect=KeyboardInterrupt))
    assert main(["info"]) == 130 and capsys.readouterr() == ("", "")


WORK = {  # command: (where its work begins, its arguments)
    "adapt": ("afm_ref.cli.generate.load_model", "--task task.jsonl"),
    "curate": ("afm_ref.curation.run.curate", "pages"),
    "palettize": ("afm_ref.interop.palettizing.palettize_folder", ""),
    "pipeline": ("afm_ref.whole_road.road.Road.__init__", "--fast"),
    "pretrain": ("afm_ref.cli.pretrain._train", "--corpus pages"),
    "rlhf": ("afm_ref.whole_road.bench.Bench.__init__", ""),
    "train": ("afm_ref.cli.train._train", ""),
}


def no_work(*_, **__):
    pytest.fail("it worked before it looked at its target")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current folder: pages, a task, a file and a model in shards; and no command may begin its work."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 2)
    (tmp_path / "file").touch()
    index = "model.safetensors.index.json"
    for name in ("pages/a.txt", f"shards/{index}", f"run/policy/{index}", f"run/model/{index}"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("text")
    for begin, _ in WORK.values():
        monkeypatch.setattr(begin, no_work)
    return tmp_path


def test_a_target_is_looked_at_before_any_work(place, capsys):
    before = sorted(place.rglob("*"))
    for line, told in (
        ("adapt --save pages", "--save pages is a folder"),
        ("adapt --save file/a", "--save file/a cannot be written"),
        ("adapt --peft --save file", "--save file is a file: give a folder"),
        ("adapt --checkpoint file", "--checkpoint file is a file"),
        ("curate --out file/a", "--out file/a cannot be written"),
        ("palettize --out file/a", "--out file/a cannot be written"),
        ("pipeline --folder file", "--folder file is a file"),
        ("pipeline --bench file/a", "--bench file/a cannot be written"),
        ("pretrain --out file", "--out file is a file"),
        ("pretrain --out run", "--out run/model holds model.safetensors.index.json"),
        ("rlhf --folder file", "--folder file is a file"),
        ("rlhf --folder run", "--folder run/policy holds model.safetensors.index.json"),
        ("rlhf --bench file/a", "--bench file/a cannot be written"),
        ("rlhf --iterations 0", "--iterations is 0: give at least 1"),
        ("rlhf --seed -1", "--seed is -1"),
        ("rlhf --n 1", "this advantage compares the n responses of a prompt: sample at least 2"),
        ("rlhf --learning-rate nan", "--learning-rate is nan"),
        ("train --checkpoint file", "--checkpoint file is a file"),
        ("train --history pages", "--history pages is a folder"),
        ("train --save file --processes 2", "--save file is a file"),
        ("train --save shards", "--save shards holds model.safetensors.index.json"),
    ):
        name, *options = line.split()
        assert main([name, *WORK[name][1].split(), *options]) == 2
        assert line_of(capsys).startswith(told)
        assert sorted(place.rglob("*")) == before


def test_a_second_command_in_a_folder_names_the_first(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "a.txt").write_text("text")
    for work in ("whole_road.online_rl.learn", "whole_road.road.Road.take", "cli.pretrain._train"):
        monkeypatch.setattr(f"afm_ref.{work}", no_work)
    inputs = {"curate": "pages", "pretrain": "--corpus pages", "rlhf": "--bench b", "pipeline": "--bench b"}
    for name, given in inputs.items():
        place = "--folder" if "bench" in given else "--out"
        with targets.only_writer(tmp_path / "out"):
            assert main([name, *given.split(), place, "out"]) == 2
        assert f"error: out is being written by process {os.getpid()} on " in capsys.readouterr().err

"""Writes are whole or as before; targets are tried before work, and written by one process; pieces are of one run."""

import contextlib
import errno
import os
import platform
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from afm_ref.disk import atomic, resumable, targets


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("content", [b"", b"\x00\r\n\xff", "a\r\nb\n\u2028\U0001f600"])
def test_what_is_written_is_there_byte_for_byte(tmp_path, content):
    """In folders that are made, over an older file that is longer."""
    for before in ("old and longer than what comes", content):
        atomic.write(tmp_path / "a" / "b" / "file", before)
    assert contents(tmp_path / "a" / "b") == {"file": content if isinstance(content, bytes) else content.encode()}


def test_a_block_that_raises_changes_nothing(tmp_path):
    (tmp_path / "one").write_text("old")
    stopped = pytest.raises(KeyboardInterrupt)
    with stopped, atomic.replacing(tmp_path / "one", tmp_path / "two") as (one, _):
        one.write_text("ne")
        assert len(contents(tmp_path)) == 2
        raise KeyboardInterrupt
    with pytest.raises(FileNotFoundError), atomic.replacing(tmp_path / "one", tmp_path / "two") as (one, _):
        one.write_text("new")  # and two is not written
    full = pytest.raises(OSError, match=r"No space left on device: '.*one \(nothing there has changed\)'")
    with full, atomic.replacing(tmp_path / "one") as [temporary]:
        temporary.write_text("ne")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert contents(tmp_path) == {"one": b"old"}


def test_nothing_is_moved_before_all_is_on_disk(tmp_path, monkeypatch):
    (tmp_path / "one").write_text("old")
    sync, synced = atomic.os.fsync, []

    def full(handle):
        synced.append(handle)
        if len(synced) == 2:
            raise OSError("no space left")
        sync(handle)

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(OSError, match="no space"), atomic.replacing(tmp_path / "one", tmp_path / "two") as temporary:
        [path.write_text("new") for path in temporary]
    assert contents(tmp_path) == {"one": b"old"}


def test_what_a_killed_process_leaves_is_known_by_its_name(tmp_path):
    with atomic.replacing(tmp_path / "a.1.tmp") as [temporary]:
        assert atomic.intended(temporary.name) == "a.1.tmp"
        temporary.write_text("x")
    others = ["a.1.tmp", ".a.tmp", "..1.tmp", "a"]
    assert [atomic.intended(name) for name in others] == others


def test_a_folder_in_the_way_is_seen_before_anything_is_moved(tmp_path):
    (tmp_path / "two").mkdir()
    told = pytest.raises(IsADirectoryError, match=r"a folder stands where a file is to be written: .*two")
    with told, atomic.replacing(tmp_path / "one", tmp_path / "two") as temporary:
        temporary[0].write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["two"]


HOLD = """
import sys
from afm_ref.disk import targets
with targets.only_writer(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def names(folder, pattern="*"):
    return sorted(path.name for path in folder.glob(pattern))


@contextlib.contextmanager
def held_elsewhere(folder):
    """Let another process hold the folder; gives that process."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as other:
        assert other.stdout.readline() == "held\n"
        yield other
        other.kill()  # SIGKILL: it cannot tidy up


def test_the_second_writer_is_told_who_the_first_is_until_that_is_killed(tmp_path):
    with held_elsewhere(tmp_path) as first:
        who = rf"process {first.pid} on {platform.node()}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d"
        told = rf"{tmp_path} is being written by {who}: wait until that has ended .* another folder"
        with pytest.raises(ValueError, match=told), targets.only_writer(tmp_path):
            pass
        assert names(tmp_path) == [targets.LOCK]  # the first one's stays
    assert names(tmp_path) == [targets.LOCK]
    with targets.only_writer(tmp_path):
        pass
    assert names(tmp_path) == []


def test_one_process_is_two_writers_too_and_may_come_back_after_an_error(tmp_path):
    """A folder that was made for nothing goes again."""
    with targets.only_writer(tmp_path):
        with pytest.raises(ValueError, match=f"by process {os.getpid()} "), targets.only_writer(tmp_path):
            pass
        with targets.only_writer(tmp_path, ".part.lock"), targets.only_writer(tmp_path / "a" / "inner"):
            assert names(tmp_path / "a") == ["inner"]  # another part, another folder
    with pytest.raises(ZeroDivisionError), targets.only_writer(tmp_path):
        raise ZeroDivisionError
    with targets.only_writer(tmp_path), targets.only_writer(tmp_path / "a" / "something"):
        (tmp_path / "a" / "something" / "file").touch()
    assert names(tmp_path / "a") == ["something"] and names(tmp_path / "a" / "something") == ["file"]


def test_a_lock_that_its_holder_has_removed_holds_nobody_out(tmp_path, monkeypatch):
    """Opened before the first one is done and locked after: that file is at no path any more, so a new one is made."""
    first = targets.only_writer(tmp_path)
    first.__enter__()
    flock, calls = targets.fcntl.flock, []

    def late(file, how):
        if not calls:
            first.__exit__(None, None, None)
        calls.append(file)
        return flock(file, how)

    monkeypatch.setattr(targets.fcntl, "flock", late)
    with targets.only_writer(tmp_path):
        assert len(calls) == 2 and str(os.getpid()) in (tmp_path / targets.LOCK).read_text()
        with pytest.raises(ValueError, match="is being written"), targets.only_writer(tmp_path):
            pass


def test_where_nothing_can_be_locked_it_warns_and_goes_on(tmp_path, monkeypatch):
    none = mock.Mock(side_effect=OSError(errno.ENOLCK, os.strerror(errno.ENOLCK)))
    monkeypatch.setattr(targets.fcntl, "flock", none)
    with pytest.warns(UserWarning, match="cannot be locked .*start no other run"), targets.only_writer(tmp_path):
        pass


def test_what_can_be_written_is_silent_and_nothing_is_left(tmp_path):
    """Nor is an older file or folder in the way."""
    for check in (targets.check_file, targets.check_folder):
        for path in ("new", "a/b/new"):
            check(tmp_path / path, "--out")
            assert names(tmp_path) == []
    atomic.write(tmp_path / "folder" / "file", "old")
    targets.check_file(tmp_path / "folder" / "file", "--save")
    targets.check_folder(tmp_path / "folder", "--out", without=("model.safetensors.index.json",))
    assert names(tmp_path / "folder") == ["file"] and (tmp_path / "folder" / "file").read_text() == "old"


def test_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "at all")
    for check, path, told in (
        (targets.check_folder, "file", "--out .*/file is a file: give a folder"),
        (targets.check_file, "file/a", "--out .*/file/a cannot be written .Not a directory.: give another"),
        (targets.check_file, ".", "--out .* is a folder: give the name of a file"),
        (targets.check_folder, "dangling", "--out .*/dangling is a file: give a folder"),
        (targets.check_file, "x" * 250, "--out .* cannot be written .File name too long."),  # with .PID.tmp
    ):
        with pytest.raises((OSError, ValueError), match=told):
            check(tmp_path / path, "--out")
    with pytest.raises(ValueError, match="holds file, a model of another kind"):
        targets.check_folder(tmp_path, "--save", without=("file",))


def test_no_permission_is_found_by_trying(tmp_path, monkeypatch):
    """The superuser has every permission, so the system's answer is put in the place of the file."""
    refused = mock.Mock(side_effect=OSError(errno.EACCES, "Permission denied"))
    monkeypatch.setattr(targets.tempfile, "NamedTemporaryFile", refused)
    with pytest.raises(OSError, match=r"--save .*/new cannot be written \(Permission denied\): give another place"):
        targets.check_file(tmp_path / "new", "--save")


def test_what_is_no_file_is_no_target(tmp_path):
    """A device would be replaced by a file, a link by what it should lead to."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    for name in ("pipe", "nowhere"):
        with pytest.raises(ValueError, match=f"--history .*{name} is a device, a pipe or a link to nowhere"):
            targets.check_file(tmp_path / name, "--history")
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    targets.check_file(tmp_path / "link", "--history")
    atomic.write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_text() == "new"
    assert names(tmp_path) == ["file", "link", "nowhere", "pipe"]


def test_what_is_read_is_not_written_over(tmp_path):
    (tmp_path / "pairs").write_text("{}")
    (tmp_path / "link").symlink_to("pairs")
    targets.check_apart(task=tmp_path / "pairs", save=tmp_path / "a", checkpoint=None, history=None)
    with pytest.raises(ValueError, match=r"--task and --save are both .*link: one would be lost"):
        targets.check_apart(task=tmp_path / "pairs", model=None, save=tmp_path / "link")


def test_a_result_is_made_once(tmp_path):
    assert resumable.result(tmp_path / "run" / "a.json", lambda: {"x": [1, 0.1, "ü"]}) == {"x": [1, 0.1, "ü"]}
    assert resumable.result(tmp_path / "run" / "a.json", lambda: pytest.fail("made again")) == {"x": [1, 0.1, "ü"]}
    assert names(tmp_path, "**/*") == ["a.json", "run"]


def test_a_folder_is_there_when_all_of_it_is(tmp_path):
    """Not after an error, and what a killed process has left is no part of it."""

    def make(new, error=None):
        (new / "inner").mkdir(parents=True)
        (new / "inner" / "file").write_text("whole")
        assert not (tmp_path / "piece").exists()
        if error:
            raise error

    left, other = tmp_path / ".piece.7.tmp", tmp_path / ".other.7.tmp"
    left.mkdir(), (left / "half").touch(), other.touch()
    with pytest.raises(ZeroDivisionError):
        resumable.finished(tmp_path / "piece", lambda new: make(new, ZeroDivisionError()))
    assert names(tmp_path, "**/*") == [other.name]
    for _ in range(2):
        assert resumable.finished(tmp_path / "piece", make) == tmp_path / "piece"
    assert names(tmp_path, "**/*") == [other.name, "file", "inner", "piece"]


def test_what_another_process_makes_is_waited_for_by_nobody(tmp_path):
    with targets.only_writer(tmp_path, ".piece.lock"):
        resumable.result(tmp_path / "another", lambda: 1)
        with pytest.raises(ValueError, match=f"is being written by process {os.getpid()}"):
            resumable.result(tmp_path / "piece", lambda: 1)


def test_a_folder_of_another_run_is_refused_by_name(tmp_path):
    about = {"a": 1, "b": "x", "c": None, "d": 2.5}
    for _ in range(2):
        resumable.claim(tmp_path / "config.json", about)
    told = r"holds models of another run: b was x and is absent; e was absent and is 1\. "
    with pytest.raises(ValueError, match=told):
        resumable.claim(tmp_path / "config.json", {"a": 1, "c": None, "d": 2.5, "e": 1}, "models")
    with pytest.raises(ValueError, match=r"a was 1 and is 2; b .*; c .*; and 1 more\."):
        resumable.claim(tmp_path / "config.json", {"a": 2})

"""Atomic writes: whole, or as before."""

import errno
import os

import pytest

from afm_ref.disk import atomic


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


def test_a_full_disk_is_told_with_the_file(tmp_path):
    (tmp_path / "file").write_text("old")
    told = pytest.raises(OSError, match=r"No space left on device: '.*file \(nothing there has changed\)'")
    with told, atomic.replacing(tmp_path / "file") as [temporary]:
        temporary.write_text("ne")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert contents(tmp_path) == {"file": b"old"}

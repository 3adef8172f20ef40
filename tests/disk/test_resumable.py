"""Finished pieces: made once, whole or not at all, of one run."""

import os

import pytest

from afm_ref.disk import resumable, targets


def names(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_a_result_is_made_once(tmp_path):
    assert resumable.result(tmp_path / "run" / "a.json", lambda: {"x": [1, 0.1, "ü"]}) == {"x": [1, 0.1, "ü"]}
    assert resumable.result(tmp_path / "run" / "a.json", lambda: pytest.fail("made again")) == {"x": [1, 0.1, "ü"]}
    assert names(tmp_path) == ["a.json", "run"]


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
    assert names(tmp_path) == [other.name]
    for _ in range(2):
        assert resumable.finished(tmp_path / "piece", make) == tmp_path / "piece"
    assert names(tmp_path) == [other.name, "file", "inner", "piece"]


def test_what_another_process_makes_is_waited_for_by_nobody(tmp_path):
    with targets.only_writer(tmp_path, ".piece.lock"):
        resumable.result(tmp_path / "another", lambda: 1)
        with pytest.raises(ValueError, match=f"is being written by process {os.getpid()}"):
            resumable.result(tmp_path / "piece", lambda: 1)


def test_a_folder_of_another_run_is_refused_by_name(tmp_path):
    about = {"a": 1, "b": "x", "c": None, "d": 2.5}
    for _ in range(2):
        resumable.claim(tmp_path / "config.json", about)
    with pytest.raises(
        ValueError, match=r"holds models of another run: b was x and is absent; e was absent and is 1\. "
    ):
        resumable.claim(tmp_path / "config.json", {"a": 1, "c": None, "d": 2.5, "e": 1}, "models")
    with pytest.raises(ValueError, match=r"a was 1 and is 2; b .*; c .*; and 1 more\."):
        resumable.claim(tmp_path / "config.json", {"a": 2})

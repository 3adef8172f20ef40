"""What the experiments share: a finished run is kept and not run again, and what is recorded is read by assets."""

import os

import pytest

from afm_ref import assets
from experiments import _record


def test_a_finished_job_is_not_run_again(tmp_path):
    def fails():
        raise KeyboardInterrupt

    calls = []
    first = {"a": lambda: calls.append("a") or {"x": 1}, "b": fails, "c": lambda: {"x": 3}}
    with pytest.raises(KeyboardInterrupt):
        _record.finished(first, tmp_path)
    done = _record.finished(first | {"b": lambda: {"x": 2}}, tmp_path)
    assert calls == ["a"] and {key: run["x"] for key, run in done.items()} == {"a": 1, "b": 2, "c": 3}
    assert all(run["cpu_s"] >= 0 for run in done.values())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json", "c.json"]


def test_a_job_is_run_by_one_process_at_a_time(tmp_path):
    def job():
        with pytest.raises(ValueError, match=rf"{tmp_path} is being written by process {os.getpid()} on"):
            _record.kept(tmp_path, "mdloo, seed 0", lambda: {})
        return _record.kept(tmp_path, "another", lambda: {"x": 2})

    assert _record.kept(tmp_path, "mdloo, seed 0", job)["x"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another.json", "mdloo, seed 0.json"]


def test_what_is_recorded_is_read_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "RECORDED", tmp_path / "recorded")
    assets.RECORDED.mkdir()
    path = _record.save("tea", "python -m experiments.tea", {"cups": 2}, [0, 1], {"litres": 0.5})
    monkeypatch.chdir(tmp_path)
    found = assets.recording("tea")
    assert path == tmp_path / "recorded" / "tea.json" and found.pop("versions") == _record.versions()
    assert found == dict(command="python -m experiments.tea", config={"cups": 2}, seeds=[0, 1], numbers={"litres": 0.5})
    with pytest.raises(FileNotFoundError, match=r"no recording milk.json: run `python -m experiments.milk`.* tea"):
        assets.recording("milk")

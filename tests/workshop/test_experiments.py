"""The one command that runs every recorded experiment again."""

import subprocess
from pathlib import Path

import pytest

from afm_ref import assets
from experiments import __main__ as again


def test_every_recording_has_its_experiment_which_knows_the_options_that_it_is_given():
    assert {path.stem for path in assets.RECORDED.glob("*.json")} - {"train_tiny"} <= set(again.EXPERIMENTS)
    for name, options in again.EXPERIMENTS.items():
        source = (Path(again.__file__).parent / f"{name}.py").read_text()
        assert all(f'"{option}"' in source for option in options), name
    line = " ".join(again.command("pipeline", Path("runs/x")))
    assert line.endswith("--folder runs/x/pipeline --bench runs/x/rlhf/bench")


def test_goes_on_with_the_one_that_failed(tmp_path):
    called, broken = [], {"rlhf"}

    def run(line, check):
        name = line[2].removeprefix("experiments.")
        called.append(name)
        if name in broken:
            raise subprocess.CalledProcessError(1, line)

    names = ["lora", "rlhf", "pipeline"]
    with pytest.raises(subprocess.CalledProcessError):
        again.run_all(names, tmp_path, run)
    broken.clear()
    again.run_all(names, tmp_path, run)
    assert called == ["lora", "rlhf", "rlhf", "pipeline"]


def test_tells_the_recordings_of_another_model():
    model = again.shipped()
    assert again.state("rlhf", model) == "of this model"
    assert again.state("rlhf", "0" * 64) == "of another model"
    assert again.state("at_scale", model) == "names no model"

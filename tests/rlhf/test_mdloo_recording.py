"""What chapter 11 shows of the comparison of algorithms: whole, fair, of the model that ships."""

import numpy as np
import pytest

from afm_ref import assets
from afm_ref.lora import files
from afm_ref.rlhf import Settings
from experiments import mdloo

RECORDING = assets.recording("mdloo")
CONFIG, NUMBERS, SEEDS = RECORDING["config"], RECORDING["numbers"], RECORDING["seeds"]
RUNS = NUMBERS["runs"]
ARGUMENTS = mdloo.arguments([])


def test_base_and_settings_are_those_of_today():
    assert files.fingerprint(assets.load_instruct()[0]) == CONFIG["base"]
    assert Settings(**CONFIG["settings"]) == Settings(**mdloo.SETTINGS)


def test_runs_are_complete():
    assert len(SEEDS) == 8
    assert set(RUNS) == {*mdloo.try_jobs(None, ARGUMENTS), *mdloo.main_jobs(None, ARGUMENTS, NUMBERS["chosen"])}
    assert NUMBERS["cpu_minutes"] == pytest.approx(sum(run["cpu_s"] for run in RUNS.values()) / 60, abs=0.1)


def test_all_had_as_many_tries_and_keep_the_best():
    for name in mdloo.ALGORITHMS:
        worth = {of: RUNS[mdloo.try_key(name, *of)]["utility"]["all"] for of in mdloo.tries(ARGUMENTS, name)}
        assert len(worth) == 8 and worth[tuple(NUMBERS["chosen"][name])] == max(worth.values())
        assert all([run["rate"], run["trust"]] == NUMBERS["chosen"][name] for run in of_algorithm(name))


def test_all_begin_alike_and_draw_as_much():
    """Of a seed the first iteration's samples are those of the start, whatever the algorithm; PPO's are, too."""
    for seed in SEEDS:
        rewards = np.array([RUNS[f"{name}_{seed}"]["reward"] for name in mdloo.ALGORITHMS])
        assert rewards.shape == (5, 8) and len(set(rewards[:, 0])) == 1
    assert len({tuple(RUNS[f"mdloo_{seed}"]["reward"]) for seed in SEEDS}) == len(SEEDS)


@pytest.mark.slow
def test_a_cell_is_recomputed(tmp_path):
    """The start, fine-tuned anew, on all held-out prompts: a hundredth is far below what any algorithm gains."""
    found = mdloo.start_run(mdloo.Bench(mdloo.arguments(["--models", str(tmp_path)])))
    assert found["prompts"] == RUNS["start"]["prompts"]
    for what in ("utility", "success"):
        assert found[what] == pytest.approx(RUNS["start"][what], abs=0.01)


def of_algorithm(name):
    return [RUNS[f"{name}_{seed}"] for seed in SEEDS]

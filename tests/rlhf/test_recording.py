"""What chapter 8 shows as recorded: still that of the shipped model, whole, and fair."""

import numpy as np
import pytest

from afm_ref import assets
from afm_ref.assets import load_tiny
from afm_ref.lora import files
from afm_ref.whole_road import online_rl
from experiments import rlhf

RECORDING = assets.recording("rlhf")
CONFIG, NUMBERS, SEEDS = RECORDING["config"], RECORDING["numbers"], RECORDING["seeds"]
RUNS = NUMBERS["runs"]
ARGUMENTS = rlhf.arguments([f"--held-out={CONFIG['held_out']}", f"--folder={CONFIG['folder']}"])


def of_prefix(*prefixes):
    return {key: run for key, run in RUNS.items() if key.startswith(prefixes)}


def test_base_and_settings_are_those_of_today():
    assert files.fingerprint(load_tiny()[0]) == CONFIG["base"] and CONFIG["settings"] == str(online_rl.SETTINGS)


@pytest.mark.slow
def test_a_cell_is_recomputed():
    """The shipped model's utility. Where a token is drawn otherwise, a response of 64 moves it by .016 at most."""
    found = rlhf.base_run(rlhf.bench_of(ARGUMENTS), SEEDS[0])
    assert found == pytest.approx({name: RUNS[f"base_{SEEDS[0]}"][name] for name in found}, abs=0.035)


def test_runs_are_complete():
    assert len(SEEDS) >= 3
    assert set(RUNS) == {*rlhf.search_jobs(None, ARGUMENTS), *rlhf.main_jobs(None, ARGUMENTS, NUMBERS["chosen"])}


def test_all_start_alike_and_draw_as_many_samples():
    """Of a seed, whatever the algorithm, judge, beta or gamma: the student, who has not left itself."""
    for seed in SEEDS:
        runs = [run for key, run in of_prefix(*online_rl.JUDGES, "beta", "gamma").items() if key.endswith(f"_{seed}")]
        assert len(runs) == 16 and {tuple(run["samples"]) for run in runs} == {(0, 256, 512, 768, 1024, 1280)}
        for name in online_rl.MEASURES:
            assert len({run[name][0] for run in runs}) == 1
        assert all(run["kl"][0] == 0 for run in runs)


def test_step_sizes_are_those_that_the_search_found():
    """Each is the best of the same four, by the recorded objective; none lies at the end of the row."""
    for algorithm, rate in NUMBERS["chosen"].items():
        found = {r: RUNS[f"search_{algorithm}_{r:g}"] for r in rlhf.RATES}
        objective = {r: run["utility"][-1] - 0.05 * run["kl"][-1] for r, run in found.items()}
        assert rate == max(objective, key=objective.get) and min(rlhf.RATES) < rate < max(rlhf.RATES)
        runs = of_prefix(*(f"{judge}_{algorithm}_" for judge in online_rl.JUDGES)).values()
        assert {run["rate"] for run in runs} == {rate}


def test_iterations_are_kept():
    for key, run in of_prefix(*online_rl.JUDGES).items():
        kept = np.array([run["iterations"][name] for name in ("kl_previous", "reward", "ratio_max")])
        assert kept.shape == (3, 20) and np.isfinite(kept).all() and kept[0].min() >= 0, key

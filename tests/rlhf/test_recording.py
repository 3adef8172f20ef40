"""What chapter 8 shows as recorded: still that of the shipped model, whole, and fair."""

import numpy as np
import pytest

from afm_ref import assets
from afm_ref.lora import files
from afm_ref.pipeline import online
from experiments import rlhf

RECORDING = assets.recording("rlhf")
CONFIG, NUMBERS, SEEDS = RECORDING["config"], RECORDING["numbers"], RECORDING["seeds"]
RUNS = NUMBERS["runs"]
ARGUMENTS = rlhf.arguments([f"--held-out={CONFIG['held_out']}", f"--folder={CONFIG['folder']}"])


def of_prefix(*prefixes):
    return {key: run for key, run in RUNS.items() if key.startswith(prefixes)}


@pytest.mark.parametrize("held_out", [1, pytest.param(CONFIG["held_out"], marks=pytest.mark.slow)])
def test_a_cell_is_recomputed(held_out, monkeypatch):
    """The shipped model's utility. Where a token is drawn otherwise, a response of 64 moves it by .016 at most.

    On the prompts of a seed; `slow` has the held-out ones as well. The prompts fill one batch: 64 rows are enough.
    """
    if held_out < CONFIG["held_out"]:
        monkeypatch.setattr("afm_ref.pipeline.bench.SAMPLE_ROWS", 2 * online.PROMPTS)
    bench = rlhf.bench_of(rlhf.arguments([f"--held-out={held_out}", f"--folder={CONFIG['folder']}"]))
    assert files.fingerprint(bench.base) == CONFIG["base"] and CONFIG["settings"] == str(online.SETTINGS)
    found = rlhf.base_run(bench, SEEDS[0])
    names = found if held_out == CONFIG["held_out"] else ["utility"]
    recorded = RUNS[f"base_{SEEDS[0]}"]
    assert {name: found[name] for name in names} == pytest.approx({name: recorded[name] for name in names}, abs=0.035)


def test_runs_are_complete():
    assert len(SEEDS) >= 3
    assert set(RUNS) == {*rlhf.search_jobs(None, ARGUMENTS), *rlhf.main_jobs(None, ARGUMENTS, NUMBERS["chosen"])}


def test_all_start_alike_and_draw_as_many_samples():
    """Of a seed, whatever the algorithm, judge, beta or gamma: the student, who has not left itself."""
    for seed in SEEDS:
        runs = [run for key, run in of_prefix(*online.JUDGES, "beta", "gamma").items() if key.endswith(f"_{seed}")]
        assert len(runs) == 16 and {tuple(run["samples"]) for run in runs} == {(0, 256, 512, 768, 1024, 1280)}
        for name in online.MEASURES:
            assert len({run[name][0] for run in runs}) == 1
        assert all(run["kl"][0] == 0 for run in runs)


def test_step_sizes_are_those_that_the_search_found():
    """Each is the best of the same four, by the recorded objective; none lies at the end of the row."""
    for algorithm, rate in NUMBERS["chosen"].items():
        objective = {
            r: run["utility"][-1] - 0.05 * run["kl"][-1]
            for r in rlhf.RATES
            for run in [RUNS[f"search_{algorithm}_{r:g}"]]
        }
        assert rate == max(objective, key=objective.get) and min(rlhf.RATES) < rate < max(rlhf.RATES)
        assert {run["rate"] for run in of_prefix(*(f"{judge}_{algorithm}_" for judge in online.JUDGES)).values()} == {
            rate
        }


def test_iterations_are_kept():
    for key, run in of_prefix(*online.JUDGES).items():
        assert all(len(run["iterations"][name]) == 20 for name in ("reward", "kl_previous", "ratio_max")), key
        assert np.isfinite(run["iterations"]["reward"]).all() and min(run["iterations"]["kl_previous"]) >= 0

"""What chapter 5 shows of pruning as recorded: whole, fair, and still what the code gives."""

import numpy as np
import pytest

from afm_ref import assets
from afm_ref.config import forward_flops_per_token, train_flops_per_token
from experiments import pruning

RECORDING = assets.recording("pruning")
CONFIG, NUMBERS, SEEDS = RECORDING["config"], RECORDING["numbers"], RECORDING["seeds"]
RUNS = NUMBERS["runs"]
GIVEN = ("seeds", "parent_steps", "mask_steps", "steps", "folder")
ARGUMENTS = pruning.arguments([f"--{name.replace('_', '-')}={CONFIG[name]}" for name in GIVEN])


def test_a_cell_is_recomputed():
    """How binary the recorded scores' masks are at every eps, and what sum each operator reaches."""
    seed, start = pruning.SHOWN
    run = RUNS[f"masks_{start}_{seed}"]
    found = pruning.by_eps(run["scores"])
    assert set(found) == set(run["by_eps"]) and np.shape(run["scores"]) == (pruning.PARENT.n_layers, pruning.WIDTH)
    for eps, row in run["by_eps"].items():
        assert found[eps] == pytest.approx(row, abs=2e-4)
        assert row["exact"] == pytest.approx(1, abs=1e-12) and 0.5 < row["truncated"] < 1.001


def test_runs_are_complete():
    assert len(SEEDS) >= 3 and list(range(CONFIG["first_seed"], CONFIG["first_seed"] + CONFIG["seeds"])) == SEEDS
    wanted = pruning.search_jobs(ARGUMENTS) | pruning.main_jobs(ARGUMENTS, NUMBERS["chosen"])
    assert set(RUNS) == set(wanted)
    assert CONFIG["student"] == pruning.STUDENT.to_dict() and CONFIG["parent_d_ff"] == 3 * CONFIG["student"]["d_ff"]


def test_arms_share_starts_and_steps():
    """Of a seed: the same number of steps; those of the same start have the same loss before the first one."""
    for seed in SEEDS:
        runs = {arm: RUNS[f"{arm}_{seed}"] for arm in pruning.ARMS}
        assert runs["scratch"]["all"][0] == runs["scratch_distilled"]["all"][0] == RUNS[f"long_{seed}"]["all"][0]
        assert runs["pruned"]["all"][0] == runs["pruned_distilled"]["all"][0]
        assert runs["pruned"]["all"][0] == RUNS[f"masks_activation_{seed}"]["sliced"]["all"]
        assert runs["sliced"]["all"][0] == RUNS[f"slices_{seed}"]["activation"]["all"]
        for run in runs.values():
            assert run["steps"] == RUNS[f"scratch_{SEEDS[0]}"]["steps"]
            assert (
                np.isfinite(run["all"] + run["english"]).all() and 0 <= min(run["accuracy"]) <= max(run["accuracy"]) < 1
            )
            assert (np.array(run["calibrated"]) <= np.array(run["all"]) + 1e-4).all()  # a temperature can only help


def test_step_sizes_are_those_that_the_search_found():
    """Each arm's own best of the same row, by accuracy; none lies at the end of the row."""
    chosen = NUMBERS["chosen"]
    for arm in pruning.ARMS[:4]:
        ends = {rate: RUNS[f"search_{arm}_{rate:g}"]["accuracy"][-1] for rate in pruning.RATES}
        assert chosen[arm] == max(ends, key=ends.get) and min(pruning.RATES) < chosen[arm] < max(pruning.RATES)
    assert chosen["sliced"] == chosen["pruned"]
    assert all(RUNS[f"{arm}_{seed}"]["rate"] == chosen[arm] for arm in pruning.ARMS for seed in SEEDS)


def test_compute_is_added_up():
    """FLOPs of every stage, from tokens and config; the longer runs from scratch cost what they are compared with."""
    tokens, cost = pruning.SEQ_LEN * pruning.ROWS, NUMBERS["flops"]
    parent = train_flops_per_token(pruning.PARENT, pruning.SEQ_LEN) * tokens
    assert cost["parent"] == parent * CONFIG["parent_steps"] and cost["masks"] == parent * CONFIG["mask_steps"]
    assert cost["teacher"] * 3 == pytest.approx(parent * CONFIG["steps"])
    assert forward_flops_per_token(pruning.PARENT, pruning.SEQ_LEN) > forward_flops_per_token(pruning.STUDENT, 128)
    together = {"long": cost["parent"] + cost["masks"] + cost["student"], "more": cost["student"] + cost["teacher"]}
    for key, flops in together.items():
        steps = NUMBERS["equal_steps"][key]
        assert abs(steps * cost["student_step"] - flops) <= cost["student_step"] / 2
        assert all(RUNS[f"{key}_{seed}"]["steps"][-1] == steps for seed in SEEDS)

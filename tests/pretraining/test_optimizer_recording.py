"""What chapter 3 shows of the optimizer as recorded: whole, fair, and still what the code gives."""

import itertools
import math
import platform
from functools import cache

import numpy as np
import pytest

from afm_ref import assets
from afm_ref.data import overlap, pretraining_text
from afm_ref.evaluation import mean_interval
from afm_ref.pretraining.mup_check import best_rate
from afm_ref.teaching.chapters.optimizer import best_rates, recorded_sweeps
from experiments import optimizer

RECORDING = assets.recording("optimizer")
CONFIG, RUNS, SEEDS = RECORDING["config"], RECORDING["numbers"]["runs"], RECORDING["seeds"]
ARGUMENTS = optimizer.arguments([f"--seeds={len(SEEDS)}", f"--held-out-rows={CONFIG['held_out_rows']}"])
SWEEPS = recorded_sweeps(RUNS)


@pytest.mark.slow
def test_a_cell_is_recomputed(monkeypatch):
    """The untrained model on the held-out rows. Their text is the standard library's, which changes with Python.

    The training side, which takes most of the time to make, does not move them: it is left as it was read.
    """
    monkeypatch.setattr(pretraining_text, "_generated", lambda *_: [])
    monkeypatch.setattr(overlap, "remove_shared", lambda documents, held_out: documents)
    monkeypatch.setattr(optimizer, "documents", cache(optimizer.documents.__wrapped__))  # no other test gets these
    same = RECORDING["versions"]["python"] == platform.python_version()
    found = optimizer.start_run(ARGUMENTS, min(CONFIG["widths"]))["loss"]
    assert found == pytest.approx(RUNS[f"start_{min(CONFIG['widths'])}"]["loss"], abs=1e-4 if same else 0.1)
    assert found == pytest.approx(math.log(2048) + 0.5, abs=0.1)  # logits of variance 1 add half a nat to a guess


def test_runs_are_complete():
    """At least three seeds, four widths and six rates; every row of rates has all seeds at each rate."""
    assert len(SEEDS) >= 3 and len(CONFIG["widths"]) >= 4 and set(optimizer.terms_jobs(ARGUMENTS)) <= set(RUNS)
    for sweep in SWEEPS.values():
        assert list(sweep) == sorted(CONFIG["widths"])
        for by_rate in sweep.values():
            assert len(by_rate) >= 6 and {len(losses) for losses in by_rate.values()} == {len(SEEDS)}
    for name in optimizer.PUBLISHED:
        assert {key.rsplit("_", 1)[1] for key in RUNS if key.startswith(f"{name}_")} == set(map(str, SEEDS))


def test_counting_is_recorded_and_pairs_beat_frequencies():
    """The yardsticks of the chapter: no run of a hundred steps reaches what counting the pairs of its tokens does."""
    for seed in SEEDS:
        counts = RUNS[f"counts_{seed}"]
        assert counts["pairs"] < min(r["loss"] for r in RUNS.values() if r["loss"]) < counts["loss"] < math.log(2048)


def test_no_best_rate_lies_at_the_end_of_its_row():
    """`best_rates` refuses one that does."""
    for sweep in SWEEPS.values():
        assert all(len(of_seeds) == len(SEEDS) for of_seeds in best_rates(sweep).values())
    for name, seed in itertools.product(optimizer.PUBLISHED, SEEDS):
        keys = [key for key in RUNS if key.startswith(f"{name}_") and key.endswith(f"_{seed}")]
        row = sorted((RUNS[key]["rate"], RUNS[key]["loss"]) for key in keys)
        assert row[0][0] < best_rate(*zip(*row, strict=True)) < row[-1][0]


def test_the_terms_are_compared_near_apples_best_rate():
    """Within a factor of two of it, and no norm came near the one from which a step is skipped."""
    best = np.mean(np.log2(best_rates(SWEEPS["standard"])[optimizer.TERMS_DIM]))
    assert abs(best - math.log2(optimizer.TERMS_RATE)) <= 1
    norms = [RUNS[f"whole_x{times}_{seed}"]["norm_max"] for times in optimizer.TIMES for seed in SEEDS]
    assert max(norms) < 100 / 2  # afm_optimizer's skip_norm
    at_rate = optimizer.key_of(f"standard_{optimizer.TERMS_DIM}", optimizer.TERMS_RATE, SEEDS[0])
    assert RUNS[at_rate]["loss"] == RUNS[f"whole_x1_{SEEDS[0]}"]["loss"]  # the same run, made twice


def test_the_best_rate_moves_less_in_mup_simple():
    """The claim of the chapter, paired by seed."""

    def slopes(name):
        best = best_rates(SWEEPS[name])
        return np.polyfit(np.log2(list(best)), np.log2(list(best.values())), 1)[0]  # of each seed

    assert mean_interval(slopes("mup_simple") - slopes("standard")).low > 0

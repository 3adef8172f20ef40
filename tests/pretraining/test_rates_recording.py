"""What chapter 3 shows as recorded: whole, comparable, and still what the code gives."""

import numpy as np
import pytest

from afm_ref import assets, transformer
from afm_ref.evaluation import total_loss
from afm_ref.teaching.chapters import optimizer as chapter
from experiments import rates

RECORDING = assets.recording("rates")
RUNS, SEEDS = RECORDING["numbers"]["runs"], RECORDING["seeds"]
ARGUMENTS = rates.arguments([])


def test_runs_are_complete():
    assert len(SEEDS) == 5 and set(RUNS) == set(rates.jobs(ARGUMENTS))


def test_no_best_rate_lies_at_the_end_of_its_row():
    """`best_rates` refuses one that does."""
    for sweep in chapter.recorded_sweeps(RUNS).values():
        assert list(sweep) == [32, 64, 128, 256]
        assert all(len(of_seeds) == len(SEEDS) for of_seeds in chapter.best_rates(sweep).values())


def test_from_width_64_on_all_pass_one_who_counts_pairs():
    for sweep in chapter.recorded_sweeps(RUNS).values():
        for by_rate in list(sweep.values())[1:]:
            assert min(np.mean(row) for row in by_rate.values() if None not in row) < RUNS["lines"]["bigram"]


@pytest.mark.slow
def test_cells_are_recomputed():
    """The lines, and the narrowest model's run at its best rate; the text is the standard library's, which changes."""
    assert rates.lines_run(ARGUMENTS) == pytest.approx(
        {name: RUNS["lines"][name] for name in ("unigram", "bigram")}, abs=0.03
    )
    recorded = RUNS["standard_32_-5_0"]
    found = rates.run(ARGUMENTS, "standard", 32, recorded["rate"], 0)
    assert found["loss"] == pytest.approx(recorded["loss"], abs=0.05)
    assert found["train_loss"][0] == pytest.approx(np.log(256), abs=0.2)


def test_an_untrained_model_knows_nothing_of_the_held_out_bytes():
    """The measure by itself: log 256, and half a nat for logits of variance 1."""
    cfg, loss, _ = rates.model(32)
    batch = rates.batch_of(np.random.default_rng(0).integers(0, 256, (4, 129), np.int32))
    found = np.divide(*total_loss(transformer.init(cfg, 0), loss, [batch], progress=False))
    assert found == pytest.approx(np.log(256) + 0.5, abs=0.15)

"""What chapter 7 shows as recorded: still that of the shipped model, and put together from its runs."""

import itertools
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest

from afm_ref import assets
from afm_ref.lora import files
from afm_ref.post_training import hybrid
from afm_ref.whole_road.bench import MAIN, TASKS, Bench
from afm_ref.whole_road.workshops import JUDGES
from experiments import _post_training, post_training

RECORDING = assets.recording("post_training")
CONFIG, RUNS, SEEDS = RECORDING["config"], RECORDING["numbers"]["runs"], RECORDING["seeds"]
ARGUMENTS = post_training.arguments([f"--held-out={CONFIG['held_out']}"])


@cache
def bench():
    """Return the recording's bench; not made where the tests are only collected."""
    return Bench(ARGUMENTS)


@pytest.mark.slow
def test_a_cell_is_recomputed():
    """The shipped model's utility. Another machine may draw a token otherwise; a response in a hundred moves it .01."""
    assert _post_training.base_run(bench())["utility"] == pytest.approx(RUNS["base"]["utility"], abs=0.01)


def test_the_base_is_the_shipped_model():
    assert files.fingerprint(assets.load_tiny()[0]) == CONFIG["base"]


def test_curation_is_recomputed():
    written = [record for record in hybrid.demonstrations() if record.task in TASKS]
    generations = [record for i in range(3) for record in hybrid.evolve(written, 10 * SEEDS[0] + i)]
    (_, before, after), *_ = RUNS[f"hybrid_all_{SEEDS[0]}"]["counts"]["evolved"]
    assert (before, after) == (len(generations), len(hybrid.without_copies(generations)))


def test_the_best_of_n_is_that_of_the_rewards():
    """Every pair of samples of a task's prompts, the better by reward taken (of equal ones, half of each)."""
    run, better = RUNS[f"reward_{MAIN}_{SEEDS[0]}"], []
    for p in np.flatnonzero(bench().task_of == "summarise"):
        judged = zip(run["rewards"][p], run["utilities"][p], strict=True)
        pairs = itertools.combinations(judged, 2)
        better += [a if r > s else b if r < s else (a + b) / 2 for (r, a), (s, b) in pairs]
    assert run["best_of"]["summarise"][1][0] == pytest.approx(np.mean(better), abs=2e-3)  # rewards are kept to 0.001


def test_runs_are_complete():
    assert len(SEEDS) >= 3 and set(RUNS) == set(post_training.jobs(SimpleNamespace(sizes=ARGUMENTS)))
    for judge, seed in itertools.product(JUDGES, SEEDS):
        rounds = RUNS[f"committee_{judge}_{seed}"]["rounds"]
        assert len(rounds) >= 3
        assert [sum(done["shares"]["all"].values()) for done in rounds] == pytest.approx([1] * len(rounds))

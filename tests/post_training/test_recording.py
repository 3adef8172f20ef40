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


@pytest.mark.parametrize("count", [1, pytest.param(len(TASKS), marks=pytest.mark.slow)])
def test_a_cell_is_recomputed(count, monkeypatch):
    """The shipped model's utility. Another machine may draw a token otherwise; a response in a hundred moves it .01.

    On the first tasks alone its samples are the same: they do not depend on what stands beside or behind them.
    """
    assert files.fingerprint(bench().base) == CONFIG["base"]
    names = [*TASKS][:count]
    first = int(np.isin(bench().task_of, names).sum())
    monkeypatch.setattr(bench(), "held_out", bench().held_out[:first])
    monkeypatch.setattr(bench(), "task_of", bench().task_of[:first])
    found = _post_training.base_run(bench())["utility"]
    if count == len(TASKS):
        names += ["taught", "all"]
    recorded = RUNS["base"]["utility"]
    assert {name: found[name] for name in names} == pytest.approx({name: recorded[name] for name in names}, abs=0.01)


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

"""What chapter 10 shows as recorded: still that of the shipped models, put together from its runs."""

from types import SimpleNamespace

import pytest

from afm_ref import assets
from afm_ref.lora import files
from experiments import committee, judges

RECORDINGS = {of.__name__.rpartition(".")[2]: of for of in (judges, committee)}


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_recording_is_complete_and_of_the_shipped_model(name):
    recorded, script = assets.recording(name), RECORDINGS[name]
    assert recorded["config"]["base"] == files.fingerprint(assets.load_instruct()[0])
    assert set(recorded["numbers"]["runs"]) == set(script.jobs(SimpleNamespace(), script.arguments([])))


def test_the_best_of_one_is_a_sample_of_the_start_whoever_judges():
    runs = assets.recording("judges")["numbers"]["runs"]
    assert len({run["best_of"][0] for run in runs.values()}) == 1
    assert [run["accuracy"] for key, run in runs.items() if key.startswith("utility_")] == [1] * 5


def test_the_best_teacher_is_the_one_that_the_judge_likes_best():
    for key, run in assets.recording("committee")["numbers"]["runs"].items():
        if key != "start":
            assert run["best_teacher"] == max(run["judged"], key=run["judged"].get)
            assert set(run["students"]) == set(run["taught"]) and set(run["members"]) == set(run["judged"])


@pytest.mark.slow
def test_cells_are_recomputed(tmp_path):
    """The judge of 80 prompts, whose pool begins as that of 5,000, on the start's samples; both made anew.

    Another machine may draw a token otherwise: a hundredth is far below what judges differ by.
    """
    bench = judges.Bench(judges.arguments(["--models", str(tmp_path), "--prompts", "80"]))
    groups, judged = bench.best_of()
    rewards = bench.score(judges.trained(bench, 80, 0), bench.held_out, groups)
    recorded = assets.recording("judges")["numbers"]["runs"]["80_0"]
    assert judges.accuracy(rewards, judged) == pytest.approx(recorded["accuracy"], abs=0.01)
    assert judges.curve(rewards, judged) == pytest.approx(recorded["best_of"], abs=0.01)
    held_out = bench.records(150, 10_300, "held_out")  # the committee's
    start = assets.recording("committee")["numbers"]["runs"]["start"]["utility"]
    assert bench.measured(bench.params, held_out, 8)["utility"] == pytest.approx(start, abs=0.01)

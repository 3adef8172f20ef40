"""Online RL on the bench, and its command: what is measured, whose reward is followed, what is left on disk."""

from functools import partial

import numpy as np
import pytest

from afm_ref import assets
from afm_ref.__main__ import main
from afm_ref.interop import hugging_face
from afm_ref.losses import token_log_probs
from afm_ref.post_training import utility
from afm_ref.post_training.rows import conversation
from afm_ref.transformer import forward
from afm_ref.whole_road import online_rl
from afm_ref.whole_road.bench import Bench, BenchSizes
from afm_ref.whole_road.recipes import adam, afm, warmup
from tests.whole_road import small


def test_a_run_of_one_step_moves():
    assert [warmup(steps) for steps in (1, 2, 19, 20, 100)] == [0, 1, 1, 2, 10]
    for recipe in (adam, afm):
        optimizer, weights = recipe(0.1, 1), {"w": np.ones((2, 2), np.float32)}
        change, _ = optimizer.update(weights, optimizer.init(weights), weights)
        assert np.all(change["w"] < 0)


@pytest.fixture(scope="module")
def bench():
    """A small model as its own student, and a reward model that nobody trained."""
    with small.model(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bench, "student", lambda self, seed=0: self.base)
        yield Bench(BenchSizes(held_out=2))


def other(bench):
    return bench.base._replace(final_norm=1.1 * bench.base.final_norm)


def log_probability(params, cfg, conversation):
    """Return log pi(y|x) of one conversation alone: NumPy, no padding, no batch."""
    logits = forward(params, conversation.tokens[None, :-1], cfg)
    return token_log_probs(logits, conversation.tokens[None, 1:])[0, conversation.response_start - 1 :].sum()


def test_measures_by_hand(bench):
    """Those of a policy on the very responses that it gives, one at a time; of the reference itself the KL is 0."""
    on, policy = online_rl.course(bench, 3, 2), other(bench)
    found = online_rl.measured(bench, policy, on)
    groups = bench.sample(policy, on.records, 2, 81)
    said = [(record, y) for record, group in zip(on.records, groups, strict=True) for y in group]
    assert len(said) == 4 and len({record.task for record in on.records}) == 2
    assert found["utility"] == pytest.approx(np.mean([utility(record, y) for record, y in said]))
    chats = [conversation(bench.tok, record.prompt, y) for record, y in said]
    kls = [log_probability(policy, bench.cfg, c) - log_probability(bench.base, bench.cfg, c) for c in chats]
    assert found["kl"] == pytest.approx(np.mean(kls), abs=2e-3)  # sums of float32
    assert online_rl.measured(bench, bench.base, on)["kl"] == 0.0
    assert found == online_rl.measured(bench, policy, on)  # common random numbers


def test_the_judge_is_the_one_that_is_asked_for(bench):
    """The first iteration's samples are the same: to one judge they have utilities, to the other numbers near 0."""
    rewards, how = {}, dict(iterations=1, settings=online_rl.SETTINGS, measure_every=1, progress=False)
    for judge in online_rl.JUDGES:
        done = online_rl.learn(bench, 3, judge=judge, **how)
        rewards[judge] = done.history.evaluation("reward")[1][0]
        curve = online_rl.curve(done.history)
        assert curve["samples"] == [0, 8] and curve["kl"][0] == 0 and set(curve) == {"samples", *online_rl.MEASURES}
    assert 0 <= rewards["utility"] <= 1 and abs(rewards["reward model"]) < 0.3
    assert rewards["utility"] != rewards["reward model"]
    with pytest.raises(ValueError, match="judge must be one of"):
        online_rl.learn(bench, 3, judge="nobody")


def test_the_command_resumes_and_draws(bench, tmp_path, monkeypatch, capsys):
    """A run of two iterations; called again it is done at once, and says the same."""
    monkeypatch.setattr("afm_ref.whole_road.bench.Bench", partial(Bench, bench.sizes))
    line = ["rlhf", "--judge", "utility", "--iterations", "2", "--n", "2", "--prompts", "2", "--inner-steps", "2"]
    line += ["--folder", str(tmp_path / "run"), "--bench", str(tmp_path / "bench"), "--seed", "3"]
    assert main(line) == 0
    first, told = capsys.readouterr()
    chosen, _ = assets.recording("mdloo")["numbers"]["chosen"]["mdloo"]
    assert f"learning rate {chosen:g}" in told and "8 samples" in first
    written = (tmp_path / "run" / "history.json").read_bytes()
    assert main(line) == 0
    assert capsys.readouterr().out == first and (tmp_path / "run" / "history.json").read_bytes() == written
    policy, cfg = hugging_face.load(tmp_path / "run" / "policy")
    assert cfg == bench.cfg and (policy.embed != bench.base.embed).any()
    assert (tmp_path / "run" / "curves.png").stat().st_size > 2000
    # another algorithm in the same folder would go on from there: it is refused
    assert main([*line, "--algorithm", "rloo"]) == 2
    assert "another run" in capsys.readouterr().err

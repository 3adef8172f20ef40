"""The whole loop with real, tiny models: what is trained, from what, and that a foreign member joins as a function."""

import jax
import numpy as np
import optax
import pytest

from afm_ref.data import tasks
from afm_ref.post_training import committee, members, sft
from afm_ref.post_training.members import Workshop
from afm_ref.post_training.reward_model import init_reward_model
from afm_ref.transformer import init
from tests.post_training.models import TEXT_CFG, tokenizer

TOK = tokenizer()


def distance(a, b):
    return max(jax.tree.leaves(jax.tree.map(lambda x, y: float(np.abs(np.asarray(x) - np.asarray(y)).max()), a, b)))


def test_a_round_with_real_models(monkeypatch):
    """SFT writes down what it is given: the real one compiles, and test_sft has it."""
    tuned = []
    monkeypatch.setattr(Workshop, "fine_tune", lambda _, policy, given, seed: tuned.append((policy, given)) or policy)
    records = {record.prompt: record for record in tasks.records("sums", 6)}
    prompts, student, seen = list(records), init(TEXT_CFG, 0), []
    sizes = dict(batch_size=2, sample_rows=8, row_length=32, max_new_tokens=12)
    shop = Workshop(TEXT_CFG, TOK, records, lambda steps: optax.sgd(0.1), steps=1, reward_steps=1, **sizes)

    def foreign(situation):
        seen.append(situation)
        return situation.student

    demonstrations = sft.examples_of(list(records.values()), TOK)
    ours = {"sft": shop.sft(demonstrations), "rs": shop.rejection(2), "dpo": shop.preference("dpo", 0.1)}
    reward = init_reward_model(student, TEXT_CFG)
    (done,) = committee.run(ours | {"foreign": foreign}, student, reward, shop.tools(), prompts, rounds=1, n=2)
    assert list(done.committee) == [*ours, "foreign"] and done.pool.rewards.shape == (4, len(prompts), 2)
    assert seen[0].reward is done.reward and seen[0].student is student
    assert 0 < len(seen[0].preferences) == done.preferences
    assert distance(done.committee["foreign"], student) == 0
    for changed, before in ((done.committee["dpo"], student), (done.reward, reward)):
        assert 0 < distance(changed, before) < 1  # one step of SGD
    (_, given), (_, sampled), (_, distilled) = tuned
    assert given == demonstrations and [prompt for prompt, _ in sampled] == prompts
    best = shop.score(done.reward, prompts, [[response] for _, response in distilled])
    np.testing.assert_allclose(np.ravel(best), done.pool.rewards.max(axis=(0, 2)), rtol=1e-4, atol=1e-6)  # float32


def test_the_newest_preferences_are_taken(monkeypatch):
    given = []
    monkeypatch.setattr(members, "pairs_of", lambda preferences, *_: given.append(list(preferences)) or 1 / 0)
    shop = Workshop(TEXT_CFG, TOK, {}, optax.sgd)
    situation = committee.Situation(None, None, list("abcd"), [], 0, 0)
    for newest in (0, 3):
        with pytest.raises(ZeroDivisionError):
            shop.preference("dpo", 0.1, newest)(situation)
    assert given == [list("abcd"), list("bcd")]

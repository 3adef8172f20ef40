"""Online RL as a member of the committee: it learns from what the round's situation holds."""

import dataclasses

import jax
import numpy as np
import optax

from afm_ref.post_training.committee import Situation
from afm_ref.post_training.members import Workshop
from afm_ref.rlhf import Settings, member, run
from afm_ref.transformer import init
from tests.post_training.models import TEXT_CFG, tokenizer

PROMPTS = ["2 + 3 =", "Where is the picnic?", "4 + 4 =", "Who?"]
SETTINGS = Settings(K=2, prompts=3, inner_steps=2)


class Shop(Workshop):
    """A workshop whose rewards are numbers that the "reward model" names: the real one compiles, and has its tests."""

    def score(self, reward, prompts, groups):
        return [[reward * len(set(response.tokens)) for response in group] for group in groups]


def test_online_rl_joins_the_committee():
    """The situation's student, reward, prompts and seed are used, and nothing else: the same run by hand is equal."""
    student, steps = init(TEXT_CFG, 0), []
    sizes = dict(batch_size=2, sample_rows=8, row_length=32, max_new_tokens=12)
    shop = Shop(TEXT_CFG, tokenizer(), {}, lambda n: steps.append(n) or optax.sgd(0.1), **sizes)
    situation = Situation(student, 0.3, [], PROMPTS, 0, 7)
    policy = member(shop, 2, "mdloo", SETTINGS)(situation)
    by_hand = run(
        student, TEXT_CFG, shop.tokenizer, PROMPTS, lambda p, g: shop.score(0.3, p, g), optax.sgd(0.1), 2,
        settings=dataclasses.replace(SETTINGS, max_new_tokens=12, row_length=32, batch_size=8), seed=7, progress=False,
    ).policy  # fmt: skip
    leaves = list(zip(*(jax.tree.leaves(tree) for tree in (policy, by_hand, student)), strict=True))
    assert all(np.array_equal(one, other) for one, other, _ in leaves)
    assert any(np.abs(one - before).max() > 1e-5 for one, _, before in leaves)
    assert steps == [4]  # the optimizer is told of all steps: two iterations of two

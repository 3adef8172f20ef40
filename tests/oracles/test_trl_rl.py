"""RLOO and GRPO against TRL's trainers, on transformers' Qwen3 in float64."""

import numpy as np
import pytest

from afm_ref.post_training.rows import pad, response_log_probs
from afm_ref.rlhf import Experience, advantages
from afm_ref.rlhf.mdloo import grpo_loss, rloo_loss
from tests.interop.models import QWEN3
from tests.oracles import peers, trl_rl_peer
from tests.oracles.trl_rl_peer import BETA, EPSILON, P, n, nearby, transformers_model
from tests.post_training.models import chats, float64

ROWS = pad(chats(P * n, 3, QWEN3))
REWARDS = np.random.default_rng(4).standard_normal((P, n))


def ours(params):
    """Return experience of our own: log-probabilities of the models that TRL is given."""
    old, reference = (response_log_probs(float64(p), ROWS, QWEN3) for p in params[1:])
    R = advantages.penalised_reward(REWARDS.reshape(-1), old.sum(-1), reference.sum(-1), BETA).reshape(P, n)
    return Experience(ROWS, old, reference, advantages.leave_one_out(R).reshape(-1))


def test_rloo(trl, tmp_path):
    """From responses and rewards to the loss: penalty, advantages, ratios of whole responses, clip."""
    params = nearby(QWEN3)
    batch = ours(params)
    with peers.exact_torch():
        models = [transformers_model(p, QWEN3, tmp_path / str(i)) for i, p in enumerate(params)]
        theirs, want = trl_rl_peer.rloo(*models, ROWS, REWARDS, BETA, EPSILON)
    np.testing.assert_allclose(batch.advantages, theirs, rtol=1e-9)  # float64 through two layers
    total, count = rloo_loss(float64(params[0]), batch, QWEN3, EPSILON)
    assert total / count == pytest.approx(want, rel=1e-9)
    unclipped, _ = rloo_loss(float64(params[0]), batch, QWEN3, 1e9)
    assert unclipped / count != pytest.approx(want, rel=1e-2)  # the clip is felt


def test_grpo(trl, tmp_path):
    """The loss, and the standard deviation that its advantages are divided by."""
    params = nearby(QWEN3)
    A = advantages.standardised(REWARDS)
    centred = REWARDS - REWARDS.mean(axis=1, keepdims=True)
    batch = ours(params)._replace(advantages=A.reshape(-1))
    with peers.exact_torch():
        spread = trl_rl_peer.group_std(REWARDS)
        model = transformers_model(params[0], QWEN3, tmp_path)
        want = trl_rl_peer.grpo_loss(model, ROWS, batch.old, batch.reference, batch.advantages, BETA, EPSILON)
    np.testing.assert_allclose(A, centred / (spread[:, None] + 1e-4), rtol=1e-6)  # theirs passes through float32
    total, count = grpo_loss(float64(params[0]), batch, QWEN3, EPSILON, BETA)
    assert total / count == pytest.approx(want, rel=1e-9)

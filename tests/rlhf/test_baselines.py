"""The algorithms that MDLOO is compared with: where they agree with it, where their gradients vanish, and by hand."""

from functools import partial

import jax
import numpy as np
import pytest

from afm_ref.post_training.pairs import Pairs
from afm_ref.post_training.policy import response_log_probs
from afm_ref.post_training.preference_losses import preference_loss
from afm_ref.post_training.shared import share
from afm_ref.rlhf import baselines
from afm_ref.rlhf.baselines import (
    ActorCritic,
    clipped,
    dpo_loss,
    grpo_loss,
    k3,
    ppo_loss,
    reinforce_loss,
    rloo_loss,
    values,
)
from afm_ref.rlhf.iterate import ALGORITHMS
from afm_ref.rlhf.mdloo import divergence, mdloo_loss
from tests.rlhf.models import (
    PRESENT,
    PREVIOUS,
    PROMPT,
    REFERENCE,
    REWARD,
    ROWS,
    SAID,
    SMALL,
    experience,
    gradient,
    weighted,
)

RNG = np.random.default_rng(5)
D, B = SMALL.d_model, len(REWARD)
CRITIC = (REFERENCE, RNG.standard_normal(D), np.array(0.3))
TARGETS = RNG.standard_normal((2, B, ROWS.tokens.shape[1] - 1))  # PPO's advantages and returns
BATCH = experience(REWARD)
PPO_BATCH = experience(TARGETS[0], returns=TARGETS[1])


def test_clip_has_no_slope_where_it_should_not():
    """None where rho went more than epsilon the way that A wants; the full slope, rho A, everywhere else."""
    rho, A = (grid.reshape(-1) for grid in np.meshgrid([0.5, 0.79, 0.81, 1.0, 1.19, 1.21, 2.0], [-1.5, 2.0]))
    with jax.enable_x64(True):
        slopes = jax.grad(lambda x: clipped(x, A, 0.2).sum())(jax.numpy.log(rho))
    gone = ((rho > 1.2) & (A > 0)) | ((rho < 0.8) & (A < 0))
    np.testing.assert_allclose(slopes, np.where(gone, 0.0, rho * A), rtol=1e-12)
    assert gone.sum() == 4


def test_k3_is_kl():
    p, q = RNG.dirichlet(np.ones(7), 2)
    shares = k3(np.log(p / q))
    assert p @ shares == pytest.approx(p @ np.log(p / q), rel=1e-12) and shares.min() > 0
    np.testing.assert_allclose(divergence(np.log(p / q)), p / q * shares, rtol=1e-9)  # the same, seen from q


def test_all_gradients_agree_at_the_previous_iterate():
    """RLOO, MDLOO and REINFORCE first differ in the second step: at pi_k no ratio, clip or divergence is felt.

    So 0.3 of the one and 0.7 of the other less the third have no slope: in one compilation, and nothing cancels.
    """

    def difference(params, batch, cfg):
        parts = (0.3, rloo_loss), (0.7, mdloo_loss), (-1.0, reinforce_loss)
        return sum(weight * loss(params, batch, cfg)[0] for weight, loss in parts), 1

    slopes = [gradient(weighted(difference), params, BATCH, np.ones(B)) for params in (PREVIOUS, PRESENT)]
    assert np.abs(slopes[0]).max() < 1e-12 * np.abs(slopes[1]).max()


def test_grpo_by_hand():
    """A mean over each response's tokens, whatever their number, less k3 to the reference."""
    total, count = grpo_loss(PRESENT, BATCH, SMALL, epsilon=0.3, beta=0.2)
    log_probs, want = response_log_probs(PRESENT, ROWS, SMALL), 0.0
    for b in range(B):
        tokens = np.flatnonzero(ROWS.response[b, 1:])
        each = [_grpo_token(log_probs[b, t], BATCH.old[b, t], BATCH.reference[b, t], REWARD[b]) for t in tokens]
        want -= sum(each) / len(each)
    assert count == B and total == pytest.approx(want, rel=1e-12)


def test_dpo_is_that_of_chapter_7():
    """Three prompts of four responses, as chapter 7's pairs; with equal rewards there is no slope, and log 2."""
    numbers, signs = np.arange(12), np.array([1, 0, -1, 0, 0, -1, 0, 1, 0, 0, 0, 0.0])
    total, count = dpo_loss(PRESENT, experience(signs, numbers=numbers), SMALL, K=4, beta=0.3)
    which = np.array([[0, 7], [2, 5]])  # chosen, rejected
    rows, reference = ROWS.rows(which.reshape(-1)), response_log_probs(REFERENCE, ROWS, SMALL).sum(-1)[which]
    leaves = (leaf.reshape(2, 2, *leaf.shape[1:]) for leaf in rows)
    pairs = Pairs(*leaves, np.ones(2), np.zeros((2, 2, 4), int), reference)
    want, _ = preference_loss(PRESENT, pairs, SMALL, "dpo", 0.3)
    assert count == 3 and total == pytest.approx(want + np.log(2), rel=1e-12)


def _grpo_token(present, old, reference, A):
    rho, to_reference = np.exp(present - old), np.exp(reference - present)
    bounded = min(max(rho, 0.7), 1.3)
    return min(rho * A, bounded * A) - 0.2 * (to_reference - np.log(to_reference) - 1)


def test_ppo_by_hand():
    model = ActorCritic(PRESENT, *CRITIC)
    total, count = ppo_loss(model, PPO_BATCH, SMALL, epsilon=0.3, value_weight=0.7)
    log_probs, predicted, want = response_log_probs(PRESENT, ROWS, SMALL), values(model, ROWS, SMALL), 0.0
    for b, t in np.argwhere(ROWS.response[:, 1:]):
        rho, A = np.exp(log_probs[b, t] - PPO_BATCH.old[b, t]), TARGETS[0, b, t]
        want -= min(rho * A, min(max(rho, 0.7), 1.3) * A) - 0.7 * (predicted[b, t] - TARGETS[1, b, t]) ** 2
    assert count == ROWS.response.sum() and total == pytest.approx(want, rel=1e-12)
    start = baselines.init_actor_critic(PRESENT, SMALL)
    assert start.policy is PRESENT and not values(start, ROWS, SMALL).any()


def test_a_value_does_not_see_the_token_it_is_before():
    """Changing y_t changes the values after it alone."""
    model, changed = ActorCritic(PRESENT, *CRITIC), ROWS._replace(tokens=ROWS.tokens.copy())
    t = 4  # the second token of a response of two
    changed.tokens[:, t] = (ROWS.tokens[:, t] + 1) % SMALL.vocab_size
    before, after = (values(model, rows, SMALL) for rows in (ROWS, changed))
    assert (before[:, :t] == after[:, :t]).all() and (before[:, t] != after[:, t]).all()


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_losses_are_the_same_over_shared_rows(name):
    """Whether all responses hang on one prompt or each has its own copy of it, the value is the same in float64."""
    ppo, tokens = name == "ppo", [[*map(int, y)] for y in SAID]
    model, batch = (ActorCritic(PRESENT, *CRITIC), PPO_BATCH) if ppo else (PRESENT, BATCH)
    rows, at = share([PROMPT], [tokens], len(PROMPT) + 1, 2), slice(len(PROMPT) - 1, len(PROMPT) + 1)
    each = {field: getattr(batch, field)[:, at] for field in ("old", "reference")}
    if ppo:
        each |= {field: getattr(batch, field)[:, at] for field in ("advantages", "returns")}
    loss = partial(dpo_loss, K=B) if name == "dpo" else ALGORITHMS[name].loss
    (got, n), (want, count) = (loss(model, b, SMALL) for b in (batch._replace(rows=rows, **each), batch))
    assert n == count and got == pytest.approx(want, rel=1e-10)


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_padding_and_prompt_leak_nowhere(name):
    """Other tokens in the padding, other numbers outside the response, longer rows: the same loss, bit for bit."""
    ppo = name == "ppo"
    model, batch = (ActorCritic(PRESENT, *CRITIC), PPO_BATCH) if ppo else (PRESENT, BATCH)
    outside = ~ROWS.response[:, 1:]
    tokens = np.where(np.arange(6) < ROWS.lengths[:, None], ROWS.tokens, 2)
    dirty = batch._replace(rows=ROWS._replace(tokens=tokens.astype(np.int32)))
    if ppo:
        fields = {field: np.where(outside, 1e6, getattr(batch, field)) for field in ("advantages", "returns")}
        dirty = dirty._replace(**fields)
    loss = partial(dpo_loss, K=B) if name == "dpo" else ALGORITHMS[name].loss
    assert (tokens != ROWS.tokens).any()
    assert [float(x) for x in loss(model, dirty, SMALL)] == [float(x) for x in loss(model, batch, SMALL)]

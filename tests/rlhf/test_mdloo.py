"""MDLOO against its definition: every response is listed, and the objective differentiated as it stands."""

import itertools
from functools import partial

import jax
import numpy as np
import pytest

from afm_ref.post_training.losses import preference_loss
from afm_ref.post_training.rows import response_log_probs, sequence_log_probs, share, take
from afm_ref.rlhf import advantages
from afm_ref.rlhf.mdloo import (
    ActorCritic,
    bregman,
    clipped,
    dpo_loss,
    grpo_loss,
    init_actor_critic,
    k3,
    mdloo,
    mdloo_loss,
    mdloo_per_token_loss,
    ppo_loss,
    reinforce_loss,
    rloo_loss,
    values,
)
from afm_ref.rlhf.train import ALGORITHMS
from tests.post_training.models import two_sided
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

GAMMA = 0.7
LOG_K = sequence_log_probs(PREVIOUS, ROWS, SMALL)
PI_K = np.exp(LOG_K)  # of all 13 responses
ADVANTAGE = REWARD - PI_K @ REWARD


def psi(params):
    """Return E_{y~pi} A - gamma KL(pi || pi_k), summed over all responses: no sampling, no ratio, no pi_k in front."""
    log_probs = sequence_log_probs(params, ROWS, SMALL)
    xp = log_probs.__array_namespace__()
    return (xp.exp(log_probs) * (ADVANTAGE - GAMMA * (log_probs - LOG_K))).sum()


def error(got, want):
    return np.linalg.norm(got - want) / np.linalg.norm(want)


def test_the_responses_are_all_there_are_and_the_policies_differ():
    present = np.exp(sequence_log_probs(PRESENT, ROWS, SMALL))
    assert PI_K.sum() == pytest.approx(1, rel=1e-12) and present.sum() == pytest.approx(1, rel=1e-12)
    assert {len(y) for y in SAID} == {1, 2} and present @ np.log(present / PI_K) > 0.1


def test_gradient_is_exact_by_enumeration():
    """Of the loss that is trained, away from pi_k: with exact advantages, and with leave-one-out ones of all pairs."""
    pairs = np.array([*itertools.product(range(len(SAID)), repeat=2)])
    weights = np.repeat(PI_K[pairs].prod(axis=1), 2) / 2
    for A in (ADVANTAGE[pairs], advantages.leave_one_out(REWARD[pairs])):
        batch = experience(A.reshape(-1), numbers=pairs.reshape(-1))
        got = -gradient(weighted(mdloo_loss, gamma=GAMMA), PRESENT, batch, weights)
        assert error(got, gradient(psi)) < 1e-12  # float64


def test_value_is_the_objective():
    sampled = mdloo(sequence_log_probs(PRESENT, ROWS, SMALL), LOG_K, ADVANTAGE, GAMMA)
    assert PI_K @ sampled == pytest.approx(psi(PRESENT), rel=1e-12)


def test_gradient_of_one_sample():
    """rho (A - gamma log rho), with nothing of mean 0 added; finite where rho underflows."""
    log_probs, old = np.array([-3.0, -1.0, -2.0, -900.0]), np.array([-2.0, -1.5, -2.0, -1.0])
    A = np.array([0.5, -1.0, 2.0, 1.0])
    with jax.enable_x64(True):
        got = jax.grad(lambda x: mdloo(x, old, A, GAMMA).sum())(jax.numpy.asarray(log_probs))
    log_rho = log_probs - old
    np.testing.assert_allclose(got, np.exp(log_rho) * (A - GAMMA * log_rho), rtol=1e-13, atol=1e-15)
    assert mdloo(log_probs, old, A, GAMMA)[-1] == -GAMMA  # an action given up costs its share of the divergence


def test_per_token_divergence_is_biased():
    """By more than a tenth here, 0.6 nats from pi_k; at pi_k both divergences are without slope, and both right."""
    expected = weighted(mdloo_per_token_loss, gamma=GAMMA)
    away, at_home = (
        error(-gradient(expected, params, experience(ADVANTAGE), PI_K), gradient(psi, params))
        for params in (PRESENT, PREVIOUS)
    )
    assert away > 0.1 and at_home < 1e-12


def test_divergence_is_kl():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(7), 2)
    shares = bregman(np.log(p / q))
    assert q @ shares == pytest.approx(p @ np.log(p / q), rel=1e-12) and shares.min() > 0
    assert bregman(np.zeros(1)) == 0


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
    np.testing.assert_allclose(bregman(np.log(p / q)), p / q * shares, rtol=1e-9)  # the same, seen from q


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
    rows, reference = take(ROWS, which.reshape(-1)), response_log_probs(REFERENCE, ROWS, SMALL).sum(-1)[which]
    pairs = two_sided(rows, np.ones(2), np.zeros((2, 2, 4), int), reference)
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
    start = init_actor_critic(PRESENT, SMALL)
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

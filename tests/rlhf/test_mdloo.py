"""MDLOO against its definition: every response is listed, and the objective differentiated as it stands."""

import itertools

import jax
import numpy as np
import pytest

from afm_ref.post_training.policy import sequence_log_probs
from afm_ref.rlhf import advantages
from afm_ref.rlhf.mdloo import divergence, mdloo, mdloo_loss, mdloo_per_token_loss
from tests.rlhf.models import PRESENT, PREVIOUS, REWARD, ROWS, SAID, SMALL, experience, gradient, weighted

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
    shares = divergence(np.log(p / q))
    assert q @ shares == pytest.approx(p @ np.log(p / q), rel=1e-12) and shares.min() > 0
    assert divergence(np.zeros(1)) == 0

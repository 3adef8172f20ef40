"""The bandit's closed forms against brute force: random search, iteration, all K-tuples."""

import itertools
from functools import partial

import numpy as np
import pytest

from afm_ref.rlhf import advantages, bandit

RNG = np.random.default_rng(0)
POLICY, REFERENCE = (bandit.normalised(RNG.standard_normal(5)) for _ in range(2))
REWARDS = RNG.standard_normal(5) + 2.0
BETA = 0.3


def best(goal, objective):
    """Return whether no policy near the goal, and none far from it, has a higher objective."""
    near = goal + np.array([[1e-3], [0.1], [3.0]])[:, None] * RNG.standard_normal((1000, 5))
    others = [bandit.normalised(scores) for scores in near.reshape(-1, 5)]
    return max(map(objective, others)) < objective(goal)


def kl(p, q):
    return np.exp(p) @ (p - q)


@pytest.mark.parametrize("gamma", [0.1, 1.0])
def test_one_step_is_the_maximiser(gamma):
    A = bandit.advantage(POLICY, REFERENCE, REWARDS, BETA)
    goal = bandit.maximiser(POLICY, A, gamma)
    assert np.exp(goal).sum() == pytest.approx(1, rel=1e-12)
    assert best(goal, lambda pi: np.exp(pi) @ A - gamma * kl(pi, POLICY))


def test_fixed_point_stays_and_is_best():
    goal = bandit.fixed_point(REFERENCE, REWARDS, BETA)
    after = bandit.iterates(goal, REFERENCE, REWARDS, BETA, 0.7, 3)
    np.testing.assert_allclose(after, np.tile(goal, (4, 1)), rtol=1e-12)
    assert best(goal, lambda pi: np.exp(pi) @ REWARDS - BETA * kl(pi, REFERENCE))


@pytest.mark.parametrize("gamma_over_beta", [5.0, 1.0, 0.7, 0.5, 0.45])
def test_iterates_approach_the_fixed_point_by_the_factor(gamma_over_beta):
    """Even, at once, swinging, swinging for ever, diverging."""
    goal, factor = bandit.fixed_point(REFERENCE, REWARDS, BETA), 1 - 1 / gamma_over_beta
    found = bandit.iterates(POLICY, REFERENCE, REWARDS, BETA, gamma_over_beta * BETA, 6)
    error = found - goal
    error -= error.mean(axis=1, keepdims=True)
    powers = factor ** np.arange(7.0)
    np.testing.assert_allclose(error, powers[:, None] * error[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(bandit.distance(found, goal), np.abs(powers) * np.ptp(POLICY - goal), atol=1e-10)


@pytest.mark.parametrize("K", [2, 3, 4])
def test_variances_by_enumeration(K):
    """All 5^K groups with their probabilities; the advantages are those of the module."""
    p = np.exp(POLICY)
    groups = np.array([*itertools.product(range(5), repeat=K)])
    weights, R = p[groups].prod(axis=1), REWARDS[groups]
    given = {"none": R, "true mean": R - p @ REWARDS, "leave one out": advantages.leave_one_out(R)}
    scores = np.eye(5)[groups] - p  # [groups, K, n]
    gradient = bandit.policy_gradient(POLICY, REWARDS)
    for name, A in given.items():
        estimates = (A[..., None] * scores).mean(axis=1)
        np.testing.assert_allclose(weights @ estimates, gradient, atol=1e-12)
        total = weights @ ((estimates - gradient) ** 2).sum(axis=1)
        assert bandit.gradient_variance(POLICY, REWARDS, K, name) == pytest.approx(total, rel=1e-10)
    mean_square = weights @ given["leave one out"] ** 2  # the mean is 0
    np.testing.assert_allclose(mean_square, bandit.advantage_variance(POLICY, REWARDS, K), rtol=1e-12)


def test_leave_one_out_helps_here_and_not_there():
    """Four samples of rewards with mean 0.9: it helps. Two of them, or the same rewards less their mean: it harms."""
    centred = REWARDS - np.exp(POLICY) @ REWARDS
    for rewards, K, low, high in ((REWARDS, 4, 0.5, 0.6), (REWARDS, 2, 1.0, 1.1), (centred, 4, 1.8, 1.9)):
        none, true, ours = (bandit.gradient_variance(POLICY, rewards, K, name) for name in bandit.BASELINES)
        assert low < ours / none < high and true < ours
    variance = partial(bandit.gradient_variance, POLICY, REWARDS)
    prices = [variance(K) / variance(K, "true mean") for K in (2, 4, 8)]
    np.testing.assert_allclose(prices, 1 + (prices[0] - 1) / np.array([1, 3, 7]), rtol=1e-12)  # 1 / (K - 1)


def test_sixteen_bits_are_widened_before_anything_is_summed():
    thin = [array.astype(np.float16) for array in (POLICY, REFERENCE, REWARDS)]
    for compute in (
        lambda *given: bandit.advantage(*given, BETA),
        lambda policy, _, rewards: bandit.policy_gradient(policy, rewards),
        lambda policy, _, rewards: bandit.advantage_variance(policy, rewards, 4),
        lambda policy, _, rewards: bandit.gradient_variance(policy, rewards, 4),
    ):
        np.testing.assert_allclose(compute(*thin), compute(*map(np.float64, thin)), rtol=1e-12)


def test_bad_requests_are_refused():
    for call, message in (
        (lambda: bandit.maximiser(POLICY, REWARDS, 0.0), "gamma must be above 0"),
        (lambda: bandit.fixed_point(REFERENCE, REWARDS, 0.0), "beta must be above 0"),
        (lambda: bandit.gradient_variance(POLICY, REWARDS, 1), "K of 2 or more"),
        (lambda: bandit.gradient_variance(POLICY, REWARDS, 4, "median"), "expected a baseline"),
    ):
        with pytest.raises(ValueError, match=message):
            call()

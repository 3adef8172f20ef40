"""The bandit's closed forms and advantages by brute force, enumeration and Monte Carlo; samples to a target by hand."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@pytest.mark.parametrize("n", [2, 3, 4])
def test_variances_by_enumeration(n):
    """All 5^n groups with their probabilities; the advantages are those of the module."""
    p = np.exp(POLICY)
    groups = np.array([*itertools.product(range(5), repeat=n)])
    weights, R = p[groups].prod(axis=1), REWARDS[groups]
    given = {"none": R, "true mean": R - p @ REWARDS, "leave one out": advantages.leave_one_out(R)}
    scores = np.eye(5)[groups] - p  # [groups, n, arms]
    gradient = bandit.policy_gradient(POLICY, REWARDS)
    for name, A in given.items():
        estimates = (A[..., None] * scores).mean(axis=1)
        np.testing.assert_allclose(weights @ estimates, gradient, atol=1e-12)
        total = weights @ ((estimates - gradient) ** 2).sum(axis=1)
        assert bandit.gradient_variance(POLICY, REWARDS, n, name) == pytest.approx(total, rel=1e-10)
    mean_square = weights @ given["leave one out"] ** 2  # the mean is 0
    np.testing.assert_allclose(mean_square, bandit.advantage_variance(POLICY, REWARDS, n), rtol=1e-12)


def test_leave_one_out_helps_here_and_not_there():
    """Four samples of rewards with mean 0.9: it helps. Two of them, or the same rewards less their mean: it harms."""
    centred = REWARDS - np.exp(POLICY) @ REWARDS
    for rewards, n, low, high in ((REWARDS, 4, 0.5, 0.6), (REWARDS, 2, 1.0, 1.1), (centred, 4, 1.8, 1.9)):
        none, true, ours = (bandit.gradient_variance(POLICY, rewards, n, name) for name in bandit.BASELINES)
        assert low < ours / none < high and true < ours
    variance = partial(bandit.gradient_variance, POLICY, REWARDS)
    prices = [variance(n) / variance(n, "true mean") for n in (2, 4, 8)]
    np.testing.assert_allclose(prices, 1 + (prices[0] - 1) / np.array([1, 3, 7]), rtol=1e-12)  # 1 / (n - 1)


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
        (lambda: bandit.gradient_variance(POLICY, REWARDS, 1), "n of 2 or more"),
        (lambda: bandit.gradient_variance(POLICY, REWARDS, 4, "median"), "expected a baseline"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


KINDS = (advantages.none, advantages.mean_baseline, advantages.leave_one_out, advantages.standardised)


def test_advantages_by_hand():
    R = np.array([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]])
    assert advantages.none(R).tolist() == R.tolist()
    np.testing.assert_allclose(advantages.mean_baseline(R), [[-2, -1, 3], [-1, -1, 2]])
    others = [[R[p, i] - np.delete(R[p], i).mean() for i in range(3)] for p in range(2)]
    np.testing.assert_allclose(advantages.leave_one_out(R), others)
    np.testing.assert_allclose(others, [[-3, -1.5, 4.5], [-1.5, -1.5, 3]])
    assert advantages.best_against_worst([*R, [2, 2, 2]]).tolist() == [[-1, 0, 1], [-1, 0, 1], [0, 0, 0]]
    standardised = [(R[0] - 3) / 7**0.5, (R[1] - 1) / 3**0.5]
    np.testing.assert_allclose(advantages.standardised(R, 0.0), standardised)


def test_leave_one_out_is_unbiased():
    """100,000 groups of 3 from a bandit: the gradient's mean within 4.5 standard errors, which are known beforehand.

    The mean over all three is short by a third, which is many standard errors.
    """
    n, N, rng = 3, 100_000, np.random.default_rng(1)
    policy, rewards = bandit.normalised(rng.standard_normal(4)), rng.standard_normal(4)
    drawn = rng.choice(4, (N, n), p=np.exp(policy))
    scores = np.eye(4)[drawn] - np.exp(policy)
    exact = bandit.policy_gradient(policy, rewards)
    error = math.sqrt(bandit.gradient_variance(policy, rewards, n) / N)  # of the whole vector
    means = {f: (f(rewards[drawn])[..., None] * scores).mean(axis=(0, 1)) for f in KINDS[1:3]}
    assert np.linalg.norm(means[advantages.leave_one_out] - exact) < 4.5 * error
    assert np.linalg.norm(means[advantages.mean_baseline] - (n - 1) / n * exact) < 4.5 * error
    assert np.linalg.norm(means[advantages.mean_baseline] - exact) > 20 * error


def test_penalised_reward_is_the_objective():
    """Its mean under pi is the mean reward less beta KL(pi || pi_ref)."""
    rng = np.random.default_rng(2)
    (p, q), r = rng.dirichlet(np.ones(6), 2), rng.standard_normal(6)
    R = advantages.penalised_reward(r, np.log(p), np.log(q), 0.3)
    assert p @ R == pytest.approx(p @ r - 0.3 * np.sum(p * np.log(p / q)), rel=1e-12)


def test_returns_to_go():
    """By hand: every token pays from there on; the first return is the penalised reward; padding owes nothing."""
    ratios = np.array([[0.0, 1.0, -2.0, 0.5, 0.0], [0.0, 0.0, 4.0, 0.0, 0.0]])
    G = advantages.returns_to_go(np.array([10.0, 1.0]), ratios, 0.1)
    np.testing.assert_allclose(G[0, 1:4], [10.05, 10.15, 9.95])
    np.testing.assert_allclose(G[1], [0.6, 0.6, 0.6, 1.0, 1.0])
    assert G[0, 1] == pytest.approx(float(advantages.penalised_reward(10.0, ratios[0].sum(), 0.0, 0.1)))


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9))
def test_standardised_is_bounded(rewards):
    n, A = len(rewards), advantages.standardised([rewards])
    bound = (n - 1) / math.sqrt(n)
    assert np.abs(A).max() <= bound * (1 + 1e-9)  # rounding
    one_apart = advantages.standardised([[5.0] + [2.0] * (n - 1)], epsilon=0.0)
    assert one_apart[0, 0] == pytest.approx(bound, rel=1e-12)  # reached
    noise = 0.01 * np.random.default_rng(3).standard_normal((9, 4))  # it becomes as large as what is in earnest
    np.testing.assert_allclose(advantages.standardised(noise, 0.0), advantages.standardised(100 * noise, 0.0))


@pytest.mark.parametrize("value", [0.1, 7.3e5])
def test_equal_rewards_teach_nothing(value):
    """Their mean is rounded, so the deviations are not all 0; they must not be blown up."""
    for kind in KINDS[1:]:
        assert np.abs(kind(np.full((2, 3), value))).max() < 1e-5
    tiny = advantages.standardised(np.full((1, 3), 0.1), epsilon=0.0)
    assert np.abs(tiny).max() > 0.1  # as here, without epsilon


def test_bad_rewards_are_refused():
    for kind in KINDS:
        for rewards in ([[1.0, np.nan]], [[1.0, -np.inf]], [1.0, 2.0], np.zeros((0, 2))):
            with pytest.raises(ValueError, match="finite numbers"):
                kind(rewards)
    for kind in KINDS[1:]:
        with pytest.raises(ValueError, match="at least 2"):
            kind([[1.0], [2.0]])
    assert advantages.none([[1], [2]]).tolist() == [[1.0], [2.0]]

"""Advantages by hand, by enumeration and by Monte Carlo; what standardising does to noise; what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afm_ref.rlhf import advantages, bandit

KINDS = (advantages.none, advantages.mean_baseline, advantages.leave_one_out, advantages.standardised)


def test_by_hand():
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
    K, N, rng = 3, 100_000, np.random.default_rng(1)
    policy, rewards = bandit.normalised(rng.standard_normal(4)), rng.standard_normal(4)
    drawn = rng.choice(4, (N, K), p=np.exp(policy))
    scores = np.eye(4)[drawn] - np.exp(policy)
    exact = bandit.policy_gradient(policy, rewards)
    error = math.sqrt(bandit.gradient_variance(policy, rewards, K) / N)  # of the whole vector
    means = {f: (f(rewards[drawn])[..., None] * scores).mean(axis=(0, 1)) for f in KINDS[1:3]}
    assert np.linalg.norm(means[advantages.leave_one_out] - exact) < 4.5 * error
    assert np.linalg.norm(means[advantages.mean_baseline] - (K - 1) / K * exact) < 4.5 * error
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
    K, A = len(rewards), advantages.standardised([rewards])
    bound = (K - 1) / math.sqrt(K)
    assert np.abs(A).max() <= bound * (1 + 1e-9)  # rounding
    one_apart = advantages.standardised([[5.0] + [2.0] * (K - 1)], epsilon=0.0)
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

"""Soft top-k: the sum is k, found again by bisection; limits, order, derivatives; the truncated iteration beside it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref.pretraining.pruning.top_k import coordinate_descent, hard_top_k, soft_top_k, solve

SCORES = np.random.default_rng(0).normal(size=(3, 20))


def by_bisection(scores, k, eps):
    """Return the weights of one row with the threshold bisected until float64 ends: no sorting, no closed form."""
    low, high = -scores.max() - 800 * eps, -scores.min()  # sum about 0; every entry 1
    for _ in range(300):
        middle = (low + high) / 2
        total = np.minimum(1, np.exp(np.minimum((scores + middle) / eps, 0))).sum()
        low, high = (middle, high) if total < k else (low, middle)
    return np.exp(np.minimum((scores + high) / eps, 0))


def test_by_hand():
    """Scores in units of eps: ln 8, ln 2, 0, 0, k = 2. Nobody clipped: the sum of exp is 12, the first would be 16/12.

    So c = 1: the others share 1 in proportion 2 : 1 : 1, and a = -ln 4.
    """
    s = 0.5 * np.log([8.0, 2.0, 1.0, 1.0])
    np.testing.assert_allclose(soft_top_k(s, 2, 0.5), [1, 0.5, 0.25, 0.25], rtol=1e-14)
    found = solve(s, 2, 0.5)
    assert found.clipped.tolist() == [True, False, False, False]
    assert found.threshold == pytest.approx(-0.5 * np.log(4), rel=1e-14)


@settings(max_examples=60)
@given(
    scores=st.lists(st.integers(-40, 40), min_size=1, max_size=12),  # few values: many ties
    k=st.integers(1, 12),
    eps=st.sampled_from([0.01, 0.3, 1.0, 7.0, 300.0]),
)
def test_sum_is_exactly_k_by_bisection(scores, k, eps):
    s, k = np.array(scores) / 4, min(k, len(scores))
    found = soft_top_k(s, k, eps)
    assert abs(found.sum() - k) < 1e-12 and found.min() >= 0 and found.max() <= 1
    assert (np.diff(found[np.argsort(s, kind="stable")]) >= -1e-15).all()  # in the order of the scores
    assert all(len(set(found[s == value].tolist())) == 1 for value in s)  # equal scores, equal weights
    if k < len(s):  # at k = F every threshold from some value on does
        np.testing.assert_allclose(found, by_bisection(s, k, eps), atol=1e-9)
        clipped, a = solve(s, k, eps)
        np.testing.assert_allclose(np.exp(np.minimum((s + a) / eps, 0)), found, atol=1e-9)
        assert clipped.sum() < k
    else:
        np.testing.assert_allclose(found, 1, rtol=1e-15)


def test_small_eps_is_the_hard_top_k():
    for k in (1, 7, 19, 20):
        hard = hard_top_k(SCORES, k)
        want = [[float(s in np.sort(row)[-k:]) for s in row] for row in SCORES]
        np.testing.assert_array_equal(hard, want)
        np.testing.assert_allclose(soft_top_k(SCORES, k, 1e-5), hard, atol=1e-12)
        np.testing.assert_allclose(soft_top_k(SCORES, k, 1e9), k / 20, rtol=1e-7)  # and a large one spreads evenly
    assert hard_top_k(np.zeros(4), 2).tolist() == [1, 1, 0, 0]
    # exp(s / eps) alone would overflow, and beyond the first tail underflow to 0 / 0
    s = np.array([9000.0, 0.0, -4000.0, -9000.0])
    for k in (1, 2, 3, 4):
        np.testing.assert_array_equal(soft_top_k(s, k, 0.01), hard_top_k(s, k))
    assert soft_top_k(np.float32([1e6, 1e6, 0, 0]), 1, 0.1).tolist() == [0.5, 0.5, 0, 0]


def test_jax_gives_the_same():
    with jax.enable_x64(True):
        for k, eps in ((6, 0.3), (19, 2.0)):
            got = jax.jit(soft_top_k, static_argnums=1)(jnp.asarray(SCORES), k, eps)
            np.testing.assert_allclose(got, soft_top_k(SCORES, k, eps), atol=1e-14)
    single = jax.jit(soft_top_k, static_argnums=1)(jnp.asarray(SCORES, jnp.float32), 6, 0.05)
    np.testing.assert_allclose(single.sum(-1), 6, rtol=1e-5)


def test_derivative_by_finite_differences():
    """Of every weight by every score and by eps, with 3 of 9 entries clipped."""
    s, k, eps, h = SCORES[0, :9], 5, 0.4, 1e-6
    clipped = solve(s, k, eps).clipped
    assert clipped.sum() == 3
    with jax.enable_x64(True):
        jacobian = jax.jit(jax.jacrev(soft_top_k, (0, 2)), static_argnums=1)
        by_scores, by_eps = map(np.asarray, jacobian(jnp.asarray(s), k, jnp.asarray(eps)))
    moved = [(soft_top_k(s + d, k, eps) - soft_top_k(s - d, k, eps)) / (2 * h) for d in h * np.eye(9)]
    np.testing.assert_allclose(by_scores, np.transpose(moved), atol=1e-8)
    slope = (soft_top_k(s, k, eps + h) - soft_top_k(s, k, eps - h)) / (2 * h)
    np.testing.assert_allclose(by_eps, slope, atol=1e-8)
    # clipped entries have no derivative, and the sum none either
    assert not by_scores[clipped].any() and not by_scores[:, clipped].any()
    np.testing.assert_allclose(by_scores.sum(0), 0, atol=1e-14)
    assert abs(by_eps.sum()) < 1e-14


def test_truncated_iteration_falls_short():
    """It never exceeds k; at small eps its sum misses k by a tenth and more; many steps bring it near the exact one."""
    s = np.random.default_rng(1).normal(size=(4, 192))
    for eps, low, high in ((0.02, 0.6, 0.9), (0.1, 0.8, 0.97), (1.0, 0.99, 1.0 + 1e-12)):
        share = coordinate_descent(s, 64, eps).sum(-1) / 64
        assert (low < share).all() and (share <= high).all()
        assert soft_top_k(s, 64, eps).sum(-1) == pytest.approx(64, abs=1e-11)
    np.testing.assert_allclose(coordinate_descent(s, 64, 0.1, 2000), soft_top_k(s, 64, 0.1), atol=1e-6)


@pytest.mark.parametrize("function", [soft_top_k, solve, coordinate_descent])
def test_bad_settings_are_refused(function):
    for scores, k, eps, message in (
        (SCORES, 0, 1.0, "whole number 1..20, got 0"),
        (SCORES, True, 1.0, "got True"),
        (SCORES, 2, 0.0, "eps must be a finite number above 0, got 0.0"),
        (np.array([1.0, np.nan]), 1, 1.0, "scores must be finite"),
        (np.zeros((2, 0)), 1, 1.0, "last axis"),
    ):
        with pytest.raises(ValueError, match=message):
            function(scores, k, eps)

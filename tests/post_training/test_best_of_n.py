"""Best of n against all subsets, closed forms, draws, and exact divergences."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from afm_ref.post_training.best_of_n import expected_best, expected_maximum, kl_of_best_of_n, rejection_sample
from afm_ref.post_training.responses import Response


@settings(max_examples=40)
@given(values=st.lists(st.integers(-3, 3), min_size=1, max_size=7), seed=st.integers(0, 99))
def test_expected_best_is_the_mean_over_all_subsets(values, seed):
    """Few distinct rewards, so that many tie; of those that tie, any may be the best."""
    judged = np.random.default_rng(seed).standard_normal(len(values))
    for n in range(1, len(values) + 1):
        bests, truths = [], []
        for subset in itertools.combinations(range(len(values)), n):
            best = max(values[i] for i in subset)
            bests.append(best)
            truths.append(np.mean([judged[i] for i in range(len(values)) if values[i] == best]))
        assert expected_best(values, n) == pytest.approx(np.mean(bests))
        assert expected_best(values, n, judged) == pytest.approx(np.mean(truths))


@pytest.mark.parametrize("n", [1, 2, 5, 16])
def test_expected_maximum_closed_forms(n):
    # the midpoint rule on a function with a logarithm at its end errs by about 1 / points
    assert expected_maximum(lambda u: u, n) == pytest.approx(n / (n + 1), abs=1e-5)
    assert expected_maximum(lambda u: -np.log1p(-u), n) == pytest.approx(sum(1 / k for k in range(1, n + 1)), abs=3e-4)


def test_expected_maximum_of_normal_rewards():
    for n, want in ((2, 1 / math.sqrt(math.pi)), (3, 1.5 / math.sqrt(math.pi))):
        assert expected_maximum(norm.ppf, n) == pytest.approx(want, abs=1e-3)
    draws = np.random.default_rng(0).standard_normal((20_000, 8)).max(axis=1)
    error = draws.std() / math.sqrt(len(draws))
    assert expected_maximum(norm.ppf, 8) == pytest.approx(draws.mean(), abs=4 * error)
    samples = np.random.default_rng(1).standard_normal(4000)  # the same from samples of which none is drawn twice
    assert expected_best(samples, 8) == pytest.approx(expected_maximum(norm.ppf, 8), abs=0.06)


@pytest.mark.parametrize("n", [1, 2, 4, 16])
def test_divergence_is_bounded_and_reaches_its_bound(n):
    """Exactly, for policies over a list of responses with rewards 1, 2, 3, ...: P(best = i) = F_i^n - F_{i-1}^n."""

    def divergence(p):
        F = np.concatenate([[0.0], np.cumsum(p)])
        best = np.diff(F**n)
        return float((best * np.log(best / p)).sum())

    rng = np.random.default_rng(n)
    bound = kl_of_best_of_n(n)
    for _ in range(20):
        assert divergence(rng.dirichlet(np.ones(6))) <= bound + 1e-12
    assert divergence(np.full(100_000, 1e-5)) == pytest.approx(bound, abs=1e-4)
    assert n == 1 or divergence(np.array([0.5, 0.5])) < 0.9 * bound


def test_rejection_sampling_by_hand():
    a, b, c = (Response(text, (1, 3)) for text in "abc")
    prompts, groups = ["x", "y", "z"], [[a, b, c], [a, a], [c]]
    values = [np.array([0.1, 0.9, 0.9]), np.array([0.2, 0.2]), np.array([-1.0])]
    assert rejection_sample(prompts, groups, values) == [("x", b), ("y", a), ("z", c)]
    assert rejection_sample(prompts, groups, values, threshold=0.2) == [("x", b), ("y", a)]
    for groups, values in (([[]], [[]]), ([[a]], [[math.nan]]), ([[a, b]], [[1.0]])):
        with pytest.raises(ValueError, match="one number for each"):
            rejection_sample(["x"], groups, values)


def test_bad_requests_are_refused():
    for n in (0, 4):
        with pytest.raises(ValueError, match=r"n must lie in 1 \.\. 3"):
            expected_best([1.0, 2.0, 3.0], n)
    with pytest.raises(ValueError, match="finite"):
        expected_best([1.0, math.nan], 1)
    for function in (kl_of_best_of_n, lambda n: expected_maximum(norm.ppf, n)):
        with pytest.raises(ValueError, match="at least 1"):
            function(0)

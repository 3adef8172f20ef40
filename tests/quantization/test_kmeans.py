"""One-dimensional k-means: the exact mode against all partitions and golden optima, the fast mode against the exact."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from afm_ref.quantization.palette import kmeans

GOLDEN = Path(__file__).parents[1] / "golden" / "palettes"


def error(values, centres, weights=None):
    """Return the weighted squared distance of values to their nearest centres, by the definition."""
    values = np.asarray(values, np.float64)
    weights = np.ones(values.shape) if weights is None else weights
    return float((weights * np.min((values[:, None] - centres) ** 2, axis=1)).sum())


def best_of_all_partitions(values, k, weights):
    """Return the least error over every way to cut the sorted values into at most k runs."""
    order = np.argsort(values)
    v, w = np.asarray(values, np.float64)[order], np.asarray(weights, np.float64)[order]

    def run(start, end):
        centre = np.average(v[start:end], weights=w[start:end])
        return (w[start:end] * (v[start:end] - centre) ** 2).sum()

    cuts = itertools.chain.from_iterable(itertools.combinations(range(1, len(v)), j) for j in range(min(k, len(v))))
    return min(sum(run(a, b) for a, b in zip((0, *cut), (*cut, len(v)))) for cut in cuts)


@settings(max_examples=80)
@given(
    st.lists(st.integers(-20, 20), min_size=1, max_size=9),
    st.integers(1, 5),
    st.integers(0, 1000),
    st.sampled_from([1.0, 1e-6, 1e6]),
)
def test_exact_is_the_best_of_all_partitions(values, k, seed, scale):
    values = np.array(values) * scale
    weights = np.random.default_rng(seed).uniform(0.1, 2, len(values))
    found = error(values, kmeans.exact(values, k, weights), weights)
    best = best_of_all_partitions(values, k, weights)
    assert found == pytest.approx(best, rel=1e-9, abs=1e-12 * scale**2)


DRAWS = {
    "gauss": lambda rng, n: rng.standard_normal(n),
    "student": lambda rng, n: rng.standard_t(4, n),
    "cauchy": lambda rng, n: rng.standard_cauchy(n),
    "tiny": lambda rng, n: 2e-30 * rng.standard_normal(n),
    "huge": lambda rng, n: 1e15 * rng.standard_normal(n),
    "offset": lambda rng, n: 1000 + rng.standard_normal(n),
    "outliers": lambda rng, n: np.concatenate([rng.standard_normal(n), [-1e5, 1e6]]),
    "few": lambda rng, n: rng.choice([-1.0, -0.5, 0.25, 3.0, 3.5], n),
    "two_lumps": lambda rng, n: np.concatenate([rng.normal(0, 1e-3, n // 2), rng.normal(1, 1e-3, n // 2)]),
}


def draws(kind, n=6000):
    return DRAWS[kind](np.random.default_rng(0), n).astype(np.float32)


@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_fast_is_near_the_optimum(kind, bits):
    values = draws(kind)
    optimum = error(values, kmeans.exact(values, 2**bits))
    found = error(values, kmeans.fast(values, 2**bits))
    assert found <= optimum * (1 + 1e-4)
    assert optimum <= found * (1 + 1e-9)


@pytest.mark.parametrize("k", [4, 16])
def test_exact_finds_the_optimum_of_kmeans1d(k):
    """Of numbers and centres that `python -m tests.golden.make` stored."""
    golden = load_file(GOLDEN / "expected.safetensors")
    for row, centres in zip(golden["rows"], golden[f"centres_{k}"], strict=True):
        optimum = error(row, centres)
        assert error(row, kmeans.exact(row, k)) == pytest.approx(optimum, rel=1e-6)
        assert optimum <= error(row, kmeans.fast(row, k)) * (1 + 1e-6) <= optimum * (1 + 1e-4)


@pytest.mark.parametrize("kind", ["gauss", "student", "two_lumps"])
def test_weights_are_counted_repetitions(kind):
    """A value of weight 3 counts as three values."""
    values = draws(kind, 400)
    times = np.random.default_rng(1).integers(0, 4, len(values))
    repeated = np.repeat(values, times)
    for method in (kmeans.exact, kmeans.fast):
        np.testing.assert_allclose(method(values, 8, times), method(repeated, 8), rtol=1e-5, atol=1e-6)


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=40), st.integers(1, 16), st.integers(0, 99))
@settings(max_examples=40)
def test_nearest_is_the_argmin(values, k, seed):
    values = np.array(values, np.float32)
    centres = np.sort(np.random.default_rng(seed).uniform(-10, 10, k)).astype(np.float32)
    codes = kmeans.nearest(values, centres)
    distance = np.abs(values[:, None].astype(np.float64) - centres)
    np.testing.assert_allclose(distance[np.arange(len(values)), codes], distance.min(axis=1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "values, k, weights",
    [([], 2, None), ([1, np.nan], 2, None), ([1, np.inf], 2, None), ([1, 2], 0, None), ([1, 2], True, None),
     ([1, 2], 2, [1]), ([1, 2], 2, [1, -1]), ([1, 2], 2, [0, 0]), ([1, 2], 2, [1, np.nan])],
)  # fmt: skip
def test_bad_input_is_refused(values, k, weights):
    for method in (kmeans.exact, kmeans.fast):
        with pytest.raises(ValueError, match=r"finite|at least one"):
            method(np.array(values, np.float32), k, weights)

"""Palettes against kmeans1d, the optimum in one dimension, and against coremltools, Apple's own palettizer."""

import warnings

import numpy as np
import pytest

from afm_ref.quantization import palettize
from afm_ref.quantization.palette import kmeans
from tests.quantization import test_quantizers

DRAWS = {kind: test_quantizers.DRAWS[kind] for kind in ("gauss", "student", "cauchy", "few", "tiny", "huge")}
DRAWS |= {"constant": lambda rng, n: np.full(n, 0.3), "small": lambda rng, n: 2e-4 * rng.standard_normal(n)}


def draw(kind, shape, seed=0):
    return DRAWS[kind](np.random.default_rng(seed), shape).astype(np.float32)


def error(values, centres):
    """Return the squared distance of values to their nearest centres, in units of 1e-30 or 1e15 alike."""
    unit = np.float64(np.abs(values).max())
    return test_quantizers.error(values / unit, centres / unit)


def matrix_error(w, dense):
    return float(np.square((w.astype(np.float64) - dense) / np.abs(w).max()).sum())


@pytest.mark.parametrize("k", [2, 4, 5, 16])
@pytest.mark.parametrize("kind", sorted(DRAWS))
def test_exact_is_the_optimum_and_fast_near_it(kmeans1d, kind, k):
    for n in (30, 12_000):
        values = draw(kind, n)
        optimum = error(values, np.array(kmeans1d.cluster(values, k).centroids))
        # Where the optimum is zero, ours is what rounding the same centres leaves: float64's last digits of 1.
        assert error(values, kmeans.exact(values, k)) == pytest.approx(optimum, rel=1e-6, abs=1e-25)
        assert error(values, kmeans.fast(values, k)) <= optimum * (1 + 1e-4) + 1e-25


def test_weighted_centres_are_those_of_coremltools_own_kmeans1d(coremltools):
    """Their copy of kmeans1d takes weights, which the package itself does not."""
    from coremltools._deps import _kmeans1d

    values, weights = draw("student", 5000), np.random.default_rng(1).exponential(size=5000)
    theirs = np.array(_kmeans1d.cluster(values, 8, weights=weights).centroids)
    np.testing.assert_allclose(kmeans.exact(values, 8, weights), theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("kind", sorted(DRAWS))
def test_never_worse_than_coremltools(coremltools, kind, bits):
    """The same bits and rows a table. Their weights are rounded to four decimals first: tiny ones are lost."""
    w = draw(kind, (64, 640))
    theirs = matrix_error(w, palettized_by_coremltools(w, bits))
    rounding = 2.0**-22 * float(np.square(w.astype(np.float64) / np.abs(w).max()).sum())  # of our float16 tables
    assert matrix_error(w, palettize(w, bits, 16).dense(np.float64)) <= theirs * (1 + 1e-6) + rounding


def palettized_by_coremltools(w, bits):
    """Return the matrix as coremltools' PostTrainingPalettizer leaves it."""
    import torch
    from coremltools.optimize.torch.palettization import PostTrainingPalettizer, PostTrainingPalettizerConfig

    settings = {"n_bits": bits, "granularity": "per_grouped_channel", "group_size": 16, "channel_axis": 0}
    model = torch.nn.Sequential(torch.nn.Linear(w.shape[1], w.shape[0], bias=False))
    model[0].weight.data = torch.from_numpy(w.copy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        config = PostTrainingPalettizerConfig.from_dict({"global_config": settings})
        return PostTrainingPalettizer(model, config).compress(num_kmeans_workers=1)[0].weight.detach().double().numpy()

"""Grids by hand; GPTQ against the conditional optimum, the identity, and the outputs' error that it lowers."""

import numpy as np
import pytest

from afm_ref.quantization import gptq_palette, palettize, uniform_grid
from afm_ref.quantization.palette.bit_packing import unpack


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def correlated(n, seed, factors=4):
    """Return H = E x x^T of inputs that a few common factors make up, with some noise: [n, n]."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((500, factors)) @ rng.standard_normal((factors, n)) + 0.3 * rng.standard_normal((500, n))
    return x.T @ x / len(x)


def output_error(w, q, h):
    """Return E |W x - Q x|^2."""
    error = w.astype(np.float64) - q
    return float(np.einsum("oi,ij,oj->", error, h, error))


def test_grid_by_hand():
    w = np.array([[0.0, 1.0, 2.0, 3.0, -1.0, -1.0], [0.6, 0.4, 3.0, 1.0, 7.0, 8.0]], np.float32)
    blocks = uniform_grid(w, 2, rows=1, inputs=4)
    by_hand = [[0, 1, 2, 3, -1, -1], [0.4, 0.4, 3.0, 0.4 + 2.6 / 3, 7, 8]]
    np.testing.assert_allclose(blocks.matrix, by_hand, atol=2e-3)  # float16
    assert blocks.bits_per_weight == 2 + 32 * 4 / 12
    whole = uniform_grid(w, 2, rows=2, inputs=None)  # one grid: -1, 2, 5, 8
    np.testing.assert_array_equal(whole.matrix, [[-1, 2, 2, 2, -1, -1], [2, -1, 2, 2, 8, 8]])
    assert whole.bits_per_weight == 2 + 32 / 12
    assert uniform_grid(normal((33, 64)), 4, None, 16, None).bits_per_weight == 4 + 32 * 3 / (33 * 64)
    assert palettize(normal((33, 64)), 4).bits_per_weight == 4 + (3 * 16 * 16 + 16) / (33 * 64)


@pytest.mark.parametrize("shape", [(33, 17), (16, 24), (5, 1)])
def test_without_correlation_compensation_changes_nothing(shape):
    w, one = normal(shape), 3 * np.eye(shape[1])
    plain = palettize(w, 3)
    for hessian in (one, None, np.zeros((shape[1], shape[1]))):
        found = gptq_palette(w, 3, hessian)
        np.testing.assert_array_equal(found.codes, plain.codes)
        np.testing.assert_array_equal(found.dense(), plain.dense())
    assert found.stored_bits == plain.stored_bits
    for rows, inputs in ((1, 8), (16, None)):
        nearest, compensated = (uniform_grid(w, 3, h, rows, inputs) for h in (None, one))
        np.testing.assert_array_equal(compensated.matrix, nearest.matrix)
        assert compensated.bits_per_weight == nearest.bits_per_weight


def test_three_columns_follow_the_conditional_optimum():
    """Given the codes so far, the weights still to come move to where they make the outputs' error least."""
    w, h = normal((64, 3), seed=4), correlated(3, 0)
    tables = palettize(w, 2).tables.astype(np.float64)
    found = gptq_palette(w, 2, h, damping=0.0)
    codes, moved = unpack(found.codes, 2, 3), 0
    scaled = np.ldexp(w.astype(np.float64), -int(found.exponent))
    for o, row in enumerate(scaled):
        error = np.zeros(0)
        for i in range(3):
            # minimise over the free e_j, j >= i: e^T H e with the first i fixed; then round w_i - e_i
            free = np.linalg.solve(h[i:, i:], -h[i:, :i] @ error)
            entry = int(np.argmin(np.abs(row[i] - free[0] - tables[o // 16])))
            assert codes[o, i] == entry
            moved += entry != np.argmin(np.abs(row[i] - tables[o // 16]))
            error = np.append(error, row[i] - tables[o // 16][entry])
    assert moved > 10  # compensation did something


@pytest.mark.parametrize("bits", [2, 4])
def test_compensation_lowers_the_error_of_the_outputs(bits):
    """At the same bits, for every seed, by a tenth at least; the weights' own error goes up."""
    for seed in range(3):
        w, h = normal((32, 40), seed), correlated(40, seed + 10)
        nearest, compensated = palettize(w, bits), gptq_palette(w, bits, h)
        assert compensated.stored_bits == nearest.stored_bits
        assert output_error(w, compensated.dense(), h) < 0.9 * output_error(w, nearest.dense(), h)
        assert output_error(w, compensated.dense(), np.eye(40)) > output_error(w, nearest.dense(), np.eye(40))
        for rows, inputs in ((1, 20), (16, None)):
            plain, better = (uniform_grid(w, bits, each, rows, inputs) for each in (None, h))
            assert better.bits_per_weight == plain.bits_per_weight
            assert output_error(w, better.matrix, h) < 0.9 * output_error(w, plain.matrix, h)


@pytest.mark.parametrize(
    "hessian, message",
    [
        (np.eye(3), r"symmetric matrix \[4, 4\], got shape \(3, 3\)"),
        (np.triu(np.ones((4, 4))), "symmetric"),
        (np.full((4, 4), np.nan), "finite"),
        (-np.eye(4), "eigenvalues below 0"),
    ],
)
def test_no_hessian_is_refused(hessian, message):
    for method in (gptq_palette, uniform_grid):
        with pytest.raises(ValueError, match=message):
            method(normal((16, 4)), 2, hessian)


@pytest.mark.parametrize(
    "size, bits, rows, message", [(1, 4, 0, "0 x 32"), (1e6, 4, 1, "do not fit a float16"), (1, 9, 1, "1 to 8 bits")]
)
def test_bad_grids_are_refused(size, bits, rows, message):
    with pytest.raises(ValueError, match=message):
        uniform_grid(np.full((2, 2), size), bits, rows=rows)

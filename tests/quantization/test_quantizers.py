"""From matrices to palettes: the error against the optimum, any scale, odd numbers of rows, bad input, whole models."""

import jax
import numpy as np
import pytest

from afm_ref.config import AFMConfig
from afm_ref.containers import Remat, Stacked, group, matrices, replaced
from afm_ref.quantization import dequantize, int8, palettize, quantize
from afm_ref.quantization.palette import kmeans
from afm_ref.transformer import forward, init

CFG = AFMConfig(vocab_size=50, d_model=24, n_layers=2, n_heads=3, n_kv_heads=1, head_dim=8, d_ff=40)


def normal(shape, scale=1.0, seed=0):
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def squared_error(w, palette):
    return float(((w.astype(np.float64) - palette.dense(np.float64)) ** 2).sum())


@pytest.mark.parametrize("scale", [1.0, 2e-4, 1e-30, 1e25])
@pytest.mark.parametrize("bits", [2, 4])
def test_error_is_that_of_the_optimal_palette(scale, bits):
    """With tables in float16 the optimum is missed by their rounding: 2^-11 of an entry, squared, per weight."""
    w = normal((33, 40), scale)
    best = 0.0
    for rows in (w[:16], w[16:32], w[32:]):
        centres = kmeans.exact(rows, 2**bits)
        best += float((np.min((rows.astype(np.float64)[..., None] - centres) ** 2, axis=-1)).sum())
    rounding = float((w.astype(np.float64) ** 2).sum()) * 2.0**-22
    for method, excess in (("exact", 0.0), ("fast", 1e-4)):
        found = squared_error(w, palettize(w, bits, method=method))
        assert best * (1 - 1e-9) <= found <= best * (1 + excess) + rounding


@pytest.mark.parametrize("bits", [2, 4])
def test_codes_point_to_the_nearest_entry_as_stored(bits):
    """The nearest of the float16 entries, and not of those before rounding: some 0.1 % of these differ."""
    w = normal((16, 2000))
    palette = palettize(w, bits)
    entries = palette.tables.astype(np.float64)[0] * 2.0 ** int(palette.exponent)
    nearest = np.min(np.abs(w[..., None] - entries), axis=-1)
    np.testing.assert_allclose(np.abs(w - palette.dense(np.float64)), nearest, rtol=0, atol=1e-7)  # float32's middles


def test_few_distinct_weights_are_exact():
    w = np.random.default_rng(0).choice(np.array([-2, 0.5, 1, 3], np.float32), (20, 10))
    for method in ("exact", "fast"):
        np.testing.assert_array_equal(palettize(w, 2, method=method).dense(), w)
        np.testing.assert_array_equal(palettize(w, 4, rows_per_table=7, method=method).dense(), w)
    np.testing.assert_array_equal(palettize(np.zeros((3, 3)), 4).dense(), np.zeros((3, 3)))


def test_importance_moves_the_error_to_where_it_matters_less():
    w, h = normal((32, 64)), np.random.default_rng(1).exponential(size=64) ** 3
    plain, weighted = (palettize(w, 2, importance=i) for i in (None, h))
    least, error = (float((h * (w - p.dense()) ** 2).sum()) for p in (weighted, plain))
    assert least < 0.9 * error
    assert squared_error(w, plain) < squared_error(w, weighted)
    same = palettize(w, 2, importance=np.ones((32, 64)))
    np.testing.assert_array_equal(same.dense(), plain.dense())


def test_int8_errs_by_half_a_step_at_most():
    w = normal((30, 20), 1e-3) * np.geomspace(1e-3, 1e3, 30, dtype=np.float32)[:, None]
    e = int8(w)
    step = np.abs(w).max(axis=1, keepdims=True) / 127
    # the scale itself is rounded to 11 bits, which moves the 127 steps of the largest value by 127 * 2^-12 steps more
    assert (np.abs(e.dense() - w) <= step * (0.5 + 127 * 2.0**-11)).all()
    np.testing.assert_array_equal(int8(np.zeros((2, 3))).dense(), np.zeros((2, 3)))


@pytest.fixture(scope="module")
def four_bits():
    return quantize(init(CFG, 0), 4)


@pytest.mark.parametrize(
    "container",
    [lambda layers: layers, pytest.param(group, marks=pytest.mark.slow), lambda layers: Remat(group(layers))],
)
def test_a_quantized_model_runs_under_numpy_and_jax(container, four_bits):
    params, tokens, quantized = init(CFG, 0), np.array([[3, 1, 4, 1, 5]]), four_bits
    plain = forward(dequantize(quantized, np.float64), tokens, CFG)
    np.testing.assert_allclose(forward(quantized, tokens, CFG), plain, rtol=1e-5, atol=1e-5)
    on_jax = quantized._replace(layers=container(quantized.layers))
    np.testing.assert_allclose(jax.jit(forward, static_argnums=2)(on_jax, tokens, CFG), plain, rtol=1e-3, atol=1e-4)
    assert not np.allclose(plain, forward(params, tokens, CFG), atol=1e-2)


def test_layers_of_equal_bits_are_stacked_together(four_bits):
    assert [type(item) for item in group(four_bits.layers)] == [Stacked]
    mixed = replaced(four_bits, {("wv", 1): palettize(matrices(init(CFG, 0))["wv", 1], 2)})
    assert len(group(mixed.layers)) == 2


@pytest.mark.parametrize(
    "matrix, settings, message",
    [
        (np.array([[1.0, np.nan]]), {}, "1 of 2 weights are NaN"),
        (np.array([[1.0, np.inf]]), {}, "infinite"),
        *((np.ones(shape), {}, r"matrix \[out, in\]") for shape in (3, (2, 0))),
        (np.ones((2, 2)), {"bits": 9}, "1 to 8 bits"),
        *((np.ones((2, 2)), {"rows_per_table": rows}, "rows_per_table") for rows in (0, True)),
        (np.ones((2, 2)), {"importance": np.ones(3)}, "shape"),
        (np.ones((2, 2)), {"importance": -np.ones(2)}, "at least 0"),
        ("weights", {}, "a str cannot be quantized"),
    ],
)
def test_bad_input_is_refused(matrix, settings, message):
    with pytest.raises(ValueError, match=message):
        palettize(matrix, **{"bits": 4} | settings)


def test_bits_must_name_every_matrix(four_bits):
    with pytest.raises(ValueError, match="every matrix once"):
        quantize(init(CFG, 0), {("wq", 0): 2})
    with pytest.raises(ValueError, match="cannot be quantized"):
        quantize(four_bits)

"""From matrices to palettes: k-means against all partitions, the error against the optimum, GPTQ, grids."""

import itertools
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from afm_ref.config import AFMConfig
from afm_ref.containers import Remat, Stacked, group, matrices, replaced
from afm_ref.quantization import dequantize, gptq_palette, int8, palettize, quantize, uniform_grid
from afm_ref.quantization.palette import kmeans
from afm_ref.quantization.palette.bit_packing import unpack
from afm_ref.transformer import forward, init

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


def test_bad_input_is_refused():
    for values, k, weights in (
        ([], 2, None), ([1, np.nan], 2, None), ([1, np.inf], 2, None), ([1, 2], 0, None), ([1, 2], True, None),
        ([1, 2], 2, [1]), ([1, 2], 2, [1, -1]), ([1, 2], 2, [0, 0]), ([1, 2], 2, [1, np.nan]),
    ):  # fmt: skip
        for method in (kmeans.exact, kmeans.fast):
            with pytest.raises(ValueError, match=r"finite|at least one"):
                method(np.array(values, np.float32), k, weights)


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


def test_bad_matrices_are_refused():
    for matrix, more, message in (
        (np.array([[1.0, np.nan]]), {}, "1 of 2 weights are NaN"),
        (np.array([[1.0, np.inf]]), {}, "infinite"),
        *((np.ones(shape), {}, r"matrix \[out, in\]") for shape in (3, (2, 0))),
        (np.ones((2, 2)), {"bits": 9}, "1 to 8 bits"),
        *((np.ones((2, 2)), {"rows_per_table": rows}, "rows_per_table") for rows in (0, True)),
        (np.ones((2, 2)), {"importance": np.ones(3)}, "shape"),
        (np.ones((2, 2)), {"importance": -np.ones(2)}, "at least 0"),
        ("weights", {}, "a str cannot be quantized"),
    ):
        with pytest.raises(ValueError, match=message):
            palettize(matrix, **{"bits": 4} | more)


def test_bits_must_name_every_matrix(four_bits):
    with pytest.raises(ValueError, match="every matrix once"):
        quantize(init(CFG, 0), {("wq", 0): 2})
    with pytest.raises(ValueError, match="cannot be quantized"):
        quantize(four_bits)


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


def test_a_clipped_grid_has_the_best_range_of_every_block():
    """By hand, and blocks of 16 rows (the last of one) by 8 inputs, each as good as the best single range's."""
    inner = [1.0, -1.0] * 7  # at the points of half the range to 0.5: 3.5 and 40.5 for both ends, of the whole range 56
    clipped = uniform_grid(np.array([[9.0, *inner, -9.0]]), 2, inputs=16, ranges=(1.0, 0.5))
    np.testing.assert_array_equal(clipped.matrix, [[4.5, *np.multiply(1.5, inner), -4.5]])
    whole = uniform_grid(np.array([[4.0, *inner, -4.0]]), 2, inputs=16, ranges=(1.0, 0.5))  # 1.56 against 9.6
    np.testing.assert_allclose(whole.matrix, [[4, *np.multiply(4 / 3, inner), -4]], atol=4e-3)  # float16
    w, ranges = normal((33, 40)), (1.0, 0.8, 0.6)
    chosen, *single = (uniform_grid(w, 2, None, 16, 8, of).matrix for of in (ranges, *((factor,) for factor in ranges)))
    for rows in (slice(0, 16), slice(16, 32), slice(32, 33)):
        for inputs in range(0, 40, 8):
            block = np.s_[rows, inputs : inputs + 8]
            errors = [((w[block] - matrix[block]) ** 2).sum() for matrix in (chosen, *single)]
            assert errors[0] == pytest.approx(min(errors[1:]), rel=1e-6)


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
        w, h = normal((32, 40), seed=seed), correlated(40, seed + 10)
        nearest, compensated = palettize(w, bits), gptq_palette(w, bits, h)
        assert compensated.stored_bits == nearest.stored_bits
        assert output_error(w, compensated.dense(), h) < 0.9 * output_error(w, nearest.dense(), h)
        assert output_error(w, compensated.dense(), np.eye(40)) > output_error(w, nearest.dense(), np.eye(40))
        for rows, inputs in ((1, 20), (16, None)):
            plain, better = (uniform_grid(w, bits, each, rows, inputs) for each in (None, h))
            assert better.bits_per_weight == plain.bits_per_weight
            assert output_error(w, better.matrix, h) < 0.9 * output_error(w, plain.matrix, h)


def test_no_hessian_is_refused():
    for hessian, message in (
        (np.eye(3), r"symmetric matrix \[4, 4\], got shape \(3, 3\)"),
        (np.triu(np.ones((4, 4))), "symmetric"),
        (np.full((4, 4), np.nan), "finite"),
        (-np.eye(4), "eigenvalues below 0"),
    ):
        for method in (gptq_palette, uniform_grid):
            with pytest.raises(ValueError, match=message):
                method(normal((16, 4)), 2, hessian)


def test_bad_grids_are_refused():
    for size, bits, rows, why in (1, 4, 0, "0 x 32"), (1e6, 4, 1, "do not fit a float16"), (1, 9, 1, "1 to 8 bits"):
        with pytest.raises(ValueError, match=why):
            uniform_grid(np.full((2, 2), size), bits, rows=rows)

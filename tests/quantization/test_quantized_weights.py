"""Quantized weights against their dense matrices: NumPy, JAX, every width, odd shapes, stacked, sharded; their bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from afm_ref import ops
from afm_ref.parallelism.mesh import MeshShape, make_mesh
from afm_ref.quantization import int8, palettize
from afm_ref.quantization.palette import bit_packing


def matrix(out=40, n=24, scale=1.0, seed=0):
    return (scale * np.random.default_rng(seed).standard_normal((out, n))).astype(np.float32)


SHAPES = [(16, 8), (33, 17), (5, 1), (1, 9), (40, 24)]


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("shape", SHAPES)
def test_apply_is_the_product_with_the_dense_matrix(bits, shape):
    """The dense matrix is put together here, code by code."""
    w = palettize(matrix(*shape, scale=3e-3), bits)
    assert w.shape == shape
    read = np.unpackbits(w.codes, axis=1, count=shape[1] * bits, bitorder="little").reshape(*shape, bits)
    codes = read @ 2 ** np.arange(bits)  # the lowest bit first, along the row
    rows = np.arange(shape[0])[:, None] // 16
    dense = w.tables.astype(np.float64)[rows, codes] * 2.0 ** int(w.exponent)
    x = np.random.default_rng(1).standard_normal((2, 3, shape[1]))
    np.testing.assert_allclose(w.apply(x), x @ dense.T, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(w.dense(np.float64), dense, rtol=1e-12)


@pytest.mark.parametrize("bits, shape", [*enumerate(SHAPES + SHAPES[1:4], start=1)])  # 3 and 6 bits end within a byte
def test_jax_applies_it_as_numpy_does(bits, shape):
    w = palettize(matrix(*shape, scale=3e-3), bits)
    x = np.random.default_rng(1).standard_normal((2, 3, shape[1])).astype(np.float32)
    got, dense = jax.jit(lambda w, x: (w.apply(x), w.dense()))(w, x)
    np.testing.assert_allclose(got, x @ w.dense(np.float64).T, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(dense, w.dense())


def test_both_ends_of_the_embedding():
    e = int8(matrix(30, 8, 0.02))
    tokens = np.array([[0, 29, 3]])
    by_hand = e.codes.astype(np.float64) * (e.scale.astype(np.float64) * 2.0 ** int(e.exponent))[:, None]
    x = np.random.default_rng(0).standard_normal((2, 8))
    np.testing.assert_allclose(ops.lookup(tokens, e), by_hand[tokens], rtol=1e-6)
    np.testing.assert_allclose(ops.linear(x, e), x @ by_hand.T, rtol=1e-12)
    rows, y = jax.jit(lambda tokens, x, e: (ops.lookup(tokens, e), ops.linear(x, e)))(tokens, np.float32(x), e)
    np.testing.assert_allclose(rows, by_hand[tokens], rtol=1e-6)
    np.testing.assert_allclose(y, x @ by_hand.T, rtol=1e-4, atol=1e-6)


def test_a_stack_of_palettes_is_scanned_with_an_exponent_each():
    ws = [palettize(matrix(scale=s, seed=i), 4) for i, s in enumerate((1.0, 1e-6, 1e6))]
    stack = jax.tree.map(lambda *leaves: np.stack(leaves), *ws)
    x = matrix(2, 24)
    _, ys = jax.jit(lambda x, stack: jax.lax.scan(lambda _, w: (None, ops.linear(x, w)), None, stack))(x, stack)
    for y, w in zip(ys, ws):
        np.testing.assert_allclose(y, x @ w.dense().T, rtol=1e-4, atol=1e-5 * np.abs(w.dense()).max())


@pytest.mark.parametrize("cut", ["out", "in"])
def test_a_palette_is_cut_over_devices(cut):
    """Each device holds whole tables (out) or whole bytes (in), and the product of the parts is the product."""
    w = palettize(matrix(64, 32), 4)
    spec = jax.tree.map(lambda names: P(*("model" if name == cut else None for name in names)), w.spec())
    mesh = make_mesh(MeshShape(model=4))
    placed = jax.tree.map(lambda leaf, names: jax.device_put(leaf, NamedSharding(mesh, names)), w, spec)
    x = jnp.asarray(matrix(3, 32))
    of_x, of_y = P(None, "model" if cut == "in" else None), P(None, "model" if cut == "out" else None)

    def local(w, x):
        y = ops.linear(x, w)
        return jax.lax.psum(y, "model") if cut == "in" else y

    run = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=(spec, of_x), out_specs=of_y))
    assert "all-gather" not in run.lower(placed, x).compile().as_text()
    np.testing.assert_allclose(run(placed, x), x @ w.dense().T, rtol=1e-4, atol=1e-5)


@settings(max_examples=100)
@given(st.sampled_from(bit_packing.WIDTHS), st.integers(1, 5), st.integers(1, 41), st.integers(0, 9))
def test_unpack_undoes_pack(bits, rows, columns, seed):
    codes = np.random.default_rng(seed).integers(0, 2**bits, (rows, columns)).astype(np.uint8)
    packed = bit_packing.pack(codes, bits)
    assert packed.dtype == np.uint8
    assert packed.shape == (rows, bit_packing.packed_bytes(columns, bits))
    assert packed.shape[1] * 8 < columns * bits + 64 and packed.shape[1] * 8 >= columns * bits
    np.testing.assert_array_equal(bit_packing.unpack(packed, bits, columns), codes)


def test_the_layout_by_hand():
    """The first code is in the lowest bits; three bits run over the end of a byte."""
    assert bit_packing.pack(np.array([[1, 2, 3, 0]]), 2).tolist() == [[0b00_11_10_01]]
    assert bit_packing.pack(np.array([[0xA, 0xB]]), 4).tolist() == [[0xBA]]
    of_three = bit_packing.pack(np.array([[1, 2, 4, 0, 0, 0, 0, 7]]), 3)
    assert of_three.tolist() == [[0b00_010_001, 0b1, 0b111_00000]]


def test_codes_that_do_not_fit_are_refused():
    for code, bits, why in ((4, 2, "2 bits hold 0 to 3"), (-1, 2, "-1"), (0, 0, "1 to 8 bits"), (0, 9, "1 to 8 bits")):
        with pytest.raises(ValueError, match=why):
            bit_packing.pack(np.array([[code]]), bits)

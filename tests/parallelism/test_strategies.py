"""Meshes, placing and its inverse, batches in a plan's order, and the pipeline against its layers in turn."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from afm_ref import losses, transformer
from afm_ref.config import AFMConfig
from afm_ref.containers import Remat, Stacked, Stream, run_layers
from afm_ref.parallelism.compiled.collectives import QUICK
from afm_ref.parallelism.mesh import AXES, MeshShape, make_mesh
from afm_ref.parallelism.sharded import manual, strategies
from afm_ref.parallelism.sharded.pipelining import Pipeline, is_last
from afm_ref.parallelism.sharded.ring_attention import Local
from afm_ref.parallelism.sharded.strategies import NextToken, Plan, place, place_batch, unplace
from afm_ref.quantization import quantize
from afm_ref.weights import Layer

CFG = AFMConfig(d_model=8, n_layers=4, n_heads=6, n_kv_heads=2, head_dim=2, d_ff=12, vocab_size=16)
ZIGZAG = dict(sequence="ring", zigzag=True)
PLANS = [("data=2,fsdp=2,model=2", {}), ("pipe=2,fsdp=4", {}), ("seq=2,model=2", ZIGZAG), ("data=8", {})]


def batch(B=8, T=8, seed=0):
    tokens = np.random.default_rng(seed).integers(0, CFG.vocab_size, (B, T + 1)).astype(np.int32)
    documents = np.repeat([[0, 1]], B, 0).repeat(T // 2, 1).astype(np.int32)
    weights = np.linspace(0, 1, B * T, dtype=np.float32).reshape(B, T)
    return losses.Batch(tokens[:, :-1], tokens[:, 1:], weights, documents)


@pytest.mark.parametrize("mesh, options", PLANS)
def test_unplace_returns_the_same_bits(mesh, options):
    """And shapes alone are laid where weights are."""
    for cfg in (CFG, dataclasses.replace(CFG, tie_embeddings=False, qk_norm=None)):
        params, plan = transformer.init(cfg, 0), Plan(cfg, mesh, **options)
        placed = place(params, plan)
        back = unplace(placed)
        assert jax.tree.structure(back) == jax.tree.structure(params)
        for got, want in zip(jax.tree.leaves(back), jax.tree.leaves(params)):
            assert got.dtype == want.dtype and got.tobytes() == want.tobytes()
        pairs = [*zip(jax.tree.leaves(strategies.placed_shapes(plan)), jax.tree.leaves(placed), strict=True)]
        pairs += zip(strategies.placed_batch_shapes(plan, 8, 8, documents=True), place_batch(batch(), plan))
        for got, want in pairs:
            assert (got.shape, got.dtype, got.sharding) == (want.shape, want.dtype, want.sharding)


def test_a_placed_batch_is_the_batch_in_the_plans_order():
    plan = Plan(CFG, "data=2,seq=2", **ZIGZAG)
    plain, placed = batch(), place_batch(batch(), plan)
    order = [0, 1, 6, 7, 2, 3, 4, 5]
    assert placed.positions.tolist() == [order]
    for name in plain._fields:
        np.testing.assert_array_equal(getattr(placed, name), getattr(plain, name)[:, order])
    first = next(s for s in placed.tokens.addressable_shards if s.device == plan.mesh.devices[1, 0, 0, 1, 0])
    np.testing.assert_array_equal(first.data, plain.tokens[4:][:, [2, 3, 4, 5]])
    assert place_batch(plain._replace(documents=None), plan).documents is None


def test_layers_that_reuse_keys():
    # The last layer with keys of its own must not be stacked: a scan hands on none.
    cfg = dataclasses.replace(CFG, n_layers=3)
    params = jax.tree.map(np.float64, transformer.init(cfg, 0))
    params = params._replace(layers=params.layers[:2] + (params.layers[2]._replace(wk=None, wv=None, k_norm=None),))
    plan = Plan(cfg, "fsdp=2,model=2")
    with jax.enable_x64(True):
        got, _ = jax.jit(NextToken(plan), compiler_options=QUICK)(place(params, plan), place_batch(batch(), plan))
    np.testing.assert_allclose(got, losses.next_token(params, batch(), cfg)[0], rtol=1e-13)
    with pytest.raises(ValueError, match="one stack of equal layers"):
        place(params, Plan(cfg, "pipe=3"))


def test_a_quantized_model_is_placed_like_any_other():
    """Each device has its rows of the 8-bit embedding, and whole tables of the palettes."""
    params, plan = quantize(transformer.init(CFG, 0), rows_per_table=2), Plan(CFG, "model=2")
    got, _ = jax.jit(NextToken(plan), compiler_options=QUICK)(place(params, plan), place_batch(batch(), plan))
    np.testing.assert_allclose(got, losses.next_token(params, batch(), CFG)[0], rtol=1e-5)


def test_meshes_are_what_their_text_says_with_every_axis_and_neighbours_along_the_last():
    shape = MeshShape.parse(" data=2, model=4")
    assert shape == MeshShape(data=2, model=4) and shape.size == 8 and str(shape) == "data=2,model=4"
    assert MeshShape.parse(str(MeshShape())) == MeshShape()
    mesh = make_mesh(shape)
    assert mesh.axis_names == AXES and mesh.devices.shape == (2, 1, 1, 1, 4)
    assert [device.id for device in mesh.devices.flat] == list(range(8))
    assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}


L, B, T, D = 4, 6, 3, 2
MESH = make_mesh(MeshShape(pipe=2))


def stacked(seed=0):
    """Return layers of which only one matrix is used."""
    w = np.random.default_rng(seed).standard_normal((L, D, D)).astype(np.float32)
    return Stacked(Layer(*[None] * 7, None, w, None, None))


def step(stream, layer, cache):
    return Stream(stream.x + jnp.tanh(stream.x @ layer.w_gate.T)), cache


def pipelined(wrap, microbatches, weights, x):
    def local(layers, x):
        layers = Pipeline(wrap(layers), microbatches)
        y = layers.run(step, Stream(manual.vary(x, ("pipe",))))[0].x
        return jax.lax.psum(jnp.where(is_last(), y, 0), "pipe")

    specs = jax.tree.map(lambda _: P("pipe"), weights)
    return jax.shard_map(local, mesh=MESH, in_specs=(specs, P()), out_specs=P())(weights, x)


@pytest.mark.parametrize("wrap, microbatches", [(lambda kept: (kept,), 6), (lambda again: Remat((again,)), 3)])
def test_pipeline_equals_the_layers_in_turn(wrap, microbatches):
    x, weight = np.random.default_rng(1).standard_normal((2, B, T, D)).astype(np.float32)

    def run(way):
        total = jax.value_and_grad(lambda w, x: (way(w, x) * weight).sum(), (0, 1))
        return jax.jit(total, compiler_options=QUICK)(stacked(), x)

    with pytest.raises(ValueError, match="6 sequences a device cannot be cut into 4 microbatches"):
        pipelined(wrap, 4, stacked(), x)
    got = run(lambda w, x: pipelined(wrap, microbatches, w, x))
    want = run(lambda w, x: run_layers(w, step, Stream(x))[0].x)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_microbatches_keep_their_documents():
    documents = np.arange(B * T, dtype=np.int32).reshape(B, T)
    positions, k = np.arange(T, dtype=np.int32)[None], np.zeros((2, T, 1, 2), np.float32)
    way = Local(documents, positions)
    (_, _, rows, of_keys), cache = way.keys(k, k, positions, np.int32(4))
    assert rows.tolist() == of_keys.tolist() == documents[4:6].tolist() and cache == 4
    assert way.keys(k, k, positions)[0][2] is documents
    assert Local(None, positions).keys(k, k, positions, np.int32(4))[0][2] is None

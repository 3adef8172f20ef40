"""The pipeline against its layers in turn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from afm_ref.containers import Remat, Stacked, Stream, run_layers
from afm_ref.parallelism.compiled import collectives
from afm_ref.parallelism.mesh import MeshShape, make_mesh
from afm_ref.parallelism.sharded import manual
from afm_ref.parallelism.sharded.pipelining import Pipeline, is_last
from afm_ref.parallelism.sharded.ring_attention import Local
from afm_ref.weights import Layer

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
        return jax.jit(total, compiler_options=collectives.QUICK)(stacked(), x)

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

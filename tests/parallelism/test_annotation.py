"""Annotation only: the same numbers as on one device, where the arrays lie, and what the partitioner makes of it."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from afm_ref import containers, losses, transformer, weights
from afm_ref.config import parameters
from afm_ref.parallelism.annotated import annotation
from afm_ref.parallelism.annotated.axis_rules import Rules
from afm_ref.parallelism.compiled import collectives
from afm_ref.parallelism.mesh import MeshShape, make_mesh
from tests.parallelism import grid

CFG, B, T = grid.CFG, grid.B, grid.T


def plain(tree):
    return containers.ungrouped(annotation.unpin(tree))


@pytest.mark.parametrize(
    "shape, pinned",
    [
        ("fsdp=2,seq=2,model=2", True),  # the axes one by one, and without pins: slow
        *(pytest.param(axis, True, marks=pytest.mark.slow) for axis in ("data=2,seq=4", "data=8", "fsdp=8", "model=8")),
        pytest.param("data=2,fsdp=2,model=2", False, marks=pytest.mark.slow),
    ],
)
def test_equals_one_device(shape, pinned):
    mesh = make_mesh(MeshShape.parse(shape))
    with jax.enable_x64(True):
        params = annotation.shard(grid.stacked(), mesh, pinned=pinned)
        like = (params, annotation.state_shapes(grid.OPTIMIZER, params))
        batches = lambda step: annotation.shard_batch(grid.batch(step), mesh)  # noqa: E731
        run = grid.run(params, grid.LOSS, batches, plain, like=like)
        grid.check(run, grid.single())
    assert run.moved == []


def test_specs_of_every_weight():
    params = Rules().specs(transformer.init(CFG, seed=0))
    assert params.embed == P("model", "fsdp")
    assert params.layers[1] == weights.Layer(
        attention_norm=P(None), wq=P("model", "fsdp"), wk=P("model", "fsdp"), wv=P("model", "fsdp"),
        wo=P("fsdp", "model"), q_norm=P(None), k_norm=P(None), ffn_norm=P(None),
        w_gate=P("model", "fsdp"), w_up=P("model", "fsdp"), w_down=P("fsdp", "model"),
    )  # fmt: skip
    deep = Rules(layers="pipe", embed=None).specs(grid.stacked())
    assert deep.layers.layer.w_down == P("pipe", None, "model")
    assert deep.layers.layer.q_norm == P("pipe", None) and deep.unembed is None


def test_shapes_are_those_of_weights_slices_lie_apart_and_pins_come_off():
    params, of = grid.stacked(), lambda tree: jax.tree.map(lambda w: (w.shape, w.dtype), tree)
    assert of(annotation.stacked_shapes(CFG, jnp.float32, remat=False)) == of(params)
    mesh = make_mesh(MeshShape(data=2, fsdp=2, model=2))
    cut = annotation.shard(transformer.init(CFG, seed=0), mesh, pinned=False).layers[0].w_up
    assert {shard.data.shape for shard in cut.addressable_shards} == {(CFG.d_ff // 2, CFG.d_model // 2)}
    pinned = annotation.pin(params, mesh)
    assert pinned is not params and jax.tree.all(jax.tree.map(lambda a, b: a is b, annotation.unpin(pinned), params))


def gradient_traffic(shape, pinned):
    mesh = make_mesh(MeshShape.parse(shape))
    params = annotation.shard(annotation.stacked_shapes(CFG, jnp.float32, remat=False), mesh, pinned=pinned)
    ids, floats = (jax.ShapeDtypeStruct((B, T), dtype) for dtype in (jnp.int32, jnp.float32))
    places = jax.tree.map(lambda leaf: leaf.sharding, params)
    grad = jax.jit(jax.grad(grid.LOSS, has_aux=True), out_shardings=(places, None))
    return collectives.of(grad.lower(params, annotation.shard_batch(losses.Batch(ids, ids, floats), mesh)))


def test_pins_keep_the_batch_cut():
    """Pinned FSDP gathers each matrix once and sums no activation in the forward pass.

    Without pins the partitioner cuts activations along D as well, and sums those of the whole batch.
    """
    pinned, free = gradient_traffic("fsdp=8", True), gradient_traffic("fsdp=8", False)
    gains = CFG.n_layers * (2 * CFG.d_model + 2 * CFG.head_dim) + CFG.d_model
    matrices = 4 * (parameters(CFG)["total"] - gains)  # float32
    assert collectives.by_kind(pinned)["all-gather"]["bytes_sent"] == matrices * 7 / 8  # not again in the backward pass

    def summed_forward(found, whole_bytes):
        forward = [c for c in found if c.kind == "all-reduce" and "/jvp()/while" in c.op_name]
        return sum(c.count for c in forward if c.operand_bytes >= whole_bytes)

    ffn_activation = 4 * B * T * CFG.d_ff
    assert summed_forward(free, ffn_activation) >= 2 * CFG.n_layers  # gate and up of every layer
    assert summed_forward(pinned, 1) == 0


@pytest.mark.slow
def test_cut_time_stays_cut_in_the_matrices():
    """With T cut, no activation of the feed-forward layer is gathered; attention's queries are, by their reshape."""
    found = gradient_traffic("data=2,seq=4", True)
    gathers = [c for c in found if c.kind == "all-gather"]
    q = 4 * (B // 2) * T * CFG.n_heads * CFG.head_dim
    assert {c.result_bytes for c in gathers} == {q}

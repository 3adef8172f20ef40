"""The grid of proof: every strategy, products of them and annotation alone, against one device; and what they send."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from afm_ref import containers, losses, transformer, weights
from afm_ref.config import parameters
from afm_ref.parallelism.annotated import annotation
from afm_ref.parallelism.annotated.axis_rules import Rules
from afm_ref.parallelism.compiled import collectives
from afm_ref.parallelism.mesh import MeshShape, make_mesh
from afm_ref.parallelism.predicted import traffic
from afm_ref.parallelism.sharded.strategies import NextToken, Plan, place, place_batch, unplace
from tests.parallelism import grid

CFG, B, T = grid.CFG, grid.B, grid.T


def sent(found):
    return {kind: row["bytes_sent"] for kind, row in collectives.by_kind(found).items()}


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


every_case = pytest.mark.parametrize("name", [name if name in grid.QUICK else slow(name) for name in grid.CASES])


@every_case
def test_strategy_equals_the_single_device(name):
    run = grid.sharded(name)
    grid.check(run, grid.single())
    assert run.moved == []  # what a step returns lies where it lay: the next step compiles nothing new


@every_case
def test_bytes_sent_equal_the_formula(name):
    want = traffic.bytes_sent(grid.plan_of(name), grid.B, grid.T, width=8, documents=True)
    assert sent(grid.sharded(name).ours) == want


@every_case
def test_the_optimizer_moves_single_numbers(name):
    # The norm of a block, or of all: one number a layer at most. No weight is gathered to be updated.
    for found in grid.sharded(name).compilers:
        assert found.kind == "all-reduce" and found.operand_bytes <= 8 * grid.CFG.n_layers


def test_an_untied_model_with_the_other_layouts():
    """And with stage 2 of ZeRO and the norms' regions cut, what no other quick case has: loss, gradients and bytes."""
    changes = dict(tie_embeddings=False, qk_norm="before_rope", rope_layout="half_split")
    cfg = dataclasses.replace(grid.CFG, n_layers=2, **changes)
    plan = Plan(cfg, "data=2,fsdp=2,model=2", sequence="norm", zero=2)

    def run(loss, plain, *arguments):
        gradient = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(*arguments)
        compiled, found = collectives.compile_and_count(gradient, collectives.QUICK)
        (total, count), grads = compiled(*arguments)
        return float(total / count), [np.asarray(leaf) for leaf in jax.tree.leaves(plain(grads))], found

    next_token = lambda params, batch: losses.next_token(params, batch, cfg)  # noqa: E731
    with jax.enable_x64(True):
        placed = place(grid.params64(cfg), plan), place_batch(grid.batch(0), plan)
        loss, grads, found = run(NextToken(plan), unplace, *placed)
        want, plain, _ = run(next_token, containers.ungrouped, grid.stacked(cfg), grid.batch(0))
    np.testing.assert_allclose(loss, want, rtol=grid.ROUNDING)
    for g, got in zip(plain, grads, strict=True):
        assert np.abs(got - g).max() <= grid.ROUNDING * np.abs(g).max()
    assert sent(grid.ours(found)) == traffic.bytes_sent(plan, grid.B, grid.T, width=8, documents=True)


def plain(tree):
    return containers.ungrouped(annotation.unpin(tree))


ONE_BY_ONE = [slow(axis, True) for axis in ("data=2,seq=4", "data=8", "fsdp=8", "model=8")]
UNPINNED = slow("data=2,fsdp=2,model=2", False)


@pytest.mark.parametrize("shape, pinned", [("fsdp=2,seq=2,model=2", True), *ONE_BY_ONE, UNPINNED])
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
    assert cut.sharding.spec == P("model", "fsdp")
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
    """FSDP gathers each matrix once and sums no activation going forward; without pins it cuts and sums these too."""
    pinned, free = gradient_traffic("fsdp=8", True), gradient_traffic("fsdp=8", False)
    gains = CFG.n_layers * (2 * CFG.d_model + 2 * CFG.head_dim) + CFG.d_model
    matrices = 4 * (parameters(CFG)["total"] - gains)  # float32
    assert collectives.by_kind(pinned)["all-gather"]["bytes_sent"] == matrices * 7 / 8  # not again in the backward pass

    summed, none = (
        [c for c in found if c.kind == "all-reduce" and "/jvp()/while" in c.op_name] for found in (free, pinned)
    )
    gate_and_up = [c for c in summed if c.operand_bytes >= 4 * B * T * CFG.d_ff]
    assert sum(c.count for c in gate_and_up) >= 2 * CFG.n_layers and not none


@pytest.mark.slow
def test_cut_time_stays_cut_in_the_matrices():
    """With T cut, no activation of the feed-forward layer is gathered; attention's queries are, by their reshape."""
    found = gradient_traffic("data=2,seq=4", True)
    q = 4 * (B // 2) * T * CFG.n_heads * CFG.head_dim
    assert {c.result_bytes for c in found if c.kind == "all-gather"} == {q}

"""Each weight against the whole matrix it is a slice of, and what it communicates."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from afm_ref import losses, ops
from afm_ref.lora import LoRA
from afm_ref.parallelism.compiled.collectives import QUICK
from afm_ref.parallelism.mesh import MeshShape, make_mesh
from afm_ref.parallelism.sharded import manual
from afm_ref.parallelism.sharded.fsdp import Gathered
from afm_ref.parallelism.sharded.placements import specs
from afm_ref.parallelism.sharded.tensor_parallel import Column, NormEnter, NormGather, Row, VocabParallel

B, T, D, F, V = 2, 4, 8, 12, 16
MESH = make_mesh(MeshShape(model=4))
WHOLE = P()
rng = np.random.default_rng(0)


def jit(f):
    return jax.jit(f, compiler_options=QUICK)


def normal(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def mapped(f, *in_specs, out=WHOLE, mesh=MESH):
    """Return f under shard_map; axes of one device leave the specs, as they do in a Plan."""
    is_spec = lambda leaf: isinstance(leaf, P)  # noqa: E731
    trimmed = jax.tree.map(lambda spec: manual.trim(spec, mesh), in_specs, is_leaf=is_spec)
    return jax.shard_map(f, mesh=mesh, in_specs=trimmed, out_specs=manual.trim(out, mesh))


def count(f, *args):
    text = str(jax.make_jaxpr(f)(*args))
    names = ("psum_invariant", "all_gather", "reduce_scatter", "pmax", "ppermute")
    return collections.Counter({name: text.count(f"= {name}[") for name in names if f"= {name}[" in text})


def ffn(x, gain, up, down):
    return ops.linear(ops.linear(ops.rms_norm(x, gain, 1e-5), up) ** 2, down)


X, GAIN, UP, DOWN = normal(B, T, D), normal(D), normal(F, D), normal(D, F)


def half_block(gain, down, out=WHOLE):
    """Return the sum of squares of half a block, as a function of whole arrays, cut by these weights."""
    weights = (gain, Column(UP), down)

    def total(x, weights):
        def local(x, weights):
            y = ffn(x, *weights)
            return manual.psum((y * y).sum(), ("model",)) if out != WHOLE else (y * y).sum()

        return mapped(local, out, specs(weights))(x, weights)

    return total, weights


def check_gradients(total, weights):
    value, grads = jit(jax.value_and_grad(total, (0, 1)))(X, weights)
    want = jit(jax.value_and_grad(lambda x, w: (ffn(x, *w) ** 2).sum(), (0, 1)))(X, (GAIN, UP, DOWN))
    np.testing.assert_allclose(value, want[0], rtol=1e-5)
    for got, leaf in zip(jax.tree.leaves(grads), jax.tree.leaves(want[1])):
        np.testing.assert_allclose(got, leaf, rtol=1e-4, atol=1e-5 * np.abs(leaf).max())


def test_a_half_block_sums_once_each_way():
    total, weights = half_block(NormEnter(GAIN), Row(DOWN))
    check_gradients(total, weights)
    assert count(total, X, weights) == {"psum_invariant": 1}
    assert count(jax.grad(lambda x: total(x, weights)), X) == {"psum_invariant": 2}


def test_a_half_block_gathers_once_each_way():
    total, weights = half_block(NormGather(GAIN), Row(DOWN, scatter=True), P(None, "model"))
    once = {"all_gather": 1, "reduce_scatter": 1, "psum_invariant": 1}  # the last: our total
    assert count(total, X, weights) == once
    both = count(jax.grad(lambda x: total(x, weights)), X)
    assert both == once | {"all_gather": 2, "reduce_scatter": 2}
    check_gradients(total, weights)


def test_gathered_gradient_is_the_scattered_sum():
    mesh = make_mesh(MeshShape(fsdp=4))
    x, w = normal(8, D), Gathered(UP)

    def total(w, x):
        def local(w, x):
            return manual.psum((ops.linear(x, w) ** 2).sum(), ("fsdp",))

        return mapped(local, specs(w), P("fsdp"), mesh=mesh)(w, x)

    value, grad = jit(jax.value_and_grad(total))(w, x)
    np.testing.assert_allclose(value, ((x @ UP.T) ** 2).sum(), rtol=1e-5)
    np.testing.assert_allclose(grad.shard, 2 * (x @ UP.T).T @ x, rtol=1e-4, atol=1e-3)  # of sum |W x|^2, in closed form
    assert count(jax.grad(total), w, x) == {"all_gather": 1, "reduce_scatter": 1, "psum_invariant": 1}


@pytest.mark.parametrize("scatter", [False, True])
def test_vocab_parallel_equals_whole(scatter):
    table = 3 * normal(V, D)
    tokens, targets = rng.integers(0, V, (2, B, T)).astype(np.int32)
    norm = NormGather if scatter else NormEnter

    def loss(embed, gain, scale, axes=()):
        x = ops.lookup(tokens, embed)
        logits = ops.linear(ops.rms_norm(x, gain, 1e-5) * scale, embed)
        return losses.token_log_probs(logits, targets).sum()

    for scale in (1.0, 300.0):  # the second would overflow exp without the largest logit of all devices
        weights = (VocabParallel(table, scatter=scatter), norm(GAIN))
        cut = lambda w: mapped(lambda w: loss(*w, scale), specs(weights))(w)  # noqa: B023, E731
        got, want = jit(jax.value_and_grad(cut))(weights), jit(jax.value_and_grad(loss, (0, 1)))(table, GAIN, scale)
        np.testing.assert_allclose(got[0], want[0], rtol=1e-5)
        for a, b in zip(jax.tree.leaves(got[1]), jax.tree.leaves(want[1])):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max())


def test_vary_adds_what_is_missing_and_sums_in_reverse():
    mesh = make_mesh(MeshShape(data=2, fsdp=2))

    def total(w, x):
        def local(w, x):
            w = manual.vary(w, ("data", "fsdp", "model"))
            assert jax.typeof(w).manual_axis_type.varying == {"data", "fsdp"}  # model has one device
            assert manual.vary(x, ("data",)) is x
            return manual.psum((w * x).sum(), ("data", "fsdp"))

        return mapped(local, P(), P(("data", "fsdp")), mesh=mesh)(w, x)

    x = normal(8)
    np.testing.assert_allclose(jit(jax.grad(total))(jnp.float32(2.0), x), x.sum(), rtol=1e-5)


def test_a_weight_of_several_leaves_is_cut_leaf_by_leaf():
    # An adapter says what its leaves are, and Column and Gathered cut those that have the dimension.
    a, b = normal(4, D), normal(F, 4)
    mesh = make_mesh(MeshShape(fsdp=2, model=2))
    w = Column(Gathered(LoRA(UP, a, b, 1.0)))
    cut = specs(w).shard.shard
    assert (cut.base, cut.a, cut.b) == (P("model", "fsdp"), P(None, "fsdp"), P("model", None))
    apply = lambda x, w: w.apply(manual.vary(x, ("fsdp", "model")))  # noqa: E731
    y = mapped(apply, P(), specs(w), out=P(("fsdp", "model")), mesh=mesh)(X, w)
    y = np.asarray(y).reshape(2, 2, B, T, F // 2)  # the devices' parts of F, twice for the two of fsdp
    for copy in y:
        np.testing.assert_allclose(np.concatenate(list(copy), -1), X @ (UP + b @ a).T, rtol=1e-4, atol=1e-4)

"""Placing: the transformation of plain weights and batches into slices on a mesh, and back."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from ..layers import Remat, group, run_layers, ungroup
from ..losses import Batch
from ..weights import Params
from .pipeline import Pipeline
from .placements import GATHERED, Column, Gathered, NormEnter, NormGather, Row, VocabParallel, is_placed, specs
from .plan import Plan, check_batch


class KeepGathered(NamedTuple):
    """Layers whose activations are computed again in the backward pass, but whose gathered weights are kept (ZeRO-2).

    Source: Rajbhandari et al. 2020 section 5.2 [standard].
    Test: tests/parallelism/test_memory.py::test_zero_stages_differ_in_memory_as_they_say
    """

    layers: Any

    def run(self, step, stream, cache=None):
        """Return (stream, cache), the same numbers as without it."""
        policy = jax.checkpoint_policies.save_only_these_names(GATHERED)
        return run_layers(self.layers, jax.checkpoint(step, policy=policy), stream, cache)


def place(params: Params, plan: Plan) -> Params:
    """Return the weights as the plan wants them: each array global, its slices on their devices.

    Equal layers are stacked. A tree that is placed already must be unplaced first. `unplace` undoes it bit for bit.

    Source: our own [ours].
    Test: tests/parallelism/test_strategies.py::test_unplace_returns_the_same_bits
    """

    def put(leaf, spec):
        leaf = np.asarray(leaf)
        leaf = leaf.astype(jax.dtypes.canonicalize_dtype(leaf.dtype), copy=False)
        # Each device takes its slice: the whole array is never on one of them, nor need all devices be this process's.
        return jax.make_array_from_callback(leaf.shape, plan.sharding(spec), lambda index: leaf[index])

    wrapped = wrap(params, plan)
    return jax.tree.map(put, wrapped, specs(wrapped))


def unplace(params: Params) -> Params:
    """Return plain weights on the host, layer by layer: NumPy arrays as `transformer.init` gives them.

    Source: our own [ours].
    Test: tests/parallelism/test_strategies.py::test_unplace_returns_the_same_bits
    """
    bare = jax.tree.map(_bare, params, is_leaf=is_placed)
    whole = jax.tree.map(_to_host, bare)
    return whole._replace(layers=ungroup(whole.layers))


def abstract(plan: Plan, dtype=jnp.float32) -> Params:
    """Return what `place` returns as shapes with shardings, without weights: enough to lower and compile a step.

    Source: our own [ours].
    Test: tests/parallelism/test_strategies.py::test_abstract_weights_have_the_shapes_of_placed_ones
    """
    shapes = jax.eval_shape(lambda: wrap(shaped(plan.cfg, lambda *shape: jnp.zeros(shape, dtype)), plan))

    def shaped(leaf, spec):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=plan.sharding(spec))

    return jax.tree.map(shaped, shapes, specs(shapes))


class PlacedBatch(NamedTuple):
    """A batch over the mesh: B cut over data and fsdp, T over seq, in the plan's order of positions."""

    tokens: Any  # [B, T]
    targets: Any  # [B, T]
    weights: Any  # [B, T]
    documents: Any  # [B, T] or None
    positions: Any  # [1, T]


def place_batch(batch: Batch, plan: Plan) -> PlacedBatch:
    """Return the batch in the plan's order, cut over the mesh. Every process gives the whole batch.

    Targets were shifted before: tokens that are neighbours in time need not be neighbours any more.

    Source: our own [ours].
    Test: tests/parallelism/test_strategies.py::test_a_placed_batch_is_the_batch_in_the_plans_order
    """
    order = check_batch(plan, *batch.tokens.shape)

    def put(array, spec):
        if array is None:
            return None
        array = np.asarray(array)
        return jax.make_array_from_callback(array.shape, plan.sharding(spec), lambda index: array[index])

    ordered = (None if array is None else np.asarray(array)[:, order] for array in batch)
    return PlacedBatch(*map(put, (*ordered, order[None]), batch_specs()))


def abstract_batch(plan: Plan, B: int, T: int, documents: bool = False) -> PlacedBatch:
    """Return the shapes and shardings of a placed batch of B sequences of T tokens."""
    check_batch(plan, B, T)
    shapes = ((B, T), (B, T), (B, T), (B, T), (1, T))
    dtypes = (jnp.int32, jnp.int32, jnp.float32, jnp.int32, jnp.int32)
    made = [
        jax.ShapeDtypeStruct(shape, dtype, sharding=plan.sharding(spec))
        for shape, dtype, spec in zip(shapes, dtypes, batch_specs())
    ]
    return PlacedBatch(*made[:3], made[3] if documents else None, made[4])


def batch_specs(documents: bool = True) -> PlacedBatch:
    """Return how each array of a batch is cut."""
    tokens = PartitionSpec(("data", "fsdp"), "seq")
    return PlacedBatch(tokens, tokens, tokens, tokens if documents else None, PartitionSpec(None, "seq"))


def wrap(params: Params, plan: Plan) -> Params:
    """Return the tree of weights and containers that the plan asks for, around arrays that are still whole.

    Every plan has the same weights, so that checkpoints of one mesh fit another; an axis of one device does nothing.
    """
    scatter = plan.sequence == "norm"
    norm = NormGather if scatter else NormEnter
    layers = _grouped(tuple(_wrap_layer(layer, norm, scatter) for layer in ungroup(params.layers)))
    if plan.remat:
        layers = KeepGathered(layers) if plan.zero == 2 else Remat(layers)
    if plan.shape.pipe > 1:
        if len(_inner(layers)) > 1:
            raise ValueError("a pipeline cuts one stack of equal layers, but these differ: leave the axis pipe at 1")
        layers = Pipeline(layers, plan.microbatches)
    unembed = params.unembed
    return Params(
        VocabParallel(Gathered(params.embed), scatter=scatter),
        layers,
        norm(params.final_norm),
        None if unembed is None else VocabParallel(Gathered(unembed), scatter=scatter),
    )


def _wrap_layer(layer, norm, scatter):
    """Return a layer of weights. The model dimension D of each matrix is cut over fsdp, the other over model."""

    def column(w):
        return None if w is None else Column(Gathered(w, dim="in"))

    def row(w):
        return Row(Gathered(w, dim="out"), scatter=scatter)

    return layer._replace(
        attention_norm=norm(layer.attention_norm),
        wq=column(layer.wq),
        wk=column(layer.wk),
        wv=column(layer.wv),
        wo=row(layer.wo),
        ffn_norm=norm(layer.ffn_norm),
        w_gate=column(layer.w_gate),
        w_up=column(layer.w_up),
        w_down=row(layer.w_down),
    )


def _grouped(layers):
    """Return the layers stacked where equal, the last before those that reuse its keys alone: a scan hands on none."""
    reuse = next((i for i, layer in enumerate(layers) if layer.wk is None), None)
    if reuse is None or reuse == 0:
        return group(layers)
    return group(layers[: reuse - 1]) + (layers[reuse - 1],) + group(layers[reuse:])


def _inner(layers):
    return getattr(layers, "layers", layers)


def _bare(node):
    """Return the array inside nested weights."""
    while is_placed(node):
        node = node.gain if hasattr(node, "gain") else node.shard
    return node


def _to_host(leaf):
    if not getattr(leaf, "is_fully_addressable", True):
        from jax.experimental.multihost_utils import process_allgather

        leaf = process_allgather(leaf, tiled=True)
    return np.asarray(leaf)

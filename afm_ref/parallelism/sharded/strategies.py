"""Training one model by a plan: where weights and batches lie, and the loss over them.

    params = place(params, plan);  loss = NextToken(plan);  batch = place_batch(batch, plan)

are what `training.fit` takes, and nothing else changes: the optimizer sees global arrays.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import PartitionSpec

from ... import losses
from ...containers import Remat, group, run_layers, ungroup, ungrouped
from ...weights import Params, shaped
from ..mesh import put
from .fsdp import GATHERED, Gathered
from .manual import psum, trim, vary
from .pipelining import Pipeline, is_last
from .placements import is_placed, specs
from .plan import BATCH_AXES, COPY_AXES, Plan
from .ring_attention import GatheredKeys, Local, Ring
from .tensor_parallel import Column, NormEnter, NormGather, Row, VocabParallel


class KeepGathered(NamedTuple):
    """Layers computed again in the backward pass, but for their gathered weights (ZeRO-2).

    Source: Rajbhandari et al. 2020 section 5.2 [standard].
    Test: tests/parallelism/test_predicted.py::test_memory_formula_beside_the_compiled_program
    """

    layers: Any

    def run(self, step, stream, cache=None):
        """Return (stream, cache), the same numbers as without it."""
        policy = jax.checkpoint_policies.save_only_these_names(GATHERED)
        return run_layers(self.layers, jax.checkpoint(step, policy=policy), stream, cache)


def place(params: Params, plan: Plan) -> Params:
    """Return the weights as the plan wants them: global arrays, in slices on the devices.

    Equal layers are stacked. `unplace` undoes it bit for bit.
    """
    wrapped = wrap(params, plan)
    return _lay(wrapped, specs(wrapped), plan)


def unplace(params: Params) -> Params:
    """Return plain weights on the host, NumPy arrays as `transformer.init` gives them."""
    bare = jax.tree.map(_bare, params, is_leaf=is_placed)
    return ungrouped(jax.tree.map(_to_host, bare))


def _to_host(leaf):
    if getattr(leaf, "is_fully_addressable", True):
        return np.asarray(leaf)
    return process_allgather(leaf, tiled=True)


def placed_shapes(plan: Plan, dtype=jnp.float32) -> Params:
    """Return what `place` returns as shapes with shardings: enough to compile a step."""
    shapes = jax.eval_shape(
        lambda: wrap(shaped(plan.cfg, lambda *shape: jnp.zeros(shape, dtype)), plan)
    )
    return _lay(shapes, specs(shapes), plan)


class PlacedBatch(NamedTuple):
    """A batch over the mesh: B over data and fsdp, T over seq, in the plan's order."""

    tokens: Any  # [B, T]
    targets: Any  # [B, T]
    weights: Any  # [B, T]
    documents: Any  # [B, T] or None
    positions: Any  # [1, T]


_CUT = PartitionSpec(("data", "fsdp"), "seq")
BATCH_SPECS = PlacedBatch(_CUT, _CUT, _CUT, _CUT, PartitionSpec(None, "seq"))


def place_batch(batch: losses.Batch, plan: Plan) -> PlacedBatch:
    """Return the batch in the plan's order, cut over the mesh; every process gives all.

    Targets were shifted before: neighbours in time need not be neighbours any more.
    """
    order = plan.order(*batch.tokens.shape)
    ordered = jax.tree.map(lambda array: np.asarray(array)[:, order], batch)
    made = PlacedBatch(*ordered, order[None])
    return _lay(made, BATCH_SPECS, plan)


def placed_batch_shapes(plan: Plan, B: int, T: int, documents: bool = False) -> PlacedBatch:
    """Return the shapes and shardings of a placed batch of B sequences of T tokens."""
    plan.order(B, T)
    ids = jax.ShapeDtypeStruct((B, T), jnp.int32)
    weights, positions = ids.update(dtype=jnp.float32), ids.update(shape=(1, T))
    made = PlacedBatch(ids, ids, weights, ids if documents else None, positions)
    return _lay(made, BATCH_SPECS, plan)


def _lay(tree, tree_specs, plan):
    """Return the arrays, or shapes, where the specs say; None stays."""

    def lay(spec, x):
        return None if x is None else put(x, plan.sharding(spec))

    return jax.tree.map(lay, tree_specs, tree)


def wrap(params: Params, plan: Plan) -> Params:
    """Return the plan's tree of weights and containers, around arrays that are whole.

    Every plan has the same weights; those over an axis of one device do nothing.
    """
    scatter = plan.sequence == "norm"
    norm = NormGather if scatter else NormEnter
    layers = _grouped(
        tuple(_wrap_layer(layer, norm, scatter) for layer in ungroup(params.layers))
    )
    if plan.shape.pipe > 1 and len(layers) > 1:
        raise ValueError(
            "a pipeline cuts one stack of equal layers, but these differ: leave the axis pipe at 1"
        )
    if plan.remat:
        layers = KeepGathered(layers) if plan.zero == 2 else Remat(layers)
    if plan.shape.pipe > 1:
        layers = Pipeline(layers, plan.microbatches)
    embed, unembed = (
        None if w is None else VocabParallel(Gathered(w), scatter)
        for w in (params.embed, params.unembed)
    )
    return Params(embed, layers, norm(params.final_norm), unembed)


def _wrap_layer(layer, norm, scatter):
    """Return a layer of weights: D of each matrix cut over fsdp, the other over model."""
    makers = (
        (norm, ("attention_norm", "ffn_norm")),
        (lambda w: Column(Gathered(w, dim="in")), ("wq", "wk", "wv", "w_gate", "w_up")),
        (lambda w: Row(Gathered(w, dim="out"), scatter), ("wo", "w_down")),
    )
    return layer._replace(
        **{
            name: wrapped(w)
            for wrapped, names in makers
            for name in names
            if (w := getattr(layer, name)) is not None
        }
    )


def _grouped(layers):
    """Return equal layers stacked, the last before those that reuse its keys alone."""
    reuse = next((i for i, layer in enumerate(layers) if layer.wk is None), 0)
    if reuse == 0:
        return group(layers)
    return group(layers[: reuse - 1]) + (layers[reuse - 1],) + group(layers[reuse:])


def _bare(node):
    """Return the array inside nested weights."""
    while is_placed(node):
        node = node.gain if hasattr(node, "gain") else node.shard
    return node


@dataclasses.dataclass(frozen=True)
class NextToken:
    """The next-token loss over the mesh: (placed weights and batch) -> (sum, count).

        sum = psum over the axes that cut the batch of losses.next_token(a device's part)

    It is `losses.next_token` under `jax.shard_map`; differentiate it from outside, as
    training.make_step does. A gradient then lies as its weight lies.

    Source: TR24 section 3.2 (next-token pre-training) [confirmed]; the form is ours [ours].
    Test: tests/parallelism/test_grid.py::test_strategy_equals_the_single_device
    """

    plan: Plan

    def __call__(self, params: Params, batch):
        """Return (sum, count), the same on every device."""
        if not isinstance(batch, PlacedBatch):
            raise TypeError(
                f"this loss takes what place_batch(batch, plan) returns, got a {type(batch).__name__}"
            )
        in_specs = jax.tree.map(
            lambda spec: trim(spec, self.plan.mesh), (specs(params), BATCH_SPECS)
        )
        return jax.shard_map(
            self.local, mesh=self.plan.mesh, in_specs=in_specs, out_specs=PartitionSpec()
        )(params, batch)

    def local(self, params: Params, batch: PlacedBatch):
        """Return (sum, count) of one device's slices and part of the batch."""
        *plain, positions = batch
        params = ready(params, self.plan)
        attend = attend_of(self.plan, batch.documents, positions)
        total, count = losses.next_token(
            params, losses.Batch(*plain), self.plan.cfg, positions, attend
        )
        # elsewhere in a pipeline it is made of zeros
        total = jnp.where(is_last(), total, 0)
        return psum(total, COPY_AXES), psum(count, BATCH_AXES)


def ready(params: Params, plan: Plan) -> Params:
    """Return the weights as a step begins, inside shard_map.

    Each weight that the devices hold in copies enters the part where they differ, here and
    once: by AD its gradients are summed once, after all its uses. The embedding is gathered
    once for both of its ends; with zero=1 all is.

    Source: ZeRO's stages from Rajbhandari et al. 2020 section 5 [standard].
    Test: tests/parallelism/test_grid.py::test_bytes_sent_equal_the_formula
    """
    params = jax.tree.map(lambda leaf: vary(leaf, COPY_AXES), params)
    if plan.zero == 1:
        return gathered(params)
    return params._replace(embed=gathered(params.embed), unembed=gathered(params.unembed))


def gathered(tree):
    """Return a tree of weights with every `Gathered` made whole."""
    is_gathered = lambda node: isinstance(node, Gathered)  # noqa: E731
    return jax.tree.map(
        lambda node: node.whole() if is_gathered(node) else node, tree, is_leaf=is_gathered
    )


def attend_of(plan: Plan, documents, positions):
    """Return the plan's way to attend, from one device's documents and positions."""
    if plan.sequence == "gather":
        return GatheredKeys(documents, positions)
    if plan.sequence == "ring":
        return Ring(documents, positions, plan.zigzag)
    return Local(documents, positions)

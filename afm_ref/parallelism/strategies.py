"""The loss of a plan: the one forward function under `jax.shard_map`, on weights and batches that were placed.

    params = place(params, plan);   loss = next_token(plan);   batch = place_batch(batch, plan)

are what `training.fit` takes, and nothing else changes: the optimizer works on the global sharded arrays.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from .. import losses
from ..weights import Params
from .attends import GatheredKeys, Local, Ring
from .manual import psum, trim, vary
from .pipeline import is_last
from .placements import Gathered, specs
from .placing import PlacedBatch, abstract, abstract_batch, batch_specs, place, place_batch, unplace
from .plan import BATCH_AXES, COPY_AXES, Plan

__all__ = ["PlacedBatch", "Plan", "abstract", "abstract_batch", "next_token", "place", "place_batch", "unplace"]


def next_token(plan: Plan) -> "NextToken":
    """Return the loss of the next token over the mesh: (placed weights, placed batch) -> (sum, count).

        sum = psum over the axes that cut the batch of losses.next_token(this device's part),   count likewise

    It is `losses.next_token` under `jax.shard_map`; differentiate it from outside, as training.make_step does. A
    gradient then lies as its weight lies.

    Source: TR24 section 3.2 (next-token pre-training) [confirmed]; the form is ours [ours].
    Test: tests/parallelism/test_grid.py::test_strategy_equals_the_single_device
    """
    return NextToken(plan)


@dataclasses.dataclass(frozen=True)
class NextToken:
    """The function that `next_token` makes; a dataclass, so that checkpoints can tell its settings."""

    plan: Plan

    def __call__(self, params: Params, batch):
        """Return (sum, count), the same on every device."""
        if not isinstance(batch, PlacedBatch):
            raise TypeError(f"this loss takes what place_batch(batch, plan) returns, got a {type(batch).__name__}")
        in_specs = jax.tree.map(
            lambda spec: trim(spec, self.plan.mesh), (specs(params), batch_specs(batch.documents is not None))
        )
        local = jax.shard_map(
            self.local, mesh=self.plan.mesh, in_specs=in_specs, out_specs=(PartitionSpec(), PartitionSpec())
        )
        return local(params, batch)

    def local(self, params: Params, batch: PlacedBatch):
        """Return (sum, count) inside shard_map, from one device's slices of the weights and part of the batch."""
        tokens, targets, weights, documents, positions = batch
        params = ready(params, self.plan)
        attend = attend_of(self.plan, documents, positions)
        plain = losses.Batch(tokens, targets, weights, documents)
        total, count = losses.next_token(params, plain, self.plan.cfg, positions, attend)
        total = jnp.where(is_last(), total, 0)  # elsewhere in a pipeline it is made of zeros
        return psum(total, COPY_AXES), psum(count, BATCH_AXES)


def ready(params: Params, plan: Plan) -> Params:
    """Return the weights as a step begins, inside shard_map.

    Each weight that the devices hold in copies enters the part where they differ, here and once: by AD its gradients
    are summed once, after all its uses. The embedding is gathered once for both of its ends; with zero=1 all is.

    Source: our own [ours]; ZeRO's stages from Rajbhandari et al. 2020 section 5 [standard].
    Test: tests/parallelism/test_grid.py::test_bytes_sent_equal_the_formula
    """
    params = jax.tree.map(lambda leaf: vary(leaf, COPY_AXES), params)
    if plan.zero == 1:
        return gathered(params)
    return params._replace(embed=gathered(params.embed), unembed=gathered(params.unembed))


def gathered(tree):
    """Return a tree of weights with every `Gathered` made whole."""
    is_gathered = lambda node: isinstance(node, Gathered)  # noqa: E731
    return jax.tree.map(lambda node: node.whole() if is_gathered(node) else node, tree, is_leaf=is_gathered)


def attend_of(plan: Plan, documents, positions):
    """Return the plan's way to attend, from one device's documents and positions."""
    if plan.sequence == "gather":
        return GatheredKeys(documents, positions)
    if plan.sequence == "ring":
        return Ring(documents, positions, zigzag=plan.zigzag)
    return Local(documents)

"""Weights that know on which devices they lie, under the same forward function.

Inside `jax.shard_map` each weight holds this device's slice, outside the whole sharded
array; the tree is the same. Each linear weight names its dimensions ("out", "in"), each
class says along which mesh axis it cuts which of them, and how a slice is applied: `fsdp`
and `tensor_parallel`. Where the slices lie is `specs`.

AD transposes each collective into its partner: all-gather <-> reduce-scatter, and a psum
<-> the entry (`pcast`) that says a value differs from device to device.
"""

import dataclasses
from typing import Any

import jax
from jax.sharding import PartitionSpec

from ...containers import Stacked
from .pipelining import Pipeline


@dataclasses.dataclass(frozen=True, eq=False)
class Slice:
    """A matrix of which each device of `axis` holds a slice along its dimension `dim`."""

    shard: Any
    axis = "model"
    dim = "out"

    def spec(self):
        """Return the axes of the leaves: the dimension that is cut bears the mesh axis."""

        def cut(names):
            return PartitionSpec(*(self.axis if n == self.dim else n for n in names))

        return dataclasses.replace(self, shard=jax.tree.map(cut, spec(self.shard)))


@dataclasses.dataclass(frozen=True, eq=False)
class Gain:
    """The gain of a norm, the same on all devices of model."""

    gain: Any

    def spec(self):
        """Return the axes of the leaves: nothing is cut."""
        return dataclasses.replace(self, gain=PartitionSpec())


def spec(node):
    """Return the axes of a weight's leaves: a mesh axis where cut, else "out" or "in".

    A plain matrix is ("out", "in"). Any other weight (an adapter, a palette) says by
    `.spec()` what its leaves are.
    """
    return node.spec() if hasattr(node, "spec") else PartitionSpec("out", "in")


def is_placed(node) -> bool:
    """Return whether a node of a tree is one of the weights of this file."""
    return isinstance(node, Slice | Gain)


def specs(tree, leading=()):
    """Return a PartitionSpec for every leaf of a tree of weights; plain arrays are whole.

    leading: axes in front of each leaf; a `Stacked`'s layers are whole, a `Pipeline`'s cut.
    """

    def without_names(axes):
        return PartitionSpec(
            *leading, *(None if axis in ("out", "in") else axis for axis in axes)
        )

    def of(node):
        if isinstance(node, Pipeline):
            return dataclasses.replace(node, layers=specs(node.layers, ("pipe",)))
        if isinstance(node, Stacked):
            return Stacked(specs(node.layer, leading or (None,)))
        if is_placed(node):
            return jax.tree.map(without_names, node.spec())
        return PartitionSpec(*leading)

    ours = Slice | Gain | Pipeline | Stacked
    return jax.tree.map(of, tree, is_leaf=lambda node: isinstance(node, ours))

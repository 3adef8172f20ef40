"""Weights that know on which devices they lie, under the same forward function.

Inside `jax.shard_map` each weight holds this device's slice, outside the whole sharded
array; the tree is the same. How a slice is applied is here; where the slices lie is
`specs`. Each linear weight names its dimensions ("out", "in"), each class says along which
mesh axis it cuts which of them:

    Gathered  cut over fsdp, gathered just before use; its gradient is reduce-scattered
    Column    outputs cut over model: every device computes some of them
    Row       inputs cut over model: every device computes a term of each output, then a sum
    NormEnter, NormGather   gains of the norms where the regions of Column and Row begin
    VocabParallel           rows of the embedding cut over model, at both of its ends

AD transposes each collective into its partner: all-gather <-> reduce-scatter, and a psum
<-> the entry (`pcast`) that says a value differs from device to device.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec

from ... import ops
from ..._typing import Array, Float, Int
from ...containers import Stacked
from ...weights import weight
from .manual import all_gather, index, pmax, psum, psum_scatter, vary
from .pipelining import Pipeline

GATHERED = "gathered"  # the name under which rematerialisation knows a gathered weight
SEQUENCE = 1  # the axis of T in [B, T, D]


@dataclasses.dataclass(frozen=True, eq=False)
class Slice:
    """A matrix of which each device of `axis` holds a slice along its dimension `dim`."""

    shard: Any
    axis: str = "model"
    dim = "out"

    def spec(self):
        """Return the axes of the leaves: the dimension that is cut bears the mesh axis."""

        def cut(names):
            return PartitionSpec(*(self.axis if n == self.dim else n for n in names))

        return dataclasses.replace(self, shard=jax.tree.map(cut, spec(self.shard)))


@dataclasses.dataclass(frozen=True, eq=False)
class Gain:
    """The gain of a norm, the same on all devices of `axis`."""

    gain: Any
    axis: str = "model"

    def spec(self):
        """Return the axes of the leaves: nothing is cut."""
        return dataclasses.replace(self, gain=PartitionSpec())


@weight
class Gathered(Slice):
    """A matrix of which each device of `axis` stores a slice along `dim` (FSDP).

        W = all-gather(slices),   dL/dslice = reduce-scatter(dL/dW)

    Inside rematerialisation the whole matrix lives only while one layer computes (ZeRO-3).

    Source: Rajbhandari et al. 2020 (ZeRO) section 5.3; FSDP in TR24 section 3.2
        [confirmed].
    Test: tests/parallelism/test_placements.py::test_gathered_gradient_is_the_scattered_sum
    """

    shard: Any
    axis: str = "fsdp"
    dim: str = "in"

    def whole(self):
        """Return the whole weight, the sum of its gradients cut again by AD."""

        def gather(leaf, names):
            names = tuple(names)
            if self.dim not in names:
                return leaf
            # counted from the end: a stacked leaf has an axis of layers in front
            dim = names.index(self.dim)
            return checkpoint_name(
                all_gather(leaf, self.axis, leaf.ndim - len(names) + dim), GATHERED
            )

        return jax.tree.map(gather, self.shard, spec(self.shard))

    def apply(self, x):
        """Return W x."""
        return ops.linear(x, self.whole())


@weight
class Column(Slice):
    """A matrix with its outputs cut over `axis`: y_local = W_local x, x whole everywhere.

    The gradient of x is a sum over the devices. It is taken once, where x entered
    (NormEnter), not in each matrix.

    Source: Shoeybi et al. 2019 (Megatron-LM) section 3 [standard].
    Test: tests/parallelism/test_placements.py::test_column_then_row_is_the_whole_product
    """

    def apply(self, x):
        """Return this device's outputs."""
        return ops.linear(x, self.shard)


@weight
class Row(Slice):
    """A matrix whose inputs are cut over `axis`: y = sum over devices of W_local x_local.

    scatter cuts the sum along T at once (reduce-scatter): Megatron's sequence parallelism.

    Source: Shoeybi et al. 2019 section 3; Korthikanti et al. 2022 section 4.2.2 [standard].
    Test: tests/parallelism/test_placements.py::test_column_then_row_is_the_whole_product
    """

    scatter: bool = False
    dim = "in"

    def apply(self, x):
        """Return the sum, whole or this device's part of T."""
        return _sum(ops.linear(x, self.shard), self.axis, self.scatter)


@weight
class NormEnter(Gain):
    """A gain whose norm is computed alike everywhere, after which devices differ.

        y = norm(x),   dL/dy = psum of the devices' gradients, once in a half block

    Source: Shoeybi et al. 2019 section 3 (the operator f) [standard].
    Test: tests/parallelism/test_placements.py::test_a_half_block_sums_once_each_way
    """

    def rms_norm(self, x, eps):
        """Return the norm of x, from here on a value of each device's own."""
        return vary(ops.rms_norm(x, self.gain, eps), (self.axis,))


@weight
class NormGather(Gain):
    """A gain whose norm sees a part of T, after which the parts are gathered.

        y = all-gather over T of norm(x_local),   dL/dx_local through a reduce-scatter

    Here and not in each matrix: q, k and v would gather the same x three times.

    Source: Korthikanti et al. 2022 section 4.2.2 [standard].
    Test: tests/parallelism/test_placements.py::test_a_half_block_gathers_once_each_way
    """

    def rms_norm(self, x: Float[Array, "B part D"], eps) -> Float[Array, "B T D"]:
        """Return the norm of the whole sequence."""
        return all_gather(ops.rms_norm(x, self.gain, eps), self.axis, SEQUENCE)


@weight
class VocabParallel(Slice):
    """The embedding cut over `axis`: each device has its own part of the vocabulary.

        lookup(t) = psum over devices of (row t where this device holds it, else 0)
        apply(x)  = VocabLogits: this device's logits

    Source: Shoeybi et al. 2019 section 3 (parallel embedding and cross-entropy) [standard].
    Test: tests/parallelism/test_placements.py::test_vocab_parallel_equals_whole
    """

    scatter: bool = False

    def lookup(self, tokens: Int[Array, "B T"]):
        """Return the tokens' rows: [B, T, D], or with scatter this device's part of T."""
        rows, mine = _local_rows(tokens, len(self.shard), self.axis)
        found = jnp.where(mine[..., None], ops.lookup(rows, self.shard), 0)
        return _sum(found, self.axis, self.scatter)

    def apply(self, x):
        """Return the logits of the whole vocabulary, in slices."""
        return VocabLogits(ops.linear(x, self.shard), self.axis)


@weight
class VocabLogits:
    """Logits of which each device of `axis` holds those of its part of the vocabulary."""

    local: Any  # [..., V / devices]
    axis: str

    @property
    def shape(self):
        """The shape of the slice: what signatures check."""
        return self.local.shape

    @property
    def dtype(self):
        """The dtype of the logits."""
        return self.local.dtype

    def token_log_probs(self, targets: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
        """Return each target's log-probability, by sending three numbers a token.

            log p(y) = (z_y - m) - log sum over devices of sum_v exp(z_v - m),   m = max z

        Source: Shoeybi et al. 2019 section 3 [standard].
        Test: tests/parallelism/test_placements.py::test_vocab_parallel_equals_whole
        """
        local = ops.wide(self.local)
        top = pmax(jax.lax.stop_gradient(local).max(-1, keepdims=True), self.axis)
        shifted = local - top
        rows, mine = _local_rows(targets, local.shape[-1], self.axis)
        picked = jnp.take_along_axis(shifted, rows[..., None], axis=-1)[..., 0]
        picked, total = psum(
            (jnp.where(mine, picked, 0), jnp.exp(shifted).sum(-1)), self.axis
        )
        return picked - jnp.log(total)


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
            return dataclasses.replace(node, layers=specs(node.layers, (node.axis,)))
        if isinstance(node, Stacked):
            return Stacked(specs(node.layer, leading or (None,)))
        if is_placed(node):
            return jax.tree.map(without_names, node.spec())
        return PartitionSpec(*leading)

    ours = Slice | Gain | Pipeline | Stacked
    return jax.tree.map(of, tree, is_leaf=lambda node: isinstance(node, ours))


def _sum(x, axis, scatter):
    return psum_scatter(x, axis, SEQUENCE) if scatter else psum(x, axis)


def _local_rows(ids, n_rows, axis):
    """Return (row within this device's slice, whether it is there) of each id."""
    rows = ids - index(axis) * n_rows
    mine = (rows >= 0) & (rows < n_rows)
    return jnp.where(mine, rows, 0), mine

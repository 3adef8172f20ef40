"""FSDP: every device stores a slice of each matrix and gathers the whole just before use."""

from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name

from ... import ops
from ...weights import weight
from .manual import all_gather
from .placements import Slice, spec

GATHERED = "gathered"  # the name under which rematerialisation knows a gathered weight


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
            if self.dim not in names:
                return leaf
            # counted from the end: a stacked leaf has an axis of layers in front
            dim = names.index(self.dim) - len(names)
            return checkpoint_name(all_gather(leaf, self.axis, dim), GATHERED)

        return jax.tree.map(gather, self.shard, spec(self.shard))

    def apply(self, x):
        """Return W x."""
        return ops.linear(x, self.whole())

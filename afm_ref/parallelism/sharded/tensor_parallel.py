"""Tensor parallelism: the devices share the arithmetic of each half block.

Column    outputs cut over model: every device computes some of them
Row       inputs cut over model: every device computes a term of each output, then a sum
NormEnter, NormGather   gains of the norms where the regions of Column and Row begin
VocabParallel           rows of the embedding cut over model, at both of its ends
"""

from typing import Any

import jax
import jax.numpy as jnp

from ... import ops
from ..._typing import Array, Float, Int
from ...weights import weight
from .manual import SEQUENCE, all_gather, index, pmax, psum, psum_scatter, vary
from .placements import Gain, Slice


@weight
class Column(Slice):
    """A matrix with its outputs cut over model: y_local = W_local x, x whole everywhere.

    The gradient of x is a sum over the devices. It is taken once, where x entered
    (NormEnter), not in each matrix.

    Source: Shoeybi et al. 2019 (Megatron-LM) section 3 [standard].
    Test: tests/parallelism/test_placements.py::test_a_half_block_sums_once_each_way
    """

    def apply(self, x):
        """Return this device's outputs."""
        return ops.linear(x, self.shard)


@weight
class Row(Slice):
    """A matrix whose inputs are cut over model: y = sum over devices of W_local x_local.

    scatter cuts the sum along T at once (reduce-scatter): Megatron's sequence parallelism.

    Source: Shoeybi et al. 2019 section 3; Korthikanti et al. 2022 section 4.2.2 [standard].
    Test: tests/parallelism/test_placements.py::test_a_half_block_sums_once_each_way
    """

    scatter: bool = False
    dim = "in"

    def apply(self, x):
        """Return the sum, whole or this device's part of T."""
        return _sum(ops.linear(x, self.shard), self.scatter)


@weight
class NormEnter(Gain):
    """A gain whose norm is computed alike everywhere, after which devices differ.

        y = norm(x),   dL/dy = psum of the devices' gradients, once in a half block

    Source: Shoeybi et al. 2019 section 3 (the operator f) [standard].
    Test: tests/parallelism/test_placements.py::test_a_half_block_sums_once_each_way
    """

    def rms_norm(self, x, eps):
        """Return the norm of x, from here on a value of each device's own."""
        return vary(ops.rms_norm(x, self.gain, eps), "model")


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
        return all_gather(ops.rms_norm(x, self.gain, eps), "model", SEQUENCE)


@weight
class VocabParallel(Slice):
    """The embedding cut over model: each device has its own part of the vocabulary.

        lookup(t) = psum over devices of (row t where this device holds it, else 0)
        apply(x)  = VocabLogits: this device's logits

    Source: Shoeybi et al. 2019 section 3 (parallel embedding and cross-entropy) [standard].
    Test: tests/parallelism/test_placements.py::test_vocab_parallel_equals_whole
    """

    scatter: bool = False

    def lookup(self, tokens: Int[Array, "B T"]):
        """Return the tokens' rows: [B, T, D], or with scatter this device's part of T."""
        rows, mine = _local_rows(tokens, self.shard.shape[0])
        found = jnp.where(mine[..., None], ops.lookup(rows, self.shard), 0)
        return _sum(found, self.scatter)

    def apply(self, x):
        """Return the logits of the whole vocabulary, in slices."""
        return VocabLogits(ops.linear(x, self.shard))


@weight
class VocabLogits:
    """Logits of which each device of model holds those of its part of the vocabulary."""

    local: Any  # [..., V / devices]

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
        top = pmax(jax.lax.stop_gradient(local).max(-1, keepdims=True), "model")
        shifted = local - top
        rows, mine = _local_rows(targets, local.shape[-1])
        picked = jnp.take_along_axis(shifted, rows[..., None], axis=-1)[..., 0]
        picked, total = psum(
            (jnp.where(mine, picked, 0), jnp.exp(shifted).sum(-1)), "model"
        )
        return picked - jnp.log(total)


def _sum(x, scatter):
    return psum_scatter(x, "model", SEQUENCE) if scatter else psum(x, "model")


def _local_rows(ids, n_rows):
    """Return (row within this device's slice, whether it is there) of each id."""
    rows = ids - index("model") * n_rows
    mine = (rows >= 0) & (rows < n_rows)
    return jnp.where(mine, rows, 0), mine

"""LoRA: a frozen weight with a low-rank matrix beside it, and the transformations that put
it there and take it away.

    attach -> train A and B alone (training.fit with select=trainable) -> merge, or keep beside the base and swap

Works on NumPy and JAX arrays, and on layers in a tuple, `Stacked` or `Remat`. Imports
without JAX.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import ops
from ..config import MATRICES
from ..containers import map_matrices, matrices
from ..weights import Params, weight

TARGETS = MATRICES


@weight
class LoRA:
    """A weight W0 that stays as it is, plus a product of two thin matrices.

        y = W0 x + scale B (A x),   scale = alpha / R

    base may be any weight: an array, a palette, a shard. A and B may be stored in 16 bits;
    they are applied in the dtype of x. No matrix of the size of W0 is ever made.

    Source: Hu et al. 2021 equation 3; TR24 section 5 (adapters) [confirmed].
    Test: tests/lora/test_adapter.py::test_apply_is_the_sum_of_two_matrices
    """

    base: Any
    a: Any  # [R, in]
    b: Any  # [out, R]
    scale: float

    @property
    def rank(self) -> int:
        """Return R."""
        return self.a.shape[-2]

    @property
    def shape(self):
        """Return the shape of the whole matrix, [out, in]."""
        return self.base.shape

    def apply(self, x):
        """Return the base's output plus the adapter's."""
        a, b = in_dtype(self.a, x.dtype), in_dtype(self.b, x.dtype)
        y = ops.linear(x, self.base) + self.scale * ops.linear(ops.linear(x, a), b)
        return ops.narrow(y, x.dtype)

    def spec(self):
        """Return the names of the leaves' dimensions, for the placements of
        `afm_ref.parallelism`.
        """
        from jax.sharding import PartitionSpec

        base = (
            self.base.spec() if hasattr(self.base, "spec") else PartitionSpec("out", "in")
        )
        return LoRA(base, PartitionSpec(None, "in"), PartitionSpec("out", None), self.scale)


def checked_rank(rank) -> int:
    """Return a rank, or raise ValueError for what is no whole number of at least 1."""
    if isinstance(rank, bool) or not isinstance(rank, int | np.integer) or rank < 1:
        raise ValueError(f"rank must be a whole number of at least 1, got {rank!r}")
    return int(rank)


def checked_scale(rank, alpha) -> float:
    """Return alpha / rank, or raise ValueError for what gives no positive scale."""
    if not 0 < alpha < float("inf"):
        raise ValueError(
            f"alpha must be a positive number, got {alpha!r}; the scale is alpha / rank"
        )
    return float(alpha) / checked_rank(rank)


def attach(
    params: Params,
    targets: Iterable[str] = TARGETS,
    rank: int = 16,
    alpha: float = 16.0,
    seed: int = 0,
    layers: Iterable[int] | None = None,
) -> Params:
    """Return the params with a fresh adapter beside each targeted matrix: the same
    function, for B = 0.

        A ~ normal(0, 1/in),   B = 0,   scale = alpha / rank

    targets: fields of `Layer`, by default Apple's list, all matrices of attention and of
    the feed-forward layer. layers: numbers from 0; None is all. A depends on (seed, layer,
    matrix) alone. The base's arrays are shared, not copied. Raises ValueError for settings
    that make no sense, a second adapter on top of one, and layers that would cut a
    `Stacked` in two.

    Source: TR24 section 5 (targets, rank 16) [confirmed]; Hu et al. 2021 section 4.1
        (start) [standard]; alpha [ours].
    Test: tests/lora/test_adapter.py::test_attaching_changes_no_output
    """
    targets = checked_targets(targets)
    scale = checked_scale(rank, alpha)
    chosen = None if layers is None else set(layers)
    attached = set()

    def beside(name, w, numbers):
        if name not in targets or not (chosen is None or chosen.issuperset(numbers)):
            return w
        if isinstance(w, LoRA):
            raise ValueError(
                f"{name} of layer {numbers[0]} has an adapter already: merge or detach it first"
            )
        attached.update(numbers)
        *lead, out_dim, in_dim = w.shape
        which = TARGETS.index(name)
        drawn = [
            np.random.default_rng((seed, i, which)).standard_normal((rank, in_dim))
            for i in numbers
        ]
        a = np.reshape(drawn, (*lead, rank, in_dim)) * in_dim**-0.5  # lead: [L] in a stack
        b = np.zeros((*lead, out_dim, rank), np.float32)
        return LoRA(w, a.astype(np.float32), b, scale)

    adapted = map_matrices(params, beside)
    if chosen is not None and chosen - attached:
        raise ValueError(
            f"layers {sorted(chosen - attached)} have none of {targets}, or are stacked with others "
            "(containers.ungroup parts them); the first layer has the number 0"
        )
    if not attached:
        raise ValueError(f"the model has no matrix of {targets}: nothing to adapt")
    return adapted


def checked_targets(targets: str | Iterable[str]) -> tuple[str, ...]:
    """Return names of matrices as a tuple; ValueError for none, and for what is no matrix
    of a layer.
    """
    targets = (targets,) if isinstance(targets, str) else tuple(targets)
    unknown = sorted(set(targets) - set(TARGETS))
    if unknown or not targets:
        raise ValueError(
            f"targets {unknown or targets} are no matrices of a layer; choose from {TARGETS}"
        )
    return targets


def merge(params: Params, force: bool = False) -> Params:
    """Return plain params that compute the same: each adapter's product added to its base.

        W = W0 + scale B A          in float32 at least, then in the dtype of W0

    A base that is no plain array (a palette of 2 or 4 bits, say) cannot hold the sum:
    refused with ValueError, unless force makes it a plain matrix first, which gives the
    compression away.

    Source: Hu et al. 2021 section 4.1 (no latency after merging) [standard].
    Test: tests/lora/test_adapter.py::test_merging_changes_no_output
    """

    def merged(name, w, numbers):
        if not isinstance(w, LoRA):
            return w
        return _added(as_array(w.base, name, numbers, force), delta(w))

    return map_matrices(params, merged)


def unmerge(params: Params, adapted: Params) -> Params:
    """Return merged params with the adapters of `adapted` taken out again and beside them:
    W0 = W - scale B A.

    Equal to what was merged up to the rounding of two sums, so keep the base itself where
    bits matter.

    Source: Hu et al. 2021 section 4.1 (switching tasks) [standard].
    Test: tests/lora/test_adapter.py::test_unmerge_undoes_merge
    """
    there = adapters(adapted)

    def parted(name, w, numbers):
        adapter = there.get((name, numbers[0]))
        if adapter is None:
            return w
        return dataclasses.replace(
            adapter, base=_added(as_array(w, name, numbers), -delta(adapter))
        )

    return map_matrices(params, parted)


def detach(params: Params) -> Params:
    """Return the params without their adapters: the base, the very same arrays."""
    return map_matrices(
        params, lambda name, w, numbers: w.base if isinstance(w, LoRA) else w
    )


def trainable(params: Params):
    """Return the tree with A and B of every adapter and None elsewhere: the `select` for
    training.fit.

    Source: Hu et al. 2021 section 4 (W0 is frozen) [standard].
    Test: tests/lora/test_adapter.py::test_fit_trains_the_adapter_and_leaves_the_base_bit_identical
    """
    import jax

    def choose(node):
        if not isinstance(node, LoRA):
            return None
        return dataclasses.replace(node, base=jax.tree.map(lambda _: None, node.base))

    return jax.tree.map(choose, params, is_leaf=lambda node: isinstance(node, LoRA))


def delta(w: LoRA):
    """Return the matrix that an adapter adds, scale B A: [..., out, in], in float32 at
    least.
    """
    return w.scale * (ops.wide(w.b) @ ops.wide(w.a))


def _added(w, change):
    return (ops.wide(w) + change).astype(w.dtype)


def adapters(params: Params) -> dict:
    """Return {(matrix, number of the layer, or of the first of a stack): adapter}."""
    return {key: w for key, w in matrices(params).items() if isinstance(w, LoRA)}


def in_dtype(m, dtype):
    """Return a plain array in the dtype of what it is applied to; any other weight as it
    is.
    """
    return m.astype(dtype) if hasattr(m, "__array_namespace__") and m.dtype != dtype else m


def as_array(w, name, numbers, force=False):
    """Return a weight as a plain matrix; ValueError for one that is none, unless force
    makes it one.
    """
    if hasattr(w, "__array_namespace__"):
        return w
    if not force:
        raise ValueError(
            f"{name} of layer {numbers[0]} is a {type(w).__name__}, which cannot hold a sum: keep the adapter "
            "beside it, or merge(force=True) into a plain matrix, which is no longer compressed"
        )
    if len(w.shape) > 2:
        raise ValueError(
            f"{name} is stacked: use containers.ungroup before forcing a merge"
        )
    return ops.linear(np.eye(w.shape[-1], dtype=np.float32), w).T

"""Masks on the hidden channels of a feed-forward layer, learnt, and a layer without the
masked channels.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ... import ops, training
from ..._typing import Array, Float
from ...config import AFMConfig
from ...containers import ungroup
from ...losses import Batch, next_token
from ...weights import Params, weight
from .top_k import check_scores, hard_top_k, soft_top_k


@weight
class Masked:
    """A matrix whose inputs are weighed by a soft top-k of learnt scores before they reach
    it.

        y = W (lambda * x),   lambda = soft_top_k(scores, k, eps)          W: [out, F], scores: [F]

    On w_down this masks the feed-forward layer's hidden channels and nothing else. Where
    scores live and how eps changes is not stated: ours.

    Source: TR24 section 3.2 (only the FFN hidden dimension, a Soft-Top-K mask) [confirmed].
    Test: tests/pretraining/test_pruning.py::test_apply_masks_the_hidden_channels
    """

    base: Any  # [out, F]
    scores: Any  # [F]
    eps: Any  # a number, no axis
    k: int

    @property
    def shape(self):
        """Return the shape of the whole matrix, [out, F]."""
        return self.base.shape

    def mask(self) -> Float[Array, "*layers F"]:
        """Return lambda, which sums to k."""
        return soft_top_k(self.scores, self.k, self.eps)

    def apply(self, x):
        """Return the base's output for the masked input."""
        return ops.linear((ops.wide(x) * ops.wide(self.mask())).astype(x.dtype), self.base)


class Annealed(NamedTuple):
    """A batch with the eps of its step: so the loss knows it, and a resumed run sees the
    same one again.
    """

    batch: Batch
    eps: Any


@dataclasses.dataclass(frozen=True)
class Annealing:
    """A schedule step (from 0) -> eps, falling by a constant factor from `start` to `end`
    over `steps`, then `end`.

        eps(t) = start (end / start)^min(1, t / (steps - 1))
    """

    start: float
    end: float
    steps: int

    def __post_init__(self):
        if not 0 < self.end <= self.start < float("inf") or self.steps < 2:
            raise ValueError(
                f"eps falls from start to end above 0 in at least 2 steps, got {self}"
            )

    def __call__(self, step) -> float:
        return float(
            self.start * (self.end / self.start) ** min(1.0, step / (self.steps - 1))
        )


def with_masks(
    params: Params, k: int, scores: Sequence | None = None, eps: float = 1.0
) -> Params:
    """Return the params with a mask on every layer's w_down that lets k of its F channels
    through.

    scores: [F] a layer, such as `criteria.starting_scores(criteria.by_activation(...))`.
    None starts all at 0, where the mask is k / F everywhere; where Apple's start is not
    stated. Raises ValueError for k > F, scores of another shape, and a model that has masks
    already.

    Source: TR24 section 3.2 (FFN hidden dimension) [confirmed].
    Test: tests/pretraining/test_pruning.py::test_fresh_masks_are_even_or_follow_the_scores
    """
    layers = ungroup(params.layers)
    if scores is None:
        scores = [np.zeros(layer.w_down.shape[-1], np.float32) for layer in layers]
    if len(scores) != len(layers):
        raise ValueError(
            f"scores must be one array per layer: the model has {len(layers)} layers, got {len(scores)}"
        )

    def masked(layer, s, number):
        if isinstance(layer.w_down, Masked):
            raise ValueError(f"layer {number} has a mask already: slice_ffn first")
        if np.shape(s) != (layer.w_down.shape[-1],):
            raise ValueError(
                f"scores of layer {number} have shape {np.shape(s)}, expected ({layer.w_down.shape[-1]},)"
            )
        check_scores(s, k, eps)
        return layer._replace(
            w_down=Masked(layer.w_down, s, np.asarray(eps, s.dtype), int(k))
        )

    numbers = range(len(layers))
    return params._replace(layers=tuple(map(masked, layers, scores, numbers)))


def at_eps(params: Params, eps) -> Params:
    """Return the params with this eps in every mask."""

    def changed(layer):
        return layer._replace(w_down=dataclasses.replace(layer.w_down, eps=eps))

    return params._replace(layers=tuple(changed(layer) for layer in ungroup(params.layers)))


def learn_masks(
    masked: Params,
    cfg: AFMConfig,
    batches: Callable,
    optimizer,
    steps: int,
    annealing: Callable,
    **settings,
) -> training.FitResult:
    """Return what `training.fit` does of scores and weights together, eps falling as the
    steps go by.

    batches(step) -> Batch of the same mix as pre-training. annealing(step) -> eps, such as
    `Annealing`. settings: those of fit. The params keep the last step's eps in their masks.

    Source: TR24 section 3.2 (masks learnt on the core mix; 188B tokens) [confirmed]; joint
        training with the weights as in Sheared LLaMA (Xia et al. 2023) [standard].
    Test: tests/pretraining/test_pruning.py::test_learn_anneals_and_leaves_the_caller_alone
    """

    def annealed(step):
        return Annealed(batches(step), np.float32(annealing(step)))

    result = training.fit(
        masked,
        partial(masked_next_token, cfg=cfg),
        annealed,
        optimizer,
        steps,
        select=learnable,
        **settings,
    )
    return result._replace(
        params=at_eps(result.params, np.float32(annealing(max(steps - 1, 0))))
    )


def masked_next_token(params: Params, annealed: Annealed, cfg: AFMConfig):
    """Return (sum, count) of `losses.next_token` with the masks at the eps that the batch
    brings.
    """
    return next_token(at_eps(params, annealed.eps), annealed.batch, cfg)


# The `select` for training.fit: scores and all weights are trained, eps is not.
learnable = training.where(lambda path: path.rpartition(".")[2] != "eps")


def slice_ffn(params: Params, cfg: AFMConfig, k: int) -> tuple[Params, AFMConfig]:
    """Return (params, config) of the smaller model that keeps each layer's k channels of
    the largest scores.

        W_gate[S], W_up[S]: [k, D],   W_down[:, S]: [D, k],   S = the k largest scores, in their old order

    It computes what the model does with a mask of ones and zeros: a hidden channel is one
    row of w_gate and w_up and one column of w_down, and no other weight knows of it. What
    soft weights the mask still had are dropped. Raises ValueError for layers without masks,
    k > F, and matrices that are not plain arrays.

    Source: TR24 section 3.2 (structural pruning of the FFN hidden dimension) [confirmed].
    Test: tests/pretraining/test_pruning.py::test_sliced_equals_masked
    """

    def sliced(layer, number):
        w = layer.w_down
        if not isinstance(w, Masked):
            raise ValueError(
                f"layer {number} has no mask: with_masks(params, k, scores) gives every layer one"
            )
        if any(
            not hasattr(m, "__array_namespace__")
            for m in (layer.w_gate, layer.w_up, w.base)
        ):
            raise ValueError(
                f"layer {number} has matrices that are no plain arrays: slice before adapting or quantizing"
            )
        kept = np.flatnonzero(np.asarray(hard_top_k(w.scores, k)))
        return layer._replace(
            w_gate=layer.w_gate[kept], w_up=layer.w_up[kept], w_down=w.base[:, kept]
        )

    layers = tuple(sliced(layer, i) for i, layer in enumerate(ungroup(params.layers)))
    return params._replace(layers=layers), dataclasses.replace(cfg, d_ff=int(k))


def mask_values(params: Params) -> Float[Array, "L F"]:
    """Return the mask of every layer as NumPy rows, at the eps that they hold."""
    return np.stack([np.asarray(layer.w_down.mask()) for layer in ungroup(params.layers)])


def undecided(mask: Float[Array, "*layers F"]) -> float:
    """Return the share of mask values in 0.05 .. 0.95: 0 when the mask is as good as
    binary.
    """
    return float(np.mean((mask > 0.05) & (mask < 0.95)))

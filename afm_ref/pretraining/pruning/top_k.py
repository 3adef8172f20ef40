"""Soft top-k: weights in [0, 1] that sum to exactly k, the larger the score the nearer to
1.

Works on NumPy and JAX arrays, along the last axis. Under JAX its derivative is written out,
not traced through the sorting; the truncated iteration that it replaces stands beside it
for comparison.
"""

import math
from typing import NamedTuple

import jax
import numpy as np

from ..._typing import Array, Bool, Float
from ...ops import wide


class Solution(NamedTuple):
    """Where the weights come from: which entries are clipped at 1, and the threshold a that
    makes the sum k.
    """

    clipped: Bool[Array, "*batch F"]
    threshold: Float[Array, "*batch"]


def soft_top_k(scores: Float[Array, "*batch F"], k: int, eps) -> Float[Array, "*batch F"]:
    """Return one weight per score: in [0, 1], in the order of the scores, with sum k, in
    float32 at least.

        lambda_i = min(1, exp((s_i + a) / eps)),   a such that sum_i lambda_i = k

    eps -> 0 is the hard top-k, eps -> infinity is k / F everywhere. With the set C of
    clipped entries, c of them, the others are a softmax of mass k - c. The derivative of an
    unclipped lambda_i, with respect to scores and eps:

        d lambda_i = lambda_i (t_i - sum_j lambda_j t_j / (k - c)),   t_i = (d s_i - s_i d eps / eps) / eps

    j over the unclipped. A clipped entry is constant and its own score has no derivative
    (it acts again once it is no longer clipped). Raises ValueError for k outside 1 .. F,
    eps not above 0, and scores that are not finite (the last two where their values can be
    seen: not inside jit).

    Source: Lei et al. 2023 (CoDA), the operator [standard]; that Apple used it is a single
        account [inferred]; solved exactly, with the derivative of the implicit a [ours].
    Test: tests/pretraining/test_pruning.py::test_sum_is_exactly_k_by_bisection,
        tests/pretraining/test_pruning.py::test_derivative_by_finite_differences
    """
    check_scores(scores, k, eps)
    scores = wide(scores)
    if isinstance(scores, np.ndarray):
        return _weights(scores, k, eps)[0]
    return _soft_top_k(scores, k, jax.numpy.asarray(eps, scores.dtype))


def solve(scores: Float[Array, "*batch F"], k: int, eps) -> Solution:
    """Return the clipped entries and the threshold of `soft_top_k`, in closed form.

        a = eps (log(k - c) - log sum_{j not in C} exp(s_j / eps))

    C holds the c largest scores for the smallest c at which no other entry exceeds 1, that
    is at which log(k - c) + s_(c+1) / eps <= log sum_{j > c} exp(s_(j) / eps), with s_(1)
    >= s_(2) >= ... This holds from some c on, and at k - 1 at the latest: counting the c
    below k - 1 where it fails finds it.
    """
    check_scores(scores, k, eps)
    xp, scores = scores.__array_namespace__(), wide(scores)
    top = xp.max(scores, axis=-1, keepdims=True)
    z = (scores - top) / eps
    clipped, pivot = _clipped(z, k)
    rest = xp.where(clipped, 0.0, xp.exp(xp.minimum(z - pivot, 0.0))).sum(axis=-1)
    left = (k - clipped.sum(axis=-1)).astype(z.dtype)
    log_mass = xp.log(left) - xp.log(rest) - pivot[..., 0]
    return Solution(clipped, eps * log_mass - top[..., 0])


def hard_top_k(scores: Float[Array, "*batch F"], k: int) -> Float[Array, "*batch F"]:
    """Return 1 for the k largest scores and 0 for the others; of equal scores the first
    ones win.

    Source: the limit of soft_top_k for eps -> 0 [standard].
    Test: tests/pretraining/test_pruning.py::test_small_eps_is_the_hard_top_k
    """
    check_scores(scores, k, 1.0)
    xp = scores.__array_namespace__()
    order = xp.argsort(-scores, axis=-1, stable=True)
    return (xp.argsort(order, axis=-1, stable=True) < k).astype(scores.dtype)


def coordinate_descent(
    scores: Float[Array, "*batch F"],
    k: int,
    eps: float,
    steps: int = 20,
) -> Float[Array, "*batch F"]:
    """Return what a fixed number of steps of coordinate descent makes of the same operator:
    its sum falls short of k.

        b_0 = -s;   a = e (log k - logsumexp((s + b) / e)),   b = -relu(s + a),   e = max(eps, 4 * 0.7^step)
        lambda = exp((s + a + b) / e) = min(1, exp((s + a) / e))

    Each step shares out k among ALL entries, with those above 1 cut back to 1 for the next:
    a rises towards the exact threshold from below, the slower the smaller eps is. This is
    the iteration of public code, for comparison.

    Source: Lei et al. 2023 as in lucidrains' coor_descent.py; Apple's iteration is not
        stated [inferred].
    Test: tests/pretraining/test_pruning.py::test_truncated_iteration_falls_short
    """
    check_scores(scores, k, eps)
    xp, scores = scores.__array_namespace__(), wide(scores)
    b = -scores
    for step in range(steps):
        e = max(eps, 4.0 * 0.7**step)
        z = (scores + b) / e
        top = xp.max(z, axis=-1, keepdims=True)
        a = e * (math.log(k) - top - xp.log(xp.exp(z - top).sum(axis=-1, keepdims=True)))
        b = -xp.maximum(scores + a, 0.0)
    return xp.exp((scores + a + b) / e)


def check_scores(scores, k, eps) -> None:
    """Raise ValueError, naming what is wrong, for a k, an eps or scores that no soft top-k
    can have.
    """
    if getattr(scores, "ndim", 0) < 1 or scores.shape[-1] < 1:
        raise ValueError(
            f"scores must have a last axis [.., F] of channels, got {np.shape(scores)}"
        )
    F = scores.shape[-1]
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= F:
        raise ValueError(
            f"k is how many of the F = {F} channels survive: give a whole number 1..{F}, got {k!r}"
        )
    if not _traced(eps) and not (np.all(np.asarray(eps) > 0) and np.all(np.isfinite(eps))):
        raise ValueError(
            f"eps must be a finite number above 0, got {eps!r}; its limit 0 is hard_top_k"
        )
    if not _traced(scores) and not np.isfinite(np.asarray(scores)).all():
        raise ValueError(
            "scores must be finite: there is NaN or infinity among them, lower the learning rate"
        )


def _traced(x):
    return isinstance(x, jax.core.Tracer)


def _clipped(z, k):
    """Return (which entries of z are clipped, the largest of the others with its axis
    kept).
    """
    xp = z.__array_namespace__()
    ordered = xp.sort(z, axis=-1)[..., ::-1]
    left = k - np.arange(k - 1)  # k - c for c = 0 .. k-2
    over = np.log(left).astype(z.dtype) + (ordered - _tails(ordered))[..., : k - 1] > 0
    pivot = xp.take_along_axis(ordered, over.sum(axis=-1, keepdims=True), axis=-1)
    return z > pivot, pivot  # equals of the pivot are 1 all the same


def _tails(ordered):
    """Return log sum_{j >= i} exp(z_j) for every i."""
    if isinstance(ordered, np.ndarray):
        return np.logaddexp.accumulate(ordered[..., ::-1], axis=-1)[..., ::-1]
    return jax.lax.cumlogsumexp(ordered, axis=ordered.ndim - 1, reverse=True)


def _weights(scores, k, eps):
    """Return (lambda, share, z): share is lambda / (k - c), 0 where clipped; z is s / eps
    less a constant.

    A softmax of mass k - c instead of exp((s + a) / eps): s / eps may be large, and its
    rounding error would show.
    """
    xp = scores.__array_namespace__()
    z = (scores - xp.max(scores, axis=-1, keepdims=True)) / eps
    clipped, pivot = _clipped(z, k)
    z = z - pivot
    e = xp.where(clipped, 0.0, xp.exp(xp.minimum(z, 0.0)))
    share = e / e.sum(axis=-1, keepdims=True)
    left = (k - clipped.sum(axis=-1, keepdims=True)).astype(z.dtype)
    weights = xp.where(clipped, 1.0, xp.minimum(left * share, 1.0)).astype(scores.dtype)
    return weights, share, z


def _derivative(k, primals, tangents):
    (scores, eps), (d_scores, d_eps) = primals, tangents
    weights, share, z = _weights(scores, k, eps)
    t = (d_scores - z * d_eps) / eps
    return weights, jax.numpy.where(
        share > 0, weights * (t - (share * t).sum(axis=-1, keepdims=True)), 0.0
    )


_soft_top_k = jax.custom_jvp(
    lambda scores, k, eps: _weights(scores, k, eps)[0], nondiff_argnums=(1,)
)
_soft_top_k.defjvp(_derivative)

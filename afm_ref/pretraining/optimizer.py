"""Apple's optimizer, RMSProp with momentum, for optax, and its schedule.

`block_update` is the update of one matrix or gain; `afm_optimizer` applies it to any tree
of float arrays, None leaves (weights that are not trained) included.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ..config import AFMConfig
from ..containers import Stacked
from ..ops import wide
from ..training import global_norm
from ..weights import leaf_name
from .mup import mup_scales

EPS = 1e-30  # inside the mean of squares, so that a gradient of zero divides by something


def block_update(
    g, v, m, w, gathered, take=True, *, rate, decay, b1=0.95, b2=0.95, clip=1.0
):
    """Return (change, v, m) of one block of weights: a matrix, a gain, the embedding.

        v <- b2 v + (1 - b2) (g^2 + EPS);    u = g / sqrt(v / gathered)
        u <- u / max(1, rms(u) / clip);      m <- b1 m + (1 - b1) u
        change = -(rate m + decay w)

    g, v, m, w: of one shape. gathered: 1 - b2^t after step t = 1, 2, ..., the share of a
    mean that v holds by then. Where `take` is False nothing changes, whatever g is.

    Source: TR24 section 3.2 (RMSProp with momentum, bias-corrected second moment, decoupled
        decay) [confirmed]; order and constants from AXLearn adastar_learner_config
        [inferred].
    Test: tests/pretraining/test_optimizer.py::test_two_steps_by_hand
    """
    # Each choice comes before its value is used again: after, XLA computes all twice.
    v = jnp.where(take, b2 * v + (1 - b2) * (jnp.square(g) + EPS), v)  # mean square of g
    u = g * jax.lax.rsqrt(v / gathered)  # of size 1, whatever the gradient's
    u = u / jnp.maximum(1.0, rms(u) / clip)  # a block moves by at most `clip`
    m = jnp.where(take, b1 * m + (1 - b1) * u, m)  # mean of u, its start not corrected
    step = jnp.where(take, -(rate * m + decay * w), -0.0)  # w + -0.0 is w, bit for bit
    return step, v, m


def rms(u):
    """Return the root mean square of an array."""
    return jnp.sqrt(jnp.mean(jnp.square(u)))


class AFMState(NamedTuple):
    """The optimizer's state: steps taken, mean square of the gradient, mean of the updates."""

    count: Any
    v: Any
    m: Any


def afm_optimizer(
    learning_rate: float | jax.Array,  # may be traced
    schedule: Callable[[Any], Any],
    weight_decay: float = 3.16e-4,
    *,
    b1: float = 0.95,
    b2: float = 0.95,
    clip_norm: float = 1.0,
    skip_norm: float = 100.0,
    update_clip: float = 1.0,
    update_scale: Callable[[str], float] | None = None,
    rule: Callable = block_update,
) -> optax.GradientTransformation:
    """Return Apple's optimizer ("AdaStar" in AXLearn) as an `optax.GradientTransformation`.

        skip the step unless |g| < skip_norm;   g <- g min(1, clip_norm / |g|)
        w <- w + schedule(t) change,   change of each block by `block_update`

    |g|: norm over all leaves. t counts from 1 the steps that were not skipped; NaN and
    infinite gradients are skipped. The schedule scales rate and decay alike. A block is one
    leaf, or one layer's slice of a leaf in a `Stacked`. update_scale: path -> factor of the
    learning rate, such as `mup_scales(cfg)`; None: 1. rule: what stands for `block_update`,
    to take it apart. State and sums are float32 at least. Raises ValueError or TypeError,
    naming the setting.

    Source: TR24 section 3.2 [confirmed]; skip, clips and constants from AXLearn
        adastar_learner_config [inferred].
    Test: tests/pretraining/test_optimizer.py::test_equals_the_recipe_in_numpy
    """
    if not callable(schedule):
        raise TypeError(
            f"schedule must be a function step -> 0..1 such as warmup_cosine(...), got {schedule!r}"
        )
    limits = dict(clip_norm=clip_norm, skip_norm=skip_norm, update_clip=update_clip)
    if not isinstance(learning_rate, jax.core.Tracer):
        limits["learning_rate"] = learning_rate
    _check(limits, lambda x: x > 0, "it must be above 0 (math.inf turns a limit off)")
    _check(dict(b1=b1, b2=b2), lambda x: 0 <= x < 1, "a mean's memory is in 0..1, below 1")
    _check(dict(weight_decay=weight_decay), lambda x: x >= 0, "give at least 0")
    scale_of = update_scale or (lambda path: 1.0)

    def init(params):
        def zeros():
            return jax.tree.map(lambda w: jnp.zeros_like(wide(w)), params)

        return AFMState(jnp.zeros((), jnp.int32), zeros(), zeros())

    def update(grads, state, params=None):
        if params is None:
            raise ValueError(
                "afm_optimizer decays the weights: call update(gradients, state, weights)"
            )
        norm = global_norm(grads)
        take = norm < skip_norm  # False for NaN and infinity as well
        clip, t = jnp.minimum(1.0, clip_norm / norm), state.count + 1
        # 1 - b2^t, without cancellation
        gathered = -jnp.expm1(t.astype(float) * (math.log(b2) if b2 else -math.inf))
        factor = jnp.asarray(schedule(t))

        def leaf(path, stacked, g, v, m, w):
            rate = scale_of(leaf_name(path)) * learning_rate
            of_block = partial(
                rule, rate=rate, decay=weight_decay, b1=b1, b2=b2, clip=update_clip
            )
            if stacked:
                of_block = jax.vmap(of_block, in_axes=(0, 0, 0, 0, None, None))
            g, dtype = wide(g), v.dtype
            change, v, m = of_block(
                g * clip.astype(dtype), v, m, wide(w), gathered.astype(dtype), take
            )
            return (factor.astype(dtype) * change).astype(w.dtype), v, m

        out = jax.tree_util.tree_map_with_path(
            leaf, _stacked(grads), grads, state.v, state.m, params
        )
        changes, v, m = jax.tree.transpose(
            jax.tree.structure(grads), jax.tree.structure((0, 0, 0)), out
        )
        return changes, AFMState(jnp.where(take, t, state.count), v, m)

    return optax.GradientTransformation(init, update)


def warmup_cosine(warmup_steps: int, total_steps: int, final: float = 0.005) -> Callable:
    """Return a schedule: step (from 1) -> 0..1, linear up to 1 and then along a cosine down
    to `final`.

        s(t) = t / W                                               t < W
        s(t) = final + (1 - final) (1 + cos(pi (t-W)/(T-W))) / 2   W <= t <= T, `final` after it

    W = warmup_steps, T = total_steps. Apple's core stage: W = 5000, final = 0.005;
    continued: W = 1000, final = 0.001. Raises ValueError unless 0 <= W <= T and final is in
    0..1.

    Source: TR24 section 3.2 (linear warm-up, cosine to 0.005 of the peak) [confirmed].
    Test: tests/pretraining/test_optimizer.py::test_warmup_cosine_closed_form
    """
    if not 0 <= warmup_steps <= total_steps:
        raise ValueError(
            f"warmup_steps {warmup_steps} must be in 0..total_steps, {total_steps}"
        )
    if not 0 <= final <= 1:
        raise ValueError(f"final {final} is a fraction of the peak: give 0..1")

    def schedule(step):
        step = jnp.asarray(step, float)
        progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
        cosine = 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(progress, 0, 1)))
        return jnp.where(
            step < warmup_steps, step / max(warmup_steps, 1), final + (1 - final) * cosine
        )

    return schedule


def tiny_optimizer(
    cfg: AFMConfig, learning_rate: float, steps: int
) -> optax.GradientTransformation:
    """Return `afm_optimizer` as the small models here are trained: warmed up over a
    twentieth of the steps.
    """
    return afm_optimizer(
        learning_rate, warmup_cosine(steps // 20, steps), update_scale=mup_scales(cfg)
    )


def _stacked(tree):
    """Return a tree of bools: does a leaf's first axis count layers, those of a `Stacked`?"""

    def leaves(node):
        return jax.tree.map(lambda _: isinstance(node, Stacked), node)

    return jax.tree.map(leaves, tree, is_leaf=lambda node: isinstance(node, Stacked))


def _check(settings, holds, told):
    for name, value in settings.items():
        if not holds(value):
            raise ValueError(f"{name} is {value}: {told}")

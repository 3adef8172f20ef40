"""Apple's pre-training optimizer, RMSProp with momentum, for optax; its schedule; the muP-simple scales.

It works on any tree of float arrays, None leaves (weights that are not trained) included. One pass over the leaves
instead of a chain of transformations: as a chain with the skip around it, it took 2.5 times as long.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ..config import MATRICES, AFMConfig
from ..layers import Stacked
from ..ops import wide
from ..training import global_norm
from ..weights import leaf_name

EPS = 1e-30  # inside the mean of squares, so that a gradient of zero divides by something


@dataclasses.dataclass(frozen=True)
class WarmupCosine:
    """The schedule that `warmup_cosine` makes: called with a step, it returns the factor of that step."""

    warmup_steps: int
    total_steps: int
    final: float

    def __call__(self, step):
        step = jnp.asarray(step, float)
        warm = step / max(self.warmup_steps, 1)
        progress = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        cosine = 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(progress, 0, 1)))
        return jnp.where(step < self.warmup_steps, warm, self.final + (1 - self.final) * cosine)


def warmup_cosine(warmup_steps: int, total_steps: int, final: float = 0.005) -> WarmupCosine:
    """Return a schedule: step (from 1) -> 0..1, linear up to 1 and then along a cosine down to `final`.

        s(t) = t / W                                               t < W
        s(t) = final + (1 - final) (1 + cos(pi (t-W)/(T-W))) / 2   W <= t <= T, and `final` after it

    W = warmup_steps, T = total_steps. Apple's core stage: W = 5000, final = 0.005; continued: W = 1000, final = 0.001.

    Source: TR24 section 3.2 (linear warm-up, cosine to 0.005 of the peak) [confirmed].
    Test: tests/pretraining/test_optimizer.py::test_warmup_cosine_closed_form
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(f"warmup_steps {warmup_steps} must be at least 0 and less than total_steps {total_steps}")
    if not 0 <= final <= 1:
        raise ValueError(f"final {final} is a fraction of the peak: give 0..1")
    return WarmupCosine(int(warmup_steps), int(total_steps), float(final))


@dataclasses.dataclass(frozen=True)
class MupScales:
    """The function that `mup_scales` makes: path -> factor."""

    matrix_scale: Any  # a number, traced or not

    def __call__(self, path: str):
        return self.matrix_scale if set(MATRICES) & set(path.split(".")) else 1.0


def mup_scales(cfg: AFMConfig, base_dim: int = 768) -> MupScales:
    """Return path -> factor of the update: base_dim / d_model for attention and FFN matrices, 1 for the rest.

        scale = min(1, base_dim / d_model)          0.25 at d_model 3072

    The path is a leaf's, such as "layers.3.wq". Give the function to `afm_optimizer` as `update_scale`.

    Source: TR24 section 3.2 (muP-simple) [confirmed]; base_dim, cap and list of matrices from AXLearn [inferred].
    Test: tests/pretraining/test_optimizer.py::test_mup_scales
    """
    return MupScales(min(1.0, base_dim / cfg.d_model))


def afm_optimizer(
    learning_rate: float,
    schedule: Callable[[Any], Any],
    weight_decay: float = 3.16e-4,
    *,
    b1: float = 0.95,
    b2: float = 0.95,
    clip_norm: float = 1.0,
    skip_norm: float = 100.0,
    update_clip: float = 1.0,
    update_scale: Callable[[str], float] | None = None,
) -> optax.GradientTransformation:
    """Return Apple's RMSProp with momentum ("AdaStar" in AXLearn) as an `optax.GradientTransformation`.

        skip the step unless |g| < skip_norm;    g <- g min(1, clip_norm / |g|)         |g|: norm over all leaves
        v <- b2 v + (1 - b2) (g^2 + 1e-30);      u = g / sqrt(v / (1 - b2^t))
        u <- u / max(1, rms(u) / update_clip)                                           rms: of one parameter block
        m <- b1 m + (1 - b1) u
        w <- w - schedule(t) (update_scale * learning_rate * m + weight_decay * w)

    t counts from 1 and skips what is skipped: such a step (NaN and infinite gradients too) leaves the weights and
    the whole state as they were. Momentum runs over the normalised update and is not corrected for its start at
    zero. The schedule, step -> 0..1, scales the learning rate and the decay alike, so the decay is not multiplied
    by the learning rate. A block is one leaf, or one layer's slice of a leaf in a `Stacked` container.
    update_scale: path -> factor, such as `mup_scales(cfg)`; None is 1 everywhere. The state and all sums are float32
    at least; the updates have the dtype of the weights.

    Source: TR24 section 3.2 (RMSProp with momentum, bias-corrected second moment, decoupled decay) [confirmed]; the
    order, skip_norm, block RMS and constants from AXLearn adastar_learner_config [inferred].
    Test: tests/pretraining/test_optimizer.py::test_equals_the_recipe_in_numpy
    """
    check_settings(schedule, b1, b2, weight_decay, learning_rate=learning_rate, clip_norm=clip_norm,
                   skip_norm=skip_norm, update_clip=update_clip)  # fmt: skip
    scale_of = update_scale or (lambda path: 1.0)

    def init(params):
        return AFMState(jnp.zeros((), jnp.int32), empty_moments(params), empty_moments(params))

    def update(grads, state, params=None):
        if params is None:
            raise ValueError("afm_optimizer decays the weights: call update(gradients, state, weights)")
        norm = global_norm(grads)
        take = norm < skip_norm  # False for NaN and infinity as well
        clip = jnp.minimum(1.0, clip_norm / norm)
        t = state.count + 1
        correction = -jnp.expm1(t.astype(float) * (math.log(b2) if b2 else -math.inf))  # 1 - b2^t, without cancellation
        factor = jnp.asarray(schedule(t))

        # Each `where` comes before the value is used again: placed after, XLA computes everything twice.
        def leaf(g, v, m, w, scale, n_layer_axes):
            dtype, g, w = w.dtype, wide(g), wide(w)
            g = jnp.where(take, g * clip.astype(g.dtype), 0.0)
            v = jnp.where(take, b2 * v + (1 - b2) * (jnp.square(g) + EPS), v)
            u = g * jax.lax.rsqrt(v / correction.astype(v.dtype))
            u = u / jnp.maximum(1.0, block_rms(u, n_layer_axes) / update_clip)
            m = jnp.where(take, b1 * m + (1 - b1) * u, m)
            delta = scale * learning_rate * m + weight_decay * w
            # w + -0.0 is w to the last bit
            return jnp.where(take, -factor.astype(w.dtype) * delta, -0.0).astype(dtype), v, m

        scales = jax.tree_util.tree_map_with_path(lambda path, _: scale_of(leaf_name(path)), grads)
        out = jax.tree.map(leaf, grads, state.v, state.m, params, scales, layer_axes(grads))
        updates, v, m = jax.tree.transpose(jax.tree.structure(grads), jax.tree.structure((0, 0, 0)), out)
        return updates, AFMState(jnp.where(take, t, state.count), v, m)

    return optax.GradientTransformation(init, update)


def tiny_optimizer(cfg: AFMConfig, learning_rate: float, steps: int) -> optax.GradientTransformation:
    """Return `afm_optimizer` as the small models here are trained with: warmed up over a twentieth of the steps."""
    return afm_optimizer(learning_rate, warmup_cosine(steps // 20, steps), update_scale=mup_scales(cfg))


class AFMState(NamedTuple):
    """The optimizer's state: steps taken, the running mean of the squared gradient, the momentum."""

    count: Any
    v: Any
    m: Any


def empty_moments(params):
    """Return zeros like the weights, in float32 at least."""
    return jax.tree.map(lambda w: jnp.zeros_like(wide(w)), params)


def block_rms(u, n_layer_axes: int = 0):
    """Return the root mean square over all axes but the first n_layer_axes, those kept with the rest as 1."""
    return jnp.sqrt(jnp.mean(jnp.square(wide(u)), axis=tuple(range(n_layer_axes, u.ndim)), keepdims=True))


def layer_axes(tree):
    """Return a tree of the number of leading axes that count layers: 1 inside a `Stacked`, else 0."""

    def axes(node):
        return jax.tree.map(lambda _: int(isinstance(node, Stacked)), node)

    return jax.tree.map(axes, tree, is_leaf=lambda node: isinstance(node, Stacked))


def check_settings(schedule, b1, b2, weight_decay, **positive):
    """Raise TypeError or ValueError, naming the setting, for one that no update can have."""
    if not callable(schedule):
        raise TypeError(f"schedule must be a function step -> 0..1 such as warmup_cosine(...), got {schedule!r}")
    for name, beta in (("b1", b1), ("b2", b2)):
        if not 0 <= beta < 1:
            raise ValueError(f"{name} is {beta}: a running mean needs 0 <= {name} < 1")
    for name, value in positive.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}: it must be above 0 (math.inf turns a limit off)")
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay is {weight_decay}: it must be at least 0")

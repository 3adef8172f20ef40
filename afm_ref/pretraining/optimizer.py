"""Apple's pre-training optimizer: RMSProp with momentum, as a chain of optax transformations.

Each transformation below is one line of the recipe in `afm_optimizer`. All of them work on any tree of float
arrays, None leaves (weights that are not trained) included.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ..config import AFMConfig
from ..transformer import Stacked

MATRICES = frozenset({"wq", "wk", "wv", "wo", "w_gate", "w_up", "w_down"})  # attention's and the FFN's


@dataclasses.dataclass(frozen=True)
class WarmupCosine:
    """The schedule that `warmup_cosine` makes: called with a step, it returns the factor of that step."""

    warmup_steps: int
    total_steps: int
    final: float

    def __call__(self, step):
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


def mup_scales(cfg: AFMConfig, base_dim: int = 768) -> Callable[[str], float]:
    """Return path -> factor of the update: base_dim / d_model for attention and FFN matrices, 1 for the rest.

        scale = min(1, base_dim / d_model)          0.25 at d_model 3072

    The path is a leaf's, such as "layers.3.wq". Give the function to `afm_optimizer` as `update_scale`.

    Source: TR24 section 3.2 (muP-simple) [confirmed]; base_dim, the cap and the list of matrices from AXLearn [inferred].
    Test: tests/pretraining/test_optimizer.py::test_mup_scales
    """
    matrix_scale = min(1.0, base_dim / cfg.d_model)
    return lambda path: matrix_scale if MATRICES & set(path.split(".")) else 1.0


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
    update_scale: path -> factor, such as `mup_scales(cfg)`; None is 1 everywhere.

    Source: TR24 section 3.2 (RMSProp with momentum, bias-corrected second moment, decoupled decay) [confirmed]; the
    order, skip_norm, block RMS and constants from AXLearn adastar_learner_config [inferred].
    Test: tests/pretraining/test_optimizer.py::test_equals_the_recipe_in_numpy
    """
    _check_settings(learning_rate, schedule, weight_decay, b1, b2, clip_norm, skip_norm, update_clip)
    recipe = optax.chain(
        optax.clip_by_global_norm(clip_norm),
        scale_by_rms(b2),
        clip_by_block_rms(update_clip),
        optax.ema(b1, debias=False),
        scale_by_path(lambda path: learning_rate * (update_scale(path) if update_scale else 1.0)),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_schedule(lambda done: -schedule(done + 1)),
    )
    return skip_large(recipe, skip_norm)


def skip_large(inner: optax.GradientTransformation, skip_norm: float) -> optax.GradientTransformation:
    """Return `inner`, with weights and state left as they are where the gradient's norm is not below skip_norm."""

    def update(grads, state, params=None):
        ok = optax.tree.norm(grads) < skip_norm  # False for NaN and infinity as well
        updates, new_state = inner.update(grads, state, params)
        # A select and not lax.cond, which would copy the state. Minus zero: w + -0.0 is w to the last bit.
        updates = jax.tree.map(lambda u: jnp.where(ok, u, -jnp.zeros_like(u)), updates)
        return updates, jax.tree.map(lambda new, old: jnp.where(ok, new, old), new_state, state)

    return optax.GradientTransformation(inner.init, update)


class RMSState(NamedTuple):
    """Steps done, and the running mean of the squared gradient."""

    count: Any
    v: Any


def scale_by_rms(b2: float, eps: float = 1e-30) -> optax.GradientTransformation:
    """Return g / sqrt of the bias-corrected mean of g^2 + eps. optax's own adds eps elsewhere."""

    def init(params):
        return RMSState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def update(grads, state, params=None):
        del params
        count = optax.safe_increment(state.count)
        correction = -jnp.expm1(count * (math.log(b2) if b2 else -math.inf))  # 1 - b2^t, exact at small t
        v = jax.tree.map(lambda g, v: b2 * v + (1 - b2) * (jnp.square(g) + eps), grads, state.v)
        updates = jax.tree.map(lambda g, v: g * jax.lax.rsqrt(v / correction.astype(v.dtype)), grads, v)
        return updates, RMSState(count, v)

    return optax.GradientTransformation(init, update)


def clip_by_block_rms(limit: float) -> optax.GradientTransformation:
    """Return the update with every block's root mean square at most `limit`."""

    def clip(u, layer_axes):
        mean_square = jnp.mean(jnp.square(u), axis=tuple(range(layer_axes, u.ndim)), keepdims=True)
        return u / jnp.maximum(1.0, jnp.sqrt(mean_square) / limit)

    return optax.stateless(lambda updates, params: jax.tree.map(clip, updates, layer_axes(updates)))


def layer_axes(tree):
    """Return a tree of the number of leading axes that count layers: 1 inside a `Stacked`, else 0."""

    def axes(node):
        return jax.tree.map(lambda _: int(isinstance(node, Stacked)), node)

    return jax.tree.map(axes, tree, is_leaf=lambda node: isinstance(node, Stacked))


def scale_by_path(scale: Callable[[str], float]) -> optax.GradientTransformation:
    """Return the update times scale(path), path as in "layers.3.wq"."""

    def scaled(path, u):
        return u * scale(jax.tree_util.keystr(path, simple=True, separator="."))

    return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(scaled, updates))


def _check_settings(learning_rate, schedule, weight_decay, b1, b2, clip_norm, skip_norm, update_clip):
    if not callable(schedule):
        raise TypeError(f"schedule must be a function step -> 0..1 such as warmup_cosine(...), got {schedule!r}")
    for name, beta in (("b1", b1), ("b2", b2)):
        if not 0 <= beta < 1:
            raise ValueError(f"{name} is {beta}: a running mean needs 0 <= {name} < 1")
    positive = dict(learning_rate=learning_rate, clip_norm=clip_norm, skip_norm=skip_norm, update_clip=update_clip)
    for name, value in positive.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}: it must be above 0 (math.inf turns a limit off)")
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay is {weight_decay}: it must be at least 0")

"""One update whose terms are settings: Apple's RMSProp with momentum, AdamW, Adafactor and SGD are points of it.

Written to be read and taken apart. Models are trained with `optimizer.afm_optimizer`, Apple's setting in one pass.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ..ops import wide
from ..training import global_norm
from ..weights import leaf_name
from .optimizer import EPS, block_rms, check_settings, empty_moments, layer_axes


@dataclasses.dataclass(frozen=True)
class Terms:
    """What an update is made of; `update_rule` has the formulas. The defaults turn every term off.

    Raises ValueError for a choice that there is not, and for a division by zero in waiting.

    Source: none [ours].
    Test: tests/pretraining/test_updates.py::test_nonsense_is_refused
    """

    momentum: str = "gradient"  # or "update": what the momentum is a running mean of
    b1: float = 0.0  # memory of the momentum; 0: no momentum
    correct_momentum: bool = False  # divide it by 1 - b1^t, because it starts at zero
    second_moment: str = "none"  # or "full", or "factored": row and column means of each matrix
    b2: float = 0.0  # memory of the second moment
    b2_power: float = 0.0  # above 0, b2 is not used but 1 - t^-b2_power, which begins at 0 and needs no correction
    correct_second: bool = False  # divide the second moment by 1 - b2^t
    eps_inside: float = 0.0  # added to the squared gradient
    eps_outside: float = 0.0  # added to the root
    block_clip: float = math.inf  # largest RMS of a block's normalised update
    relative_floor: float = 0.0  # above 0, the update is multiplied by max(floor, RMS of the block's weights)
    global_clip: float = math.inf  # largest norm of all gradients together
    skip_norm: float = math.inf  # from this norm on, and for NaN, nothing happens at all; inf: nothing is skipped
    weight_decay: float = 0.0
    decay_times_rate: bool = False  # is the decay multiplied by the learning rate

    def __post_init__(self):
        for name, choices in (
            ("momentum", ("update", "gradient")),
            ("second_moment", ("full", "factored", "none")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"Terms.{name} must be one of {choices}, got {getattr(self, name)!r}")
        for name in ("b2_power", "eps_inside", "eps_outside", "relative_floor"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"Terms.{name} is {getattr(self, name)}: it must be at least 0")
        if self.second_moment != "none" and not self.eps_inside + self.eps_outside > 0:
            raise ValueError("a gradient of zero would be divided by zero: give Terms.eps_inside or eps_outside")


APPLE = Terms(
    momentum="update", b1=0.95, second_moment="full", b2=0.95, correct_second=True, eps_inside=EPS,
    block_clip=1.0, global_clip=1.0, skip_norm=100.0, weight_decay=3.16e-4,
)  # fmt: skip
# Adam as published, with AdamW's decay (Loshchilov and Hutter 2017), whose usual strength is 0.01 times the rate.
ADAM = Terms(
    momentum="gradient", b1=0.9, correct_momentum=True, second_moment="full", b2=0.999, correct_second=True,
    eps_outside=1e-8, weight_decay=0.01, decay_times_rate=True,
)  # fmt: skip
# Shazeer and Stern 2018: no momentum, and steps in units of the weights' own size.
ADAFACTOR = Terms(second_moment="factored", b2_power=0.8, eps_inside=1e-30, block_clip=1.0, relative_floor=1e-3)
SGD_MOMENTUM = Terms(momentum="gradient", b1=0.9)


class UpdateState(NamedTuple):
    """Steps taken, and for each leaf the second moment (a pair of row and column means when factored), momentum."""

    count: Any
    v: Any
    m: Any


def update_rule(
    terms: Terms,
    learning_rate: float | jax.Array,
    schedule: Callable[[Any], Any],
    update_scale: Callable[[str], float] | None = None,
) -> optax.GradientTransformation:
    """Return the update with these terms as an `optax.GradientTransformation`.

        skip unless |g| < skip_norm;  g <- g min(1, global_clip / |g|)         |g|: norm over all leaves
        v <- b2 v + (1 - b2) (g^2 + eps_inside)
        m <- b1 m + (1 - b1) g                 if the momentum runs over the gradient; m stands for g in the next line
        u = g / (sqrt(v / (1 - b2^t)) + eps_outside)                           1 - b2^t if corrected
        u <- u / max(1, rms(u) / block_clip);  u <- u max(relative_floor, rms(w))
        m <- b1 m + (1 - b1) u                 if the momentum runs over the update; it then stands for u below
        w <- w - schedule(t) (update_scale learning_rate u + weight_decay w)   decay times learning_rate if so set

    t counts from 1 the steps that were not skipped; a block is one leaf, or one layer's slice of a `Stacked` one.
    update_scale: path -> factor, such as `mup_scales(cfg)`. The learning rate may be traced, as
    `optax.inject_hyperparams` does it. Raises ValueError or TypeError, naming the setting.

    Source: TR24 section 3.2 (RMSProp with momentum) for APPLE, whose constants are AXLearn's [inferred].
    Test: tests/pretraining/test_updates.py::test_apple_is_apples_optimizer,
        tests/pretraining/test_updates.py::test_equals_optax
    """
    rate = {} if isinstance(learning_rate, jax.core.Tracer) else {"learning_rate": learning_rate}
    check_settings(schedule, terms.b1, terms.b2, terms.weight_decay, global_clip=terms.global_clip,
                   skip_norm=terms.skip_norm, block_clip=terms.block_clip, **rate)  # fmt: skip
    scale_of = update_scale or (lambda path: 1.0)
    decay = terms.weight_decay * (learning_rate if terms.decay_times_rate else 1.0)

    def init(params):
        v = jax.tree.map(lambda w, n: _empty_moment(terms, w, n), empty_moments(params), layer_axes(params))
        return UpdateState(jnp.zeros((), jnp.int32), v, empty_moments(params))

    def update(grads, state, params=None):
        if params is None:
            raise ValueError("the weights decay: call update(gradients, state, weights)")
        norm = global_norm(grads)
        clip = jnp.minimum(1.0, terms.global_clip / norm)
        t = state.count + 1

        def leaf(g, v, m, w, scale, n_layer_axes):
            dtype, g, w = w.dtype, wide(g), wide(w)
            step, v, m = direction(terms, g * clip.astype(g.dtype), v, m, w, t, n_layer_axes)
            change = -jnp.asarray(schedule(t), w.dtype) * (scale * learning_rate * step + decay * w)
            return change.astype(dtype), v, m

        scales = jax.tree_util.tree_map_with_path(lambda path, _: scale_of(leaf_name(path)), grads)
        out = jax.tree.map(leaf, grads, state.v, state.m, params, scales, layer_axes(grads))
        updates, v, m = (jax.tree.map(lambda _, three, i=i: three[i], grads, out) for i in range(3))
        take = norm < terms.skip_norm if math.isfinite(terms.skip_norm) else True
        return _unless_skipped(take, updates, UpdateState(t, v, m), state)

    return optax.GradientTransformation(init, update)


def direction(terms: Terms, g, v, m, w, t, n_layer_axes: int = 0):
    """Return (the step before the learning rate, second moment, momentum) of one leaf; formulas at `update_rule`.

    Source: TR24 section 3.2 (RMSProp with momentum) for APPLE, whose constants are AXLearn's [inferred].
    Test: tests/pretraining/test_updates.py::test_two_steps_by_hand
    """
    if terms.momentum == "gradient":
        m = terms.b1 * m + (1 - terms.b1) * g
    u = (m / correction(terms.b1, t, terms.correct_momentum, g)) if terms.momentum == "gradient" else g
    if terms.second_moment != "none":
        v, root = second_moment(terms, g, v, t, n_layer_axes)
        u = u / (root + terms.eps_outside)
    u = u / jnp.maximum(1.0, block_rms(u, n_layer_axes) / terms.block_clip)
    if terms.relative_floor:
        u = u * jnp.maximum(terms.relative_floor, block_rms(w, n_layer_axes))
    if terms.momentum == "update":
        m = terms.b1 * m + (1 - terms.b1) * u
        u = m / correction(terms.b1, t, terms.correct_momentum, g)
    return u, v, m


def second_moment(terms: Terms, g, v, t, n_layer_axes: int = 0):
    """Return (second moment, its bias-corrected root) after one more gradient.

        full:      v <- b2 v + (1 - b2) (g^2 + eps)
        factored:  r, c <- the same of the row and the column means;    v_ij = r_i c_j / mean(r)

    A factored matrix [out, in] keeps out + in numbers instead of out * in; vectors stay full.

    Source: Shazeer and Stern 2018 (factored second moment) [standard].
    Test: tests/pretraining/test_updates.py::test_a_matrix_of_rank_one_is_factored_without_loss
    """
    b2 = 1 - jnp.asarray(t, g.dtype) ** -terms.b2_power if terms.b2_power else terms.b2
    square = jnp.square(g) + terms.eps_inside
    if isinstance(v, tuple):
        rows, columns = (b2 * old + (1 - b2) * square.mean(axis, keepdims=True) for old, axis in zip(v, (-1, -2)))
        v, whole = (rows, columns), rows / rows.mean(-2, keepdims=True) * columns
    else:
        v = whole = b2 * v + (1 - b2) * square
    return v, jnp.sqrt(whole / correction(terms.b2, t, terms.correct_second, g))


def correction(beta: float, t, wanted: bool, like):
    """Return 1 - beta^t, the weight that a running mean from zero has gathered after t steps, or 1 if not wanted.

    Source: Kingma and Ba 2015 section 3 [standard].
    Test: tests/pretraining/test_updates.py::test_a_corrected_mean_of_a_constant_is_the_constant
    """
    if not wanted or beta == 0:
        return 1.0
    return -jnp.expm1(jnp.asarray(t, float) * math.log(beta)).astype(like.dtype)  # without cancellation


def _empty_moment(terms, w, n_layer_axes):
    """Return the second moment before the first step: zeros, in pairs where it is factored."""
    if terms.second_moment == "factored" and jnp.ndim(w) - n_layer_axes == 2:
        return jnp.zeros_like(w[..., :1]), jnp.zeros_like(w[..., :1, :])
    return jnp.zeros_like(w)


def _unless_skipped(take, updates, new, old):
    """Return (updates, new state), or no change at all where take is False: NaN and infinite gradients, too."""
    state = jax.tree.map(lambda a, b: jnp.where(take, a, b), new, old)
    return jax.tree.map(lambda u: jnp.where(take, u, -0.0), updates), state

"""`optimizer.block_update` with Adam's momentum in place of Apple's, a `rule` of `afm_optimizer`, to compare."""

import jax
import jax.numpy as jnp

from .optimizer import EPS, rms


def momentum_over_gradient(
    g, v, m, w, gathered, take=True, *, rate, decay, b1=0.95, b2=0.95, clip=1.0
):
    """Return (change, v, m) as Adam has it: the mean runs over the gradient, and is
    corrected.

        m <- b1 m + (1 - b1) g,   u = (m / (1 - b1^t)) / sqrt(v / (1 - b2^t)),   b1 = b2

    Source: Kingma and Ba 2015 section 3 (both corrections) [standard].
    Test: tests/pretraining/test_optimizer.py::test_equals_optax
    """
    if b1 != b2:
        raise ValueError(
            f"b1 {b1} and b2 {b2} differ: both means must have gathered the same share"
        )
    v = jnp.where(take, b2 * v + (1 - b2) * (jnp.square(g) + EPS), v)
    m = jnp.where(take, b1 * m + (1 - b1) * g, m)
    u = m / gathered * jax.lax.rsqrt(v / gathered)
    u = u / jnp.maximum(1.0, rms(u) / clip)
    return jnp.where(take, -(rate * u + decay * w), -0.0), v, m

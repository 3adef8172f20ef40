"""`optimizer.block_update` with one term changed, each a `rule` of `afm_optimizer`, to
compare.
"""

import jax
import jax.numpy as jnp

from .optimizer import EPS, block_update, rms


def uncorrected(g, v, m, w, gathered, take=True, **settings):
    """Return (change, v, m) by `block_update`, v not corrected for its start at zero."""
    return block_update(g, v, m, w, 1.0, take, **settings)


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


def factored(g, v, m, w, gathered, take=True, *, rate, decay, b1=0.95, b2=0.95, clip=1.0):
    """Return (change, v, m), the mean squares of a matrix made of those of its rows and
    columns.

        v_ij ~ R_i C_j / mean(R),   R_i: mean of row i of v,   C_j: mean of column j

    Running means of rows and columns are the rows' and columns' means of the running mean,
    so this keeps v whole. To keep R and C alone, out + in numbers, is what saves memory.

    Source: Shazeer and Stern 2018 (factored second moment) [standard].
    Test: tests/pretraining/test_optimizer.py::test_equals_optax
    """
    v = jnp.where(take, b2 * v + (1 - b2) * (jnp.square(g) + EPS), v)
    size = v  # gains have no rows
    if v.ndim == 2:
        # [out, 1], [1, in]
        rows, columns = v.mean(1, keepdims=True), v.mean(0, keepdims=True)
        size = rows / rows.mean() * columns
    u = g * jax.lax.rsqrt(size / gathered)
    u = u / jnp.maximum(1.0, rms(u) / clip)
    m = jnp.where(take, b1 * m + (1 - b1) * u, m)
    return jnp.where(take, -(rate * m + decay * w), -0.0), v, m

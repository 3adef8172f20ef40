"""The operations of the forward function, for NumPy and JAX alike.

A weight is an array, or an object that knows how to be applied: `linear`, `lookup` and
`rms_norm` ask it. Every chapter that changes what a weight is (LoRA, palettes, shards) does
it there and leaves the forward function alone. Their shapes say "..." because a weight may
also gather or scatter the sequence over devices.
"""

import sys

import numpy as np

from ._typing import Array, Bool, Float, Int

# finite, so that a row with nothing to attend to (a pad) is uniform instead of NaN
MASKED = -1e30


def stop_gradient(x: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """Return x as a constant to JAX's differentiation; NumPy arrays as they are."""
    jax = sys.modules.get("jax")
    return jax.lax.stop_gradient(x) if jax is not None and isinstance(x, jax.Array) else x


def wide(x: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """Return x in float32 if it has 16 bits, else as it is: what is squared, summed or
    exponentiated.

    In float16 the square of 256 is infinite; in bfloat16 a sum of ones stops at 256.

    Source: mixed precision, Micikevicius et al. 2017 section 3 [standard].
    Test: tests/test_sixteen_bits.py::test_norm_and_softmax
    """
    return x.astype(np.float32) if x.dtype.itemsize < 4 else x


def narrow(y: Float[Array, "*any"], dtype) -> Float[Array, "*any"]:
    """Return y in the 16-bit dtype of what it was computed from, or as it is if that had
    more: undoes `wide`.
    """
    return y.astype(dtype) if dtype.itemsize < 4 else y


def product(
    a: Float[Array, "*batch m k"], b: Float[Array, "*batch k n"]
) -> Float[Array, "*batch m n"]:
    """Return the matrix product a b, summed in float32 at least, in the dtype of a and b."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        # NumPy's own products of float16 are slow, and those of bfloat16 stay in float32
        return narrow(wide(a) @ wide(b), np.result_type(a, b))
    return a @ b  # XLA sums in float32


def linear(x: Float[Array, "... in"], w) -> Float[Array, "... out"]:
    """Return W x for every row vector of x.

        y_o = sum_i W_oi x_i

    W: [out, in] as the papers write it, or a weight with `.apply(x)`. The vectors are laid
    out as the rows of one matrix: with a batch of matrices, XLA on a CPU copies every
    activation transposed in the backward pass (a quarter of a training step).

    Source: TR24 section 2 (no biases: AXLearn honeycrisp, mlx-lm afm7) [inferred].
    Test: tests/transformer/test_ops.py::test_linear_is_einsum
    """
    if hasattr(w, "apply"):
        return w.apply(x)
    y = product(w, x.reshape(-1, x.shape[-1]).T)  # [out, batch]
    return y.T.reshape(*x.shape[:-1], w.shape[0])


def lookup(tokens: Int[Array, "..."], w) -> Float[Array, "... D"]:
    """Return the rows of the embedding w: [V, D] that the tokens name; a weight may bring
    its own `.lookup`.
    """
    if hasattr(w, "lookup"):
        return w.lookup(tokens)
    if isinstance(w, np.ndarray):
        return w[tokens]
    # a frequent token's gradient is a sum; XLA converts only these rows
    return wide(w)[tokens].astype(w.dtype)


def rms_norm(x: Float[Array, "... D"], gain, eps: float) -> Float[Array, "... D"]:
    """Return x scaled to unit root mean square along its last axis, times the gain.

        y = x / sqrt(mean(x^2) + eps) * gain

    gain: [D], or a weight with `.rms_norm(x, eps)`.

    Source: TR24 section 2 (pre-norm with RMSNorm) [confirmed].
    Test: tests/transformer/test_ops.py::test_rms_norm_closed_form
    """
    if hasattr(gain, "rms_norm"):
        return gain.rms_norm(x, eps)
    xp, dtype = x.__array_namespace__(), x.dtype
    x = wide(x)
    y = x / xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + eps) * wide(gain)
    return narrow(y, dtype)


def rope_frequencies(head_dim: int, theta: float) -> np.ndarray:
    """Return the angle, in radians, by which each pair of channels turns per position:
    [H/2].

        omega_i = theta^(-2 i / H),   i = 0 .. H/2 - 1

    Source: TR24 section 2 (RoPE, base 500k) [confirmed].
    Test: tests/transformer/test_ops.py::test_rope_is_complex_multiplication
    """
    return theta ** (-np.arange(0, head_dim, 2) / head_dim)


def rope(
    x: Float[Array, "B T heads H"], positions: Int[Array, "#B T"], theta: float, layout: str
) -> Float[Array, "B T heads H"]:
    """Return x with each pair of channels rotated by position times its frequency.

        (a, b) -> (a cos - b sin, a sin + b cos),   angle = position * theta^(-2 i / H)

    layout "interleaved" pairs channels (0, 1), (2, 3), ...;
    "half_split" pairs (i, i + H/2).

    Source: TR24 section 2; neighbouring pairs from AXLearn rotate_half and mlx-lm afm7
        [inferred].
    Test: tests/transformer/test_ops.py::test_rope_is_complex_multiplication
    """
    xp = x.__array_namespace__()
    # bf16 cannot even count to 300
    angle_dtype = xp.float64 if x.dtype == np.float64 else xp.float32
    frequencies = xp.asarray(rope_frequencies(x.shape[-1], theta), dtype=angle_dtype)
    angles = positions[:, :, None, None].astype(angle_dtype) * frequencies  # [B, T, 1, H/2]
    cos, sin = xp.cos(angles).astype(x.dtype), xp.sin(angles).astype(x.dtype)
    if layout == "interleaved":
        # (a, b); turned by a right angle it is (-b, a)
        pairs = x.reshape(*x.shape[:-1], -1, 2)
        turned = pairs[..., ::-1] * xp.stack([-sin, sin], axis=-1)
        return (pairs * cos[..., None] + turned).reshape(x.shape)
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return xp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


def softmax(x: Float[Array, "*batch S"]) -> Float[Array, "*batch S"]:
    """Return exp(x) / sum(exp(x)) along the last axis.

        softmax(x) = softmax(x - c) for every constant c, so the largest entry is subtracted against overflow

    Its gradient is exactly zero; saying so to JAX saves a fifth of attention's backward
    pass.

    Source: textbook [standard].
    Test: tests/transformer/test_ops.py::test_softmax_survives_large_logits
    """
    xp, dtype = x.__array_namespace__(), x.dtype
    x = wide(x)
    e = xp.exp(x - stop_gradient(xp.max(x, axis=-1, keepdims=True)))
    return narrow(e / xp.sum(e, axis=-1, keepdims=True), dtype)


def attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K H"],
    mask: Bool[Array, "#B T S"],
) -> Float[Array, "B T N H"]:
    """Return, for every query, the average of the values weighted by the softmax of its
    scaled scores.

        o_t = sum_s softmax_s(q_t . k_s / sqrt(H)) v_s          over the s that the mask allows

    Query head n reads key/value head n // G with G = N / K: grouped queries. Nothing is
    repeated in memory: the G query heads of a group lie beside the T queries as rows of one
    matrix product.

    Source: TR24 section 2 (grouped-query attention); scale from AXLearn, mlx-lm afm7
        [inferred].
    Test: tests/transformer/test_ops.py::test_attention_equals_loops
    """
    xp = q.__array_namespace__()
    (B, T, N, H), (_, S, K, _) = q.shape, k.shape
    G = N // K
    q = xp.transpose(q.reshape(B, T, K, G, H), (0, 2, 3, 1, 4)).reshape(B, K, G * T, H)
    scores = (wide(q) * H**-0.5) @ wide(xp.transpose(k, (0, 2, 3, 1)))  # [B, K, G*T, S]
    scores = xp.where(mask[:, None, None], scores.reshape(B, K, G, T, S), MASKED)
    weights = narrow(softmax(scores), v.dtype).reshape(B, K, G * T, S)
    out = product(weights, xp.transpose(v, (0, 2, 1, 3))).reshape(B, K, G, T, H)
    return xp.transpose(out, (0, 3, 1, 2, 4)).reshape(B, T, N, H)


def silu(x: Float[Array, "*batch F"]) -> Float[Array, "*batch F"]:
    """Return x * sigmoid(x), written so that neither sign of x overflows.

        x sigmoid(x) = x (1 + tanh(x / 2)) / 2

    Source: Shazeer 2020, GLU variants [standard].
    Test: tests/transformer/test_ops.py::test_silu_closed_form
    """
    xp, dtype = x.__array_namespace__(), x.dtype
    x = wide(x)  # a number of Python's own makes NumPy's bfloat16 float32 anyway
    return narrow(x * (0.5 * (1 + xp.tanh(0.5 * x))), dtype)


def swiglu(x: Float[Array, "... D"], w_gate, w_up, w_down) -> Float[Array, "... D"]:
    """Return the gated feed-forward layer.

        y = W_down (silu(W_gate x) * (W_up x))

    Source: TR24 section 2 (SwiGLU) [confirmed].
    Test: tests/transformer/test_ops.py::test_swiglu_is_not_symmetric_in_its_halves
    """
    return linear(silu(linear(x, w_gate)) * linear(x, w_up), w_down)

"""Chapter 1's exercises: pooled heads, qk-norm's bound, moved keys, memory."""

import math

import numpy as np

from ...config import AFM_ON_DEVICE, AFM_TINY, matrix_shapes
from .registry import Case, arrays, exercise

RNG = np.random.default_rng((1, 3))
PROJECTIONS = [
    (RNG.standard_normal((N * H, D)), K, H)
    for N, K, H, D in ((4, 2, 2, 3), (6, 2, 4, 8), (3, 3, 2, 2))
]


@exercise("1.1", "from many key heads to few", "medium", 15, PROJECTIONS)
def pool_key_heads(w, n_kv_heads, head_dim):
    """Average row by row, in loops, over the heads that will share."""
    K, H = n_kv_heads, head_dim
    G = len(w) // (K * H)
    expected, strided = np.zeros((2, K * H, w.shape[1]))
    for k, h, g in np.ndindex(K, H, G):
        expected[k * H + h] += w[(k * G + g) * H + h] / G
        strided[k * H + h] += w[(g * K + k) * H + h] / G
    others = "heads k, k+K, k+2K were averaged; query head n reads key head n // G, so neighbours share"
    return expected, {others: strided, "the heads were added: divide by G": expected * G}


GAINS = arrays(
    ([1.0] * 4, [1.0] * 4),
    ([1.0, 3.0], [2.0, 1.0]),
    ([1.0, -2.0, 0.5, 1.0], [3.0, 2.0, 1.0, 0.0]),
)


@exercise("1.2", "how large can a score get?", "hard", 20, GAINS)
def largest_score(q_gain, k_gain):
    """The bound is reached in the channel of the largest product of gains."""
    H, products = len(q_gain), q_gain * k_gain
    root, reached = math.sqrt(H), 0.0
    for one in np.eye(H):
        q, k = (root * one * gain for gain in (q_gain, k_gain))  # unit RMS, then the gain
        reached = max(reached, abs(float(q @ k)) / root)
    largest = np.max(np.abs(products))
    loose = (
        "a bound, but not a tight one: q and k "
        "cannot both use their largest gain when it sits in different channels"
    )
    return reached, {
        loose: root * np.max(np.abs(q_gain)) * np.max(np.abs(k_gain)),
        "the score is scaled by 1 / sqrt(H)": H * largest,
        "a vector of H channels with unit RMS has length sqrt(H), not 1": largest,
        "the largest absolute value is asked: a product may be negative": root
        * np.max(products),
    }


def _rotated(x, positions, theta):
    """Rotate neighbouring pairs by complex multiplication: another way than ops.rope."""
    z = x[..., 0::2] + 1j * x[..., 1::2]
    omega = np.array([theta ** (-2 * i / x.shape[-1]) for i in range(x.shape[-1] // 2)])
    z = z * np.exp(1j * positions[:, :, None, None] * omega)
    return np.stack([z.real, z.imag], axis=-1).reshape(x.shape)  # [.., H/2, 2] -> [.., H]


def _turned(x, shift, theta):
    """Return vectors [T, H], each turned by `shift` positions."""
    return _rotated(x[None, :, None], np.full((1, len(x)), shift), theta)[0, :, 0]


@exercise("1.3", "move the keys of a cache", "medium", 15)
def move_keys():
    """Turn keys by the sum of both angles before they get their gain."""
    rng = np.random.default_rng((1, 2))
    for T, H, theta, shift in ((1, 2, 1e4, 1), (5, 8, 5e5, -3), (4, 4, 1e4, 200)):
        key, gain = rng.standard_normal((T, H)), rng.uniform(0.2, 2.0, H)
        key = key / np.sqrt((key**2).mean(-1, keepdims=True))  # a rotation keeps it so
        mistakes = {
            "a gain does not commute with a rotation: take it off before you turn": _turned(
                key * gain, shift, theta
            ),
            "the keys were turned the wrong way": _turned(key, -shift, theta) * gain,
            "the gain was taken off, and has to be put on again": _turned(
                key, shift, theta
            ),
        }
        given = dict(k=key * gain, gain=gain, shift=shift, theta=theta)
        yield Case(given, _turned(key, shift, theta) * gain, mistakes)


BUDGETS = (
    (AFM_TINY, 4_000_000, 8),
    (AFM_ON_DEVICE, 2**31, 4),
    (AFM_ON_DEVICE, 2**31, 16),
)


@exercise("1.4", "the longest conversation", "medium", 10, BUDGETS)
def longest_context(cfg, memory_bytes, weight_bits):
    """Count every matrix and gain, then what a token's keys and values leave room for."""
    D, H, K, L = cfg.d_model, cfg.head_dim, cfg.n_kv_heads, cfg.n_layers
    one = sum(2 * K * H * 2 for _ in range(L))
    blocks = L * (sum(map(math.prod, matrix_shapes(cfg).values())) + 2 * D + 2 * H) + D
    embedding = cfg.vocab_size * D

    def tokens(n_weights, bytes_per_token):
        return max(memory_bytes - n_weights * weight_bits // 8, 0) // bytes_per_token

    whole = blocks + embedding
    return tokens(whole, one), {
        "the weights need their memory first": memory_bytes // one,
        "the embedding's table is kept too": tokens(blocks, one),
        "the embedding is shared: it is kept once": tokens(whole + embedding, one),
        "only the K key/value heads are kept, not all N": tokens(
            whole, one * cfg.n_heads // K
        ),
        "keys AND values are kept: there is a factor of 2": tokens(whole, one // 2),
        "every one of the L layers keeps its own keys and values": tokens(whole, one // L),
        "a number of tokens is whole: round down": (memory_bytes - whole * weight_bits / 8)
        / one,
        "where the weights do not fit, no token does: 0": (
            memory_bytes - whole * weight_bits // 8
        )
        // one,
    }

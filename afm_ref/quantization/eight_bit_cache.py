"""Keys and values in 8 bits: the cache of decoding at half its bytes, and the same rounding
in a whole forward.

generation.generate(params, cfg, prompts, 50, cache=QuantizedCached)
losses.next_token(params, batch, cfg, attend=QuantizedKeys(batch.documents))          # what it costs, in nats
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._typing import Array, Float
from ..config import AFMConfig, kv_cache_bytes_per_token
from ..generation.cache import FAR, Cached, LayerCache
from ..transformer import Causal

LARGEST = 127
SCALE = np.float32  # one of these per token and head: 4 bytes beside H


class Int8Vectors(NamedTuple):
    """Vectors of integers, each with its scale."""

    codes: Any  # [..., H] int8
    scale: Any  # [...] float32


class QuantizedCached(Cached):
    """Attend to everything in a cache of 8-bit keys and values; see `cache.Cached`.

    Each vector is rounded once, when it is written, and restored whenever it is read: what
    a token attends to does not depend on how the text was cut into calls.

    Source: TR25 (KV cache in 8 bits) [confirmed]; a scale for each token and head [ours].
    Test: tests/quantization/test_eight_bit_cache.py::test_the_cache_equals_a_whole_forward_with_rounded_keys
    """

    @staticmethod
    def empty(cfg: AFMConfig, B: int, S: int, dtype=np.float32):
        """Return an empty cache: `cache.Cached`'s, with Int8Vectors [B, S, K, H] for the
        keys and values of each layer; dtype is that of what is written to it.
        """
        if B < 1 or S < 1:
            raise ValueError(
                f"a cache needs at least one sequence and one slot, got B={B}, S={S}"
            )
        shape = (B, S, cfg.n_kv_heads, cfg.head_dim)
        nothing = Int8Vectors(jnp.zeros(shape, jnp.int8), jnp.zeros(shape[:-1], SCALE))
        slots = jnp.full((B, S), FAR, jnp.int32)
        return (LayerCache(nothing, nothing, slots),) * cfg.n_layers

    def keys(self, k, v, positions, cache: LayerCache):
        """Return ((k, v, positions) of the whole cache, cache) after writing k, v [B, T, K,
        H] at positions [B, T].
        """
        rows = jnp.arange(k.shape[0])[:, None]
        positions = jnp.broadcast_to(positions, k.shape[:2])

        def write(slots, new):
            return slots.at[rows, positions].set(new, mode="drop")

        new = LayerCache(rounded(k), rounded(v), positions)
        cache = jax.tree.map(write, cache, new)
        return (
            restored(cache.k, k.dtype),
            restored(cache.v, v.dtype),
            cache.positions,
        ), cache


class QuantizedKeys(Causal):
    """Attend in whole sequences to keys and values that have gone through 8 bits:
    `QuantizedCached`, all at once.
    """

    def keys(self, k, v, positions, cache=None):
        """Return ((k, v, key positions), cache), k and v rounded and restored."""
        return (
            restored(rounded(k), k.dtype),
            restored(rounded(v), v.dtype),
            positions,
        ), cache


def rounded(x: Float[Array, "... H"]) -> Int8Vectors:
    """Return vectors as integers in -127 .. 127, each vector with a scale of its own.

        scale = max_h |x_h| / 127,   code_h = round(x_h / scale)            |error| <= scale / 2

    Source: symmetric rounding by the largest value [standard]; a scale a token and head
        [ours].
    Test: tests/quantization/test_eight_bit_cache.py::test_each_vector_errs_by_half_a_step_at_most
    """
    xp = x.__array_namespace__()
    x = x.astype(SCALE)
    scale = xp.max(xp.abs(x), axis=-1) / LARGEST
    step = xp.where(scale > 0, scale, SCALE(1))[..., None]
    codes = xp.clip(xp.round(x / step), -LARGEST, LARGEST)
    return Int8Vectors(codes.astype(xp.int8), scale)


def restored(x: Int8Vectors, dtype) -> Float[Array, "... H"]:
    """Return code * scale in the given dtype."""
    return (x.codes.astype(SCALE) * x.scale[..., None]).astype(dtype)


def cache_bytes_per_token(cfg: AFMConfig) -> int:
    """Return the bytes that one more token adds to the 8-bit cache of one sequence.

    2 L K (H + 4)          (54,912 bytes for AFM-on-device, 52% of the 106,496 in 16 bits)
    """
    scales = 2 * cfg.n_layers * cfg.n_kv_heads * np.dtype(SCALE).itemsize
    return kv_cache_bytes_per_token(cfg, bytes_per_value=1) + scales

"""A cache of keys and values, and the attend that reads and writes it."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ..config import AFMConfig
from ..transformer import Causal

FAR = 2**30  # the position of a pad or an empty slot: no token attends to its future


class LayerCache(NamedTuple):
    """What a layer remembers: slot s holds the token at position s, or nothing yet.

    Keys and values lie as attention multiplies them, the heads of all sequences along one
    axis. In the order of `keys` XLA on a CPU copies the whole cache, transposed, in every
    step: a sixth of the time of sampling 64 rows. (`QuantizedCached` has Int8Vectors of
    [B, S, K, H] in their place.)
    """

    k: Any  # [B*K, H, S]
    v: Any  # [B*K, S, H]
    positions: Any  # [B, S] int32: s, or FAR while the slot is empty


class Cached(Causal):
    """Attend to everything in the cache at the same or an earlier position.

    `keys` writes the new keys and values into the slots that their positions name. An empty
    slot says that it sits far in the future, so masking by position hides it, and no length
    or mask is kept. A pad is a token whose position is FAR: there is no such slot, and it
    is dropped.

    Source: textbook (KV cache) [standard].
    Test: tests/generation/test_cache.py::test_cached_decoding_equals_the_full_forward
    """

    @staticmethod
    def empty(cfg: AFMConfig, B: int, S: int, dtype=np.float32) -> tuple[LayerCache, ...]:
        """Return an empty cache, a LayerCache a layer, for B sequences of up to S tokens."""
        if B < 1 or S < 1:
            raise ValueError(
                f"a cache needs at least one sequence and one slot, got B={B}, S={S}"
            )
        heads, H = B * cfg.n_kv_heads, cfg.head_dim
        k, v = jnp.zeros((heads, H, S), dtype), jnp.zeros((heads, S, H), dtype)
        return (LayerCache(k, v, jnp.full((B, S), FAR, jnp.int32)),) * cfg.n_layers

    def keys(self, k, v, positions, cache: LayerCache):
        """Write k, v [B, T, K, H] at positions [B, T]; return (whole (k, v, positions),
        cache).
        """
        (B, T, K, H), S = k.shape, cache.positions.shape[1]
        positions = jnp.broadcast_to(jnp.asarray(positions, jnp.int32), (B, T))
        rows, heads = jnp.arange(B)[:, None], jnp.arange(B * K)[:, None]
        slots = jnp.repeat(positions, K, axis=0)

        def by_head(new, like):
            return jnp.swapaxes(new, 1, 2).reshape(B * K, T, H).astype(like.dtype)

        cache = LayerCache(
            cache.k.at[heads, :, slots].set(by_head(k, cache.k), mode="drop"),
            cache.v.at[heads, slots].set(by_head(v, cache.v), mode="drop"),
            cache.positions.at[rows, positions].set(positions, mode="drop"),
        )
        k, v = cache.k.reshape(B, K, H, S), cache.v.reshape(B, K, S, H)
        return (
            jnp.transpose(k, (0, 3, 1, 2)),
            jnp.swapaxes(v, 1, 2),
            cache.positions,
        ), cache

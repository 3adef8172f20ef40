"""A cache of keys and values, and the attend that reads and writes it."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .config import AFMConfig
from .transformer import Causal

FAR = 2**30  # the position of a pad or an empty slot: in every token's future, so that no token attends to it


class LayerCache(NamedTuple):
    """What a layer remembers of each sequence: slot s holds the token at position s, or nothing yet."""

    k: Any  # [B, S, K, H]
    v: Any  # [B, S, K, H]
    positions: Any  # [B, S] int32: s, or FAR while the slot is empty


class Cached(Causal):
    """Attend to everything in the cache at the same or an earlier position.

    `keys` writes the new keys and values into the slots that their positions name. An empty slot says that it sits
    far in the future, so masking by position hides it, and no length or mask is kept. A pad is a token whose
    position is FAR: there is no such slot, and it is dropped.

    Source: textbook (KV cache) [standard].
    Test: tests/generation/test_cache.py::test_cached_decoding_equals_the_full_forward
    """

    @staticmethod
    def empty(cfg: AFMConfig, B: int, S: int, dtype=np.float32) -> tuple[LayerCache, ...]:
        """Return an empty cache of the kind that this attend reads and writes; see `init_cache`."""
        return init_cache(cfg, B, S, dtype)

    def keys(self, k, v, positions, cache: LayerCache):
        """Return ((k, v, positions) of the whole cache, cache) after writing k, v [B, T, K, H] at positions [B, T]."""
        rows = jnp.arange(k.shape[0])[:, None]
        positions = jnp.broadcast_to(positions, k.shape[:2])

        def write(slots, new):
            return slots.at[rows, positions].set(new.astype(slots.dtype), mode="drop")

        cache = LayerCache(write(cache.k, k), write(cache.v, v), write(cache.positions, positions))
        return cache, cache


def init_cache(cfg: AFMConfig, B: int, S: int, dtype=np.float32) -> tuple[LayerCache, ...]:
    """Return an empty cache, a LayerCache for each layer, for B sequences of up to S tokens."""
    if B < 1 or S < 1:
        raise ValueError(f"a cache needs at least one sequence and one slot, got B={B}, S={S}")
    empty = jnp.zeros((B, S, cfg.n_kv_heads, cfg.head_dim), dtype)
    return (LayerCache(empty, empty, jnp.full((B, S), FAR, jnp.int32)),) * cfg.n_layers

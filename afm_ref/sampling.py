"""Choosing the next token from logits: greedy, or a draw after temperature, top-k and top-p (nucleus) filtering."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ._typing import Array, Float, Int
from .ops import wide


class Sampler(NamedTuple):
    """How to choose a token. The defaults choose the most likely one."""

    temperature: float = 0.0  # logits are divided by it; 0: always the most likely token
    top_k: int | None = None  # draw from the k most likely tokens
    top_p: float | None = None  # draw from the fewest most likely tokens whose probabilities reach p together

    def check(self) -> "Sampler":
        """Return it, or raise ValueError or TypeError naming the setting that makes no sense."""
        for name in ("temperature", "top_k", "top_p"):
            value = getattr(self, name)
            kind = "__index__" if name == "top_k" else "__float__"
            if (value is None and name == "temperature") or isinstance(value, bool):
                raise TypeError(f"{name} must be a number, got {value!r}")
            if not (value is None or hasattr(value, kind)):
                raise TypeError(f"{name} must be {'an int' if name == 'top_k' else 'a number'}, got {value!r}")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"temperature must be finite and at least 0 (greedy), got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1 (None keeps all tokens), got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1] (None keeps all tokens), got {self.top_p}")
        return self


def keep_top_k(logits: Float[Array, "*batch V"], k: int) -> Float[Array, "*batch V"]:
    """Return the logits with all but the k largest set to -inf; what ties with the k-th stays, too.

    Source: Fan et al. 2018, top-k sampling [standard].
    Test: tests/generation/test_sampling.py::test_filters_equal_brute_force
    """
    smallest_kept = jax.lax.top_k(logits, min(k, logits.shape[-1]))[0][..., -1:]
    return jnp.where(logits >= smallest_kept, logits, -jnp.inf)


def keep_top_p(logits: Float[Array, "*batch V"], p) -> Float[Array, "*batch V"]:
    """Return the logits with all but the nucleus set to -inf: the fewest largest whose probabilities sum to p.

        keep i  <=>  sum of the probabilities above that of i  <  p

    So the most likely token always stays. What ties with the last one kept stays, too.

    Source: Holtzman et al. 2020, nucleus sampling; transformers' TopPLogitsWarper [standard].
    Test: tests/generation/test_sampling.py::test_filters_equal_brute_force
    """
    logits = wide(logits)
    descending = -jnp.sort(-logits, axis=-1)
    probabilities = jax.nn.softmax(descending, axis=-1)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    # The first is kept whatever rounding says. The last one kept is the smallest, and the threshold.
    kept = (before < p) | (jnp.arange(logits.shape[-1]) == 0)
    smallest_kept = jnp.min(jnp.where(kept, descending, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits >= smallest_kept, logits, -jnp.inf)


def filtered(logits: Float[Array, "*batch V"], temperature, top_k=None, top_p=None) -> Float[Array, "*batch V"]:
    """Return the logits that a token is drawn from: divided by the temperature, then top-k, then top-p.

    The order is that of transformers: top-p looks at the probabilities that top-k has left, renormalised.
    """
    logits = wide(logits) / temperature
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    return logits if top_p is None else keep_top_p(logits, top_p)


def row_keys(seed: int, B: int):
    """Return a random key for each row of a batch: [B]."""
    key = jax.random.key(seed)
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(B))


def draw(logits: Float[Array, "B V"], keys, positions: Int[Array, " B"]) -> Int[Array, " B"]:
    """Return for each row a token drawn with probability softmax(logits).

        argmax_v (logits_v + g_v),   g_v = - log(- log u_v)          (the Gumbel-max trick)

    The noise of a row is a function of its key and of the position that the token will have, and of nothing else.

    Source: textbook (Gumbel-max) [standard].
    Test: tests/generation/test_sampling.py::test_draws_follow_the_softmax
    """
    noise = jax.vmap(lambda key, position: jax.random.gumbel(jax.random.fold_in(key, position), logits.shape[-1:]))
    logits = wide(logits)
    return jnp.argmax(logits + noise(keys, positions).astype(logits.dtype), axis=-1).astype(jnp.int32)

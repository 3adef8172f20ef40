"""Choosing the next token: greedy, or a draw after temperature, top-k and top-p (nucleus).

Before either, `LogitRules` may change the logits: penalties and bans that a model's maker
asks for.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._typing import Array, Float, Int
from ..ops import wide


def checked_number(name, value, least=0, most=math.inf, whole=False, above=False):
    """Return a setting; TypeError or ValueError name it unless it lies in least .. most.

    whole: only ints are numbers. above: `least` itself is too small.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__" if whole else "__float__"):
        raise TypeError(
            f"{name} must be {'an int' if whole else 'a number'}, got {value!r}"
        )
    if not (least <= value <= most and math.isfinite(value)) or (above and value == least):
        limit = (
            f" and at most {most}" if most < math.inf else "" if whole else " and finite"
        )
        raise ValueError(
            f"{name} must be {'above' if above else 'at least'} {least}{limit}, got {value}"
        )
    return int(value) if whole else value


def check_sampling(temperature, top_k=None, top_p=None) -> None:
    """Raise ValueError or TypeError naming what makes no sense; None keeps all tokens."""
    checked_number("temperature", temperature)
    if top_k is not None:
        checked_number("top_k", top_k, least=1, whole=True)
    if top_p is not None:
        checked_number("top_p", top_p, most=1, above=True)


class LogitRules(NamedTuple):
    """What is done to logits before a token is chosen. The defaults do nothing.

    Source: Keskar et al. 2019, section 4.1 (repetition penalty); transformers' logits
        processors [standard].
    Test: tests/generation/test_generate.py::test_rules_equal_a_loop_over_the_full_forward,
    tests/oracles/test_generate.py::test_a_folders_settings_equal_transformers
    """

    # divides positive logits of seen tokens, else multiplies
    repetition_penalty: float = 1.0
    min_new_tokens: int = 0  # no stop token among so many new ones
    min_length: int = 0  # the same, the prompt counted
    suppress_tokens: tuple[int, ...] = ()  # never chosen
    begin_suppress_tokens: tuple[int, ...] = ()  # not chosen as the first new token

    def check(self) -> "LogitRules":
        """Return it, or raise ValueError or TypeError naming the rule that makes no sense."""
        checked_number("repetition_penalty", self.repetition_penalty, above=True)
        for name in ("min_new_tokens", "min_length"):
            checked_number(name, getattr(self, name), whole=True)
        for name in ("suppress_tokens", "begin_suppress_tokens"):
            if not all(hasattr(token, "__index__") for token in getattr(self, name)):
                raise TypeError(f"{name} must hold token ids, got {getattr(self, name)!r}")
        return self


class RuleArrays(NamedTuple):
    """LogitRules for certain prompts and stop tokens, as a compiled program takes them."""

    penalty: Any
    suppressed: Any  # [V] bool
    suppressed_first: Any  # [V] bool
    stops: Any  # [V] bool
    first: Any  # [B]: the position of the first new token
    may_stop: Any  # [B]: the first position at which a stop token may stand

    @classmethod
    def of(cls, rules: LogitRules, stop, lengths, vocab_size: int) -> "RuleArrays":
        """Return the arrays; stop: token ids, lengths: [B], of the prompts."""
        bans = [
            _marked(ids, vocab_size)
            for ids in (rules.suppress_tokens, rules.begin_suppress_tokens, stop)
        ]
        may_stop = np.maximum(lengths + rules.min_new_tokens, rules.min_length)
        return cls(
            np.float32(rules.repetition_penalty), *bans, lengths, may_stop.astype(np.int32)
        )


def _marked(ids, vocab_size):
    return np.isin(np.arange(vocab_size), np.array(list(ids), np.int64))


def ruled(
    logits: Float[Array, "B V"], rules: RuleArrays, seen, positions: Int[Array, " B"]
) -> Float[Array, "B V"]:
    """Return the logits in float32 after the rules.

        s_v -> s_v / penalty if s_v > 0 else s_v * penalty     for tokens v that are seen
        s_v -> -inf                                            for v that may not stand here

    seen: [B, V] bool, the tokens of the prompt and of what was said. positions: those of
    the tokens to choose.
    """
    logits = logits.astype(jnp.float32)
    penalised = jnp.where(logits > 0, logits / rules.penalty, logits * rules.penalty)
    early = (positions < rules.may_stop)[:, None]
    first = (positions == rules.first)[:, None]
    banned = rules.suppressed | (early & rules.stops) | (first & rules.suppressed_first)
    return jnp.where(banned, -jnp.inf, jnp.where(seen, penalised, logits))


def keep_top_k(logits: Float[Array, "*batch V"], k: int) -> Float[Array, "*batch V"]:
    """Return the logits with all but the k largest at -inf; what ties with the k-th stays.

    Source: Fan et al. 2018, top-k sampling [standard].
    Test: tests/generation/test_sampling.py::test_filters_equal_brute_force
    """
    smallest_kept = jax.lax.top_k(logits, min(k, logits.shape[-1]))[0][..., -1:]
    return jnp.where(logits >= smallest_kept, logits, -jnp.inf)


def keep_top_p(logits: Float[Array, "*batch V"], p) -> Float[Array, "*batch V"]:
    """Return the logits outside the nucleus at -inf: the fewest that hold p of probability.

        keep i  <=>  sum of the probabilities above that of i  <  p

    So the most likely token always stays. What ties with the last one kept stays, too.

    Source: Holtzman et al. 2020, nucleus sampling; transformers' TopPLogitsWarper
        [standard].
    Test: tests/generation/test_sampling.py::test_filters_equal_brute_force
    """
    logits = wide(logits)
    descending = -jnp.sort(-logits, axis=-1)
    probabilities = jax.nn.softmax(descending, axis=-1)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    # The first is kept whatever rounding says. The smallest kept is the threshold.
    kept = (before < p) | (jnp.arange(logits.shape[-1]) == 0)
    smallest_kept = jnp.min(jnp.where(kept, descending, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits >= smallest_kept, logits, -jnp.inf)


def filtered(
    logits: Float[Array, "*batch V"], temperature, top_k=None, top_p=None
) -> Float[Array, "*batch V"]:
    """Return the logits that a token is drawn from: temperature, then top-k, then top-p.

    The order is that of transformers: top-p looks at the probabilities that top-k has left,
    renormalised.
    """
    logits = wide(logits) / temperature
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    return logits if top_p is None else keep_top_p(logits, top_p)


def row_keys(seed: int, B: int):
    """Return a random key for each row of a batch: [B]."""
    key = jax.random.key(seed)
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(B))


BLOCK = 64  # tokens that `draw` looks at together


def draw(
    logits: Float[Array, "B V"], keys, positions: Int[Array, " B"]
) -> Int[Array, " B"]:
    """Return for each row a token drawn with probability p = softmax(logits).

        the first v with p_0 + .. + p_v > u (p_0 + .. + p_V-1),   u uniform in [0, 1)

    Looked for among blocks of tokens, then in one block: a random number a row and two short
    sums. u is a function of the row's key and of the position that the token will have, and
    of nothing else.

    Source: textbook (inverse of the distribution function) [standard].
    Test: tests/generation/test_sampling.py::test_draws_follow_the_softmax,
        tests/generation/test_sampling.py::test_a_filtered_token_is_never_drawn
    """
    p = jax.nn.softmax(wide(logits), axis=-1)
    B, V = p.shape
    blocks = jnp.pad(p, ((0, 0), (0, -V % BLOCK))).reshape(B, -1, BLOCK)
    u = jax.vmap(
        lambda key, position: jax.random.uniform(jax.random.fold_in(key, position))
    )(keys, positions)
    upto, row = jnp.cumsum(blocks.sum(-1), axis=-1), jnp.arange(B)  # [B, blocks], [B]
    goal = u * upto[:, -1]
    block = (upto <= goal[:, None]).sum(-1)
    goal = goal - jnp.where(block > 0, upto[row, block - 1], 0)
    upto = jnp.cumsum(blocks[row, block], axis=-1)  # [B, BLOCK]
    # the two sums round differently: past the last token that has a probability is none
    goal = jnp.minimum(goal, jnp.nextafter(upto[:, -1], 0))
    return (BLOCK * block + (upto <= goal[:, None]).sum(-1)).astype(jnp.int32)

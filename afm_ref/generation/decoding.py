"""Decoding: prefill, then a compiled loop over a cache of keys and values.

Compiled once per shape: the number of prompts, and the longest prompt and the cache rounded
up to powers of two. How many tokens are wanted, the temperature, top_p, the seed, the stop
tokens and the values of LogitRules are no shapes and compile nothing new.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import ops
from ..config import AFMConfig
from ..containers import ungroup
from ..losses import token_log_probs
from ..transformer import check_tokens, hidden, logits
from ..weights import Params
from .cache import FAR, Cached
from .sampling import (
    LogitRules,
    RuleArrays,
    check_sampling,
    checked_number,
    draw,
    filtered,
    row_keys,
    ruled,
)

CHUNK = 64  # the most tokens of a row that one call of the compiled loop returns
LEAST_LENGTH = 16  # prompts and caches are padded to powers of two from here on


class Rollouts(NamedTuple):
    """Sampled continuations, an entry for each prompt."""

    tokens: list[np.ndarray]  # [T_row] int32
    # [T_row] float32, of the model before temperature and filters
    log_probs: list[np.ndarray]


def generate(params, cfg, tokens, max_new_tokens, temperature=0.0, top_k=None, top_p=None, seed=0, stop=None,
             cache=Cached, samples=1, rules=None) -> list[np.ndarray]:  # fmt: skip
    """Return the new tokens of each prompt, int32 arrays; arguments are those of
    `rollouts`.

    Source: TR24 section 2 (decoder-only model); the interface is our choice [ours].
    Test: tests/generation/test_generate.py::test_greedy_equals_argmax_over_the_full_forward,
    tests/generation/test_generate.py::test_samples_are_those_of_the_prompt_repeated,
    tests/oracles/test_generate.py::test_greedy_equals_transformers
    """
    settings = temperature, top_k, top_p, seed, stop, cache, samples, rules
    return rollouts(params, cfg, tokens, max_new_tokens, *settings).tokens


def rollouts(
    params: Params,
    cfg: AFMConfig,
    tokens,  # [B, T] ids, or B sequences of any lengths: each continues as if alone
    max_new_tokens: int,
    temperature: float = 0.0,  # 0: the most likely token; else logits are divided by it
    top_k: int | None = None,  # draw from so many most likely tokens,
    top_p: float | None = None,  # of these from the nucleus
    seed: int = 0,  # row b draws from a stream of (seed, b, position) alone
    stop=None,  # a token id or several: a row ends with the first
    cache: type[Cached] = Cached,  # kv_cache.QuantizedCached keeps keys, values in 8 bits
    samples: int = 1,  # continuations of every prompt, one after the other
    rules: LogitRules | None = None,  # before any choice
) -> Rollouts:
    """Return the new tokens of each prompt, and log p of each under the model, in nats.

    Of several samples each prompt is read once; not with weights that differ from row to row
    (lora.AdapterBank.batch).

    Raises ValueError or TypeError for settings and prompts that make no sense,
    FloatingPointError when the model's logits are not finite.
    """
    settings = temperature, top_k, top_p, seed, stop, cache, samples, rules
    request = _request(params, cfg, tokens, max_new_tokens, *settings)
    nothing = (
        [np.zeros(0, np.int32)] * request.rows,
        [np.zeros(0, np.float32)] * request.rows,
    )
    columns = zip(nothing, *_pieces(request, max_new_tokens, CHUNK))
    return Rollouts(*([np.concatenate(row) for row in zip(*column)] for column in columns))


def stream(params, cfg, tokens, max_new_tokens, temperature=0.0, top_k=None, top_p=None, seed=0, stop=None,
           chunk: int = 8, cache=Cached, rules=None) -> Iterator[list[np.ndarray]]:  # fmt: skip
    """Yield the tokens of `generate` as they come, `chunk` at a time: an array for each
    row.

    Settings and prompts are checked when it is called, not when the first tokens are asked
    for.
    """
    if not 1 <= chunk <= CHUNK:
        raise ValueError(f"chunk must lie in 1 .. {CHUNK}, got {chunk}")
    settings = temperature, top_k, top_p, seed, stop, cache, 1, rules
    request = _request(params, cfg, tokens, max_new_tokens, *settings)
    return (new.tokens for new in _pieces(request, max_new_tokens, chunk))


class DecodeState(NamedTuple):
    """Where decoding stands. `token` is chosen, but not yet fed to the model."""

    token: Any  # [B] int32
    position: Any  # [B] int32: of that token
    done: Any  # [B] bool: a stop token has been emitted
    finite: Any  # [B] bool: all logits so far were numbers
    cache: Any
    seen: Any = None  # [B, V] bool: tokens of the text so far; None without rules


class Knobs(NamedTuple):
    """How tokens are chosen: values of a compiled program; None alone changes its code."""

    keys: Any  # [B] random keys, one for each continuation
    temperature: Any  # None: the most likely token
    top_p: Any
    stop: Any  # [n] int32, filled up with -1
    rules: RuleArrays | None


class Request(NamedTuple):
    """One checked call: prompts padded to one shape, settings split as jit wants them."""

    params: Params
    prompts: Any  # [B, T] int32
    lengths: Any  # [B] int32
    knobs: Knobs
    program: tuple  # compiled for: (config, slots of the cache, top_k, attend with a cache)

    @property
    def rows(self) -> int:
        """Continuations: the prompts times their samples."""
        return self.knobs.keys.shape[0]


def _emit(params, x, position, knobs: Knobs, top_k, seen=None):
    """Return (token, log-prob, done, finite), each [B], of hidden states x [B, D];
    position: [B].
    """
    scores = logits(params, x)
    allowed = scores if knobs.rules is None else ruled(scores, knobs.rules, seen, position)
    if knobs.temperature is None:
        token = jnp.argmax(allowed, axis=-1).astype(jnp.int32)
    else:
        token = draw(
            filtered(allowed, knobs.temperature, top_k, knobs.top_p), knobs.keys, position
        )
    finite = jnp.isfinite(scores.max(axis=-1))  # a NaN anywhere makes the maximum NaN
    return (
        token,
        token_log_probs(scores, token),
        (token[:, None] == knobs.stop).any(axis=-1),
        finite,
    )


@functools.partial(jax.jit, static_argnames="program")
def _prefill(params, prompts, lengths, knobs, *, program):
    """Return (state, log-probs [B, 1]) after prompts [B, T], of each row the first
    `lengths`.

    There is a key for each continuation: once read, a prompt becomes as many rows as it has
    keys.
    """
    (B, T), (cfg, S, top_k, cached) = prompts.shape, program
    real = jnp.arange(T) < lengths[:, None]
    positions = jnp.where(real, jnp.arange(T), FAR)
    dtype = jax.eval_shape(ops.lookup, prompts, params.embed).dtype
    x, cache = hidden(
        params, prompts, cfg, positions, cached(), cached.empty(cfg, B, S, dtype)
    )
    last = jnp.take_along_axis(x, (lengths - 1)[:, None, None], axis=1)[:, 0]  # [B, D]
    seen = None if knobs.rules is None else _seen(prompts, real, cfg.vocab_size)
    last, lengths, cache, seen = _repeated(
        (last, lengths, cache, seen), B, knobs.keys.shape[0] // B
    )
    token, log_prob, done, finite = _emit(params, last, lengths, knobs, top_k, seen)
    return DecodeState(token, lengths, done, finite, cache, _also(seen, token)), log_prob[
        :, None
    ]


def _seen(prompts, real, V):
    """Return [B, V] bool: which tokens stand in the real part of each prompt."""
    rows = jnp.arange(prompts.shape[0])[:, None]
    return jnp.zeros((prompts.shape[0], V), bool).at[rows, prompts].max(real)


def _also(seen, token):
    """Return seen [B, V] with each row's token; None stays."""
    return None if seen is None else seen.at[jnp.arange(token.shape[0]), token].set(True)


def _repeated(tree, B, samples):
    """Return a tree of arrays [B, ...] or [B*K, ...], each prompt `samples` times in a row."""

    def repeat(x):
        return jnp.repeat(x.reshape(B, -1, *x.shape[1:]), samples, axis=0).reshape(
            -1, *x.shape[1:]
        )

    return jax.tree.map(repeat, tree)


@functools.partial(jax.jit, static_argnames="program", donate_argnames="state")
def _decode(params, state, knobs, steps, *, program):
    """Return (state, tokens [B, CHUNK], log-probs) after `steps` more, or all rows' ends."""
    (cfg, _, top_k, cached), B = program, state.token.shape[0]

    def unfinished(carry):
        i, state, _, _ = carry
        return (i < steps) & ~state.done.all()

    def step(carry):
        i, state, tokens, log_probs = carry
        x, cache = hidden(
            params,
            state.token[:, None],
            cfg,
            state.position[:, None],
            cached(),
            state.cache,
        )
        token, log_prob, done, finite = _emit(
            params, x[:, 0], state.position + 1, knobs, top_k, state.seen
        )
        finite = state.finite & (finite | state.done)
        done, seen = state.done | done, _also(state.seen, token)
        state = DecodeState(token, state.position + 1, done, finite, cache, seen)
        return (
            i + 1,
            state,
            tokens.at[:, i].set(token),
            log_probs.at[:, i].set(log_prob.astype(log_probs.dtype)),
        )

    empty = jnp.zeros((B, CHUNK), jnp.int32), jnp.zeros((B, CHUNK), jnp.float32)
    _, state, tokens, log_probs = jax.lax.while_loop(unfinished, step, (0, state, *empty))
    return state, tokens, log_probs


def _pieces(request: Request, max_new_tokens, chunk) -> Iterator[Rollouts]:
    """Yield the first token of each row, then at most `chunk` more at a time."""
    if max_new_tokens == 0:
        return
    params, prompts, lengths, knobs, program = request
    state, log_probs = _prefill(params, prompts, lengths, knobs, program=program)
    going = np.ones(request.rows, bool)
    yield _cut(request, state, np.asarray(state.token)[:, None], log_probs, 1, going)
    made = 1
    while made < max_new_tokens and going.any():
        steps = min(chunk, max_new_tokens - made)
        state, tokens, log_probs = _decode(params, state, knobs, steps, program=program)
        yield _cut(request, state, tokens, log_probs, steps, going)
        made += steps


def _cut(request, state, tokens, log_probs, steps, going) -> Rollouts:
    """Return the first `steps` of the rows, cut after their stop token; `going` loses those
    that have met one.
    """
    if (bad := np.flatnonzero(~np.asarray(state.finite))).size:
        raise FloatingPointError(_not_finite(request.params, bad))
    tokens, log_probs, cuts = np.asarray(tokens)[:, :steps], np.asarray(log_probs), []
    for row, ended in enumerate(np.isin(tokens, request.knobs.stop)):
        stops = np.flatnonzero(ended)
        cuts.append(0 if not going[row] else stops[0] + 1 if stops.size else steps)
        going[row] &= not stops.size
    return Rollouts(
        *([row[:n] for row, n in zip(array, cuts)] for array in (tokens, log_probs))
    )


def _request(params, cfg, tokens, max_new_tokens, temperature=0.0, top_k=None, top_p=None, seed=0, stop=None,
             cache=Cached, samples=1, rules=None) -> Request:  # fmt: skip
    """Return what is asked for, checked."""
    prompts = _checked_prompts(tokens, cfg)
    check_sampling(temperature, top_k, top_p)
    new = checked_number("max_new_tokens", max_new_tokens, whole=True)
    samples = checked_number("samples", samples, least=1, whole=True)
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    padded = np.zeros((len(prompts), _bucket(int(lengths.max()))), np.int32)
    for row, prompt in zip(padded, prompts):
        row[: len(prompt)] = prompt
    ids = _stop_tokens(stop, cfg)
    stops = np.full(_bucket(len(ids), least=8), -1, np.int32)
    stops[: len(ids)] = ids
    if rules in (None, LogitRules()):
        rules = None
    else:
        of_rows = np.repeat(lengths, samples)
        rules = RuleArrays.of(rules.check(), ids, of_rows, cfg.vocab_size)
    keys = row_keys(checked_number("seed", seed, whole=True), len(prompts) * samples)
    if temperature == 0:  # nothing is drawn
        temperature = top_k = top_p = None
    drawn = [
        None if value is None else jnp.float32(value) for value in (temperature, top_p)
    ]
    knobs = Knobs(keys, *drawn, stops, rules)
    # a scan over layers would make decoding 3x slower
    params = jax.tree.map(jnp.asarray, params._replace(layers=ungroup(params.layers)))
    return Request(
        params,
        padded,
        lengths,
        knobs,
        (cfg, _bucket(int(lengths.max()) + new), top_k, cache),
    )


def _bucket(n: int, least: int = LEAST_LENGTH) -> int:
    return max(least, 1 << (n - 1).bit_length() if n else 0)


def _checked_prompts(tokens, cfg) -> list[np.ndarray]:
    """Return the prompts as 1-D arrays; ValueError or TypeError for what is no batch."""
    if getattr(tokens, "ndim", 2) != 2 or isinstance(tokens, str):
        raise ValueError(
            "tokens must be [B, T] or a list of sequences of token ids; wrap one sequence as [ids], encode text"
        )
    tokens = np.asarray(tokens) if hasattr(tokens, "ndim") else list(tokens)
    prompts = [np.asarray(row) for row in tokens]
    if not prompts:
        raise ValueError("the batch is empty: give at least one prompt")
    for i, prompt in enumerate(prompts):
        if prompt.ndim != 1:
            raise ValueError(
                f"prompt {i} must be a sequence of ids, got {tokens[i]!r}; wrap a single sequence as [ids]"
            )
        if not prompt.size:
            raise ValueError(
                f"prompt {i} is empty: there is nothing to continue; give at least one token"
            )
        check_tokens(prompt[None], cfg)
    return prompts


def _stop_tokens(stop, cfg) -> list[int]:
    ids = [] if stop is None else [stop] if hasattr(stop, "__index__") else sorted(stop)
    for token in ids:
        if checked_number("stop", token, whole=True) >= cfg.vocab_size:
            raise ValueError(
                f"stop token {token} is outside this model's 0 .. {cfg.vocab_size - 1}"
            )
    return [int(token) for token in ids]


def _not_finite(params, rows) -> str:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    bad = [
        jax.tree_util.keystr(path) for path, leaf in leaves if not jnp.isfinite(leaf).all()
    ]
    why = "the weights are finite, so something overflowed"
    if bad:
        why = f"weights with NaN or infinity: {', '.join(bad[:3])}"
    return f"the model's logits are not finite (rows {rows.tolist()}): {why}"

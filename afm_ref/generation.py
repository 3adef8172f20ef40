"""Continuing text with a model: prefill, a compiled decode loop over a cache of keys and values, streaming.

There is no second forward function: `transformer.hidden` runs with `attend=Cached()`, once over the prompts
(prefill) and then one token at a time (decode).

    prompts -> prefill -> first tokens -> decode, a chunk of steps a call -> more tokens -> ...

Compiled once per shape: the number of prompts, and the longest prompt and the cache rounded up to powers of two. How
many tokens are wanted, the temperature, top_p, the seed, the stop tokens and the values of LogitRules are no shapes
and compile nothing new.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import ops
from .cache import FAR, Cached, LayerCache, init_cache
from .config import AFMConfig
from .layers import ungroup
from .losses import token_log_probs
from .sampling import LogitRules, RuleArrays, Sampler, draw, filtered, row_keys, ruled
from .transformer import check_tokens, hidden, logits
from .weights import Params

CHUNK = 64  # the most tokens of a row that one call of the compiled loop returns
LEAST_LENGTH = 16  # prompts and caches are padded to powers of two from here on

__all__ = [
    "CHUNK",
    "FAR",
    "Cached",
    "LayerCache",
    "LogitRules",
    "Rollouts",
    "generate",
    "init_cache",
    "prompt_ids",
    "rollouts",
    "stream",
    "stream_text",
]


class Rollouts(NamedTuple):
    """Sampled continuations, an entry for each prompt."""

    tokens: list[np.ndarray]  # [T_row] int32
    log_probs: list[np.ndarray]  # [T_row]: of each token under the model itself, before temperature and filters


def generate(
    params: Params,
    cfg: AFMConfig,
    tokens,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    stop=None,
    cache: type[Cached] = Cached,
    samples: int = 1,
    rules: LogitRules | None = None,
) -> list[np.ndarray]:
    """Return the new tokens of each prompt, a list of int32 arrays.

    tokens: [B, T] ids, or a list of B sequences of any lengths; each continues as it would alone. temperature 0
    takes the most likely token every time; otherwise tokens are drawn after dividing the logits by it and keeping
    the top_k most likely and then the nucleus top_p. Row b draws from a random stream that depends on (seed, b,
    position) alone. stop: a token id or several: a row ends with the first of them, which is its last token. cache:
    the attend that keeps keys and values; quantization.kv_cache.QuantizedCached keeps them in 8 bits. samples: how
    many continuations of every prompt, one after the other: the rows are those of each prompt given that many times,
    but each prompt is read once. Weights that differ from row to row (lora.AdapterBank.batch) do not go with it.
    rules: penalties and bans that come before greedy choice and temperature alike; interop.generation_config reads
    them, and the stop tokens, from a model folder.

    Raises ValueError or TypeError for settings and prompts that make no sense, FloatingPointError when the model's
    logits are not finite.

    Source: TR24 section 2 (decoder-only model); the interface is our choice [ours].
    Test: tests/generation/test_generate.py::test_greedy_equals_argmax_over_the_full_forward,
    tests/generation/test_generate.py::test_samples_are_those_of_the_prompt_repeated,
    tests/oracles/test_generate.py::test_greedy_equals_transformers
    """
    settings = temperature, top_k, top_p, seed, stop, cache, samples, rules
    return rollouts(params, cfg, tokens, max_new_tokens, *settings).tokens


def rollouts(params, cfg, tokens, max_new_tokens, temperature=0.0, top_k=None, top_p=None, seed=0, stop=None,
             cache=Cached, samples=1, rules=None) -> Rollouts:  # fmt: skip
    """Return what `generate` returns together with each token's log-probability under the model, in nats."""
    sampler = Sampler(temperature, top_k, top_p)
    run = _Run(params, cfg, tokens, max_new_tokens, sampler, seed, stop, cache, samples, rules)
    pieces = [([np.zeros(0, np.int32)] * run.B, [np.zeros(0, np.float32)] * run.B), *run.chunks(CHUNK)]
    joined = [[np.concatenate(row) for row in zip(*columns)] for columns in zip(*pieces)]
    return Rollouts(*joined)


def stream(params, cfg, tokens, max_new_tokens, temperature=0.0, top_k=None, top_p=None, seed=0, stop=None,
           chunk: int = 8, cache=Cached, rules=None) -> Iterator[list[np.ndarray]]:  # fmt: skip
    """Yield the tokens of `generate` as they come, about `chunk` at a time: each time a list of an array per row.

    Settings and prompts are checked when it is called, not when the first tokens are asked for.
    """
    if not 1 <= chunk <= CHUNK:
        raise ValueError(f"chunk must lie in 1 .. {CHUNK}, got {chunk}")
    sampler = Sampler(temperature, top_k, top_p)
    run = _Run(params, cfg, tokens, max_new_tokens, sampler, seed, stop, cache, rules=rules)
    return (new for new, _ in run.chunks(chunk))


def stream_text(params, cfg, tokenizer, prompt, max_new_tokens: int, **settings) -> Iterator[str]:
    """Yield the continuation of a text as it appears, whole characters only; settings are those of `stream`.

    prompt: a text, or its token ids (to begin with a marker, say). tokenizer: anything with `encode(text) -> ids` and
    `decode(ids) -> text`. A character whose bytes are spread over several tokens comes once the last of them is there.
    What is yielded is the text of prompt and continuation together, the prompt's cut off: a tokenizer may drop the
    space that a text begins with.
    """
    ids = np.asarray(prompt_ids(tokenizer, prompt) if isinstance(prompt, str) else prompt)
    if ids.size == 0:
        raise ValueError("the prompt is empty: give at least one character to continue")
    most = getattr(tokenizer, "vocab_size", np.inf)  # an embedding may be padded with rows that have no text

    def decode(ids):
        return tokenizer.decode([token for token in ids if token < most])

    chunks = stream(params, cfg, [ids], max_new_tokens, **settings)
    return _whole_characters(chunks, decode, ids.tolist(), getattr(tokenizer, "settled_ids", list))


def prompt_ids(tokenizer, text: str):
    """Return a text's ids as its model expects them of a prompt: tokenizer.prompt_ids(text), or else encode(text).

    The first adds what another model's tokenizer.json says that a text begins with (Llama's beginning-of-text token).
    """
    return getattr(tokenizer, "prompt_ids", tokenizer.encode)(text)


def _whole_characters(chunks, decode, prompt_ids=(), settled=list):
    ids, prompt, shown = list(prompt_ids), decode(prompt_ids), 0
    for (new,) in chunks:
        ids.extend(new.tolist())
        certain = decode(settled(ids)).rstrip("\ufffd")  # at the end it may be a character that is not complete yet
        shown = max(shown, _common(prompt, certain))
        if len(certain) > shown:
            yield certain[shown:]
            shown = len(certain)
    text = decode(ids)
    if rest := text[max(shown, _common(prompt, text)) :]:
        yield rest


def _common(a: str, b: str) -> int:
    """Return how many characters two texts begin with in common. (A prompt of ids may end within a character.)"""
    if b.startswith(a):
        return len(a)
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


class _State(NamedTuple):
    """Where decoding stands. `token` is chosen already, but neither fed to the model nor in the cache."""

    token: Any  # [B] int32
    position: Any  # [B] int32: of that token
    done: Any  # [B] bool: a stop token has been emitted
    finite: Any  # [B] bool: all logits so far were numbers
    cache: Any
    seen: Any = None  # [B, V] bool: tokens of the prompt and those chosen; None without rules


class _Knobs(NamedTuple):
    """What a compiled program takes as values, and not as shapes."""

    keys: Any  # [B] random keys, one for each continuation
    temperature: Any
    top_p: Any
    stop: Any  # [n] int32, filled up with -1
    rules: RuleArrays | None = None  # one program has none, another all


class _Program(NamedTuple):
    """What a program is compiled for, beside shapes."""

    cfg: AFMConfig
    greedy: bool
    top_k: int | None
    nucleus: bool  # whether there is a top_p
    cache: type[Cached] = Cached


def _emit(params, x, position, knobs: _Knobs, program: _Program, seen=None):
    """Return (token, log-prob, done, finite), each [B], from hidden states x [B, D]; position is the new token's."""
    scores = logits(params, x)
    allowed = scores if knobs.rules is None else ruled(scores, knobs.rules, seen, position)
    if program.greedy:
        token = jnp.argmax(allowed, axis=-1).astype(jnp.int32)
    else:
        top_p = knobs.top_p if program.nucleus else None
        token = draw(filtered(allowed, knobs.temperature, program.top_k, top_p), knobs.keys, position)
    finite = jnp.isfinite(scores.max(axis=-1))  # a NaN anywhere makes the maximum NaN
    return token, token_log_probs(scores, token), (token[:, None] == knobs.stop).any(axis=-1), finite


@functools.partial(jax.jit, static_argnames=("S", "program"))
def _prefill(params, prompts, lengths, knobs, *, S, program):
    """Return (state, log-prob) after reading prompts [B, T], of which each row's first `lengths` are real.

    There is a key for each continuation: once read, a prompt becomes as many rows as it has keys.
    """
    B, T = prompts.shape
    real = jnp.arange(T) < lengths[:, None]
    positions = jnp.where(real, jnp.arange(T), FAR)
    dtype = jax.eval_shape(ops.lookup, prompts, params.embed).dtype
    empty = program.cache.empty(program.cfg, B, S, dtype)
    x, cache = hidden(params, prompts, program.cfg, positions, program.cache(), empty)
    last = jnp.take_along_axis(x, (lengths - 1)[:, None, None], axis=1)[:, 0]
    seen = None if knobs.rules is None else _seen(prompts, real, program.cfg.vocab_size)
    last, lengths, cache, seen = _repeated((last, lengths, cache, seen), B, knobs.keys.shape[0] // B)
    token, log_prob, done, finite = _emit(params, last, lengths, knobs, program, seen)
    return _State(token, lengths, done, finite, cache, _also(seen, token)), log_prob


def _seen(prompts, real, V):
    """Return [B, V] bool: which tokens stand in the real part of each prompt."""
    rows = jnp.arange(prompts.shape[0])[:, None]
    return jnp.zeros((prompts.shape[0], V), bool).at[rows, prompts].max(real)


def _also(seen, token):
    """Return seen [B, V] with each row's token; None stays."""
    return None if seen is None else seen.at[jnp.arange(token.shape[0]), token].set(True)


def _repeated(tree, B, samples):
    """Return a tree of arrays of B prompts, [B, ...] or [B*K, ...], with each prompt `samples` times in a row."""

    def repeat(x):
        return jnp.repeat(x.reshape(B, -1, *x.shape[1:]), samples, axis=0).reshape(-1, *x.shape[1:])

    return jax.tree.map(repeat, tree)


@functools.partial(jax.jit, static_argnames="program", donate_argnames="state")
def _decode(params, state, knobs, steps, *, program):
    """Return (state, tokens [B, CHUNK], log-probs [B, CHUNK]) after `steps` more tokens, or when all rows are done."""
    B = state.token.shape[0]

    def unfinished(carry):
        i, state, _, _ = carry
        return (i < steps) & ~state.done.all()

    def step(carry):
        i, state, tokens, log_probs = carry
        positions = state.position[:, None]
        x, cache = hidden(params, state.token[:, None], program.cfg, positions, program.cache(), state.cache)
        token, log_prob, done, finite = _emit(params, x[:, 0], state.position + 1, knobs, program, state.seen)
        done, finite, seen = state.done | done, state.finite & (finite | state.done), _also(state.seen, token)
        state = _State(token, state.position + 1, done, finite, cache, seen)
        return i + 1, state, tokens.at[:, i].set(token), log_probs.at[:, i].set(log_prob.astype(log_probs.dtype))

    empty = jnp.zeros((B, CHUNK), jnp.int32), jnp.zeros((B, CHUNK), jnp.float32)
    _, state, tokens, log_probs = jax.lax.while_loop(unfinished, step, (0, state, *empty))
    return state, tokens, log_probs


class _Run:
    """One checked call of `generate`: the prompts padded to a common shape, the settings split as jit wants them."""

    def __init__(self, params, cfg, tokens, max_new_tokens, sampler, seed, stop, cache=Cached, samples=1, rules=None):
        prompts = _checked_prompts(tokens, cfg)
        sampler.check()
        self.max_new_tokens = _whole_number("max_new_tokens", max_new_tokens, least=0)
        self.B, longest = len(prompts) * _whole_number("samples", samples, least=1), max(map(len, prompts))
        self.S = _bucket(longest + self.max_new_tokens)
        self.prompts = np.zeros((len(prompts), _bucket(longest)), np.int32)
        for row, prompt in zip(self.prompts, prompts):
            row[: len(prompt)] = prompt
        self.lengths = np.array([len(prompt) for prompt in prompts], np.int32)
        self.stop = _stop_tokens(stop, cfg)
        # a scan over layers would make decoding 3x slower
        self.params = jax.tree.map(jnp.asarray, params._replace(layers=ungroup(params.layers)))
        top_p = 1.0 if sampler.top_p is None else sampler.top_p
        stops = np.full(_bucket(len(self.stop), least=8), -1, np.int32)
        stops[: len(self.stop)] = self.stop
        keys = row_keys(_whole_number("seed", seed, least=0), self.B)
        rules = None if rules in (None, LogitRules()) else rules.check()
        if rules is not None:
            rules = RuleArrays.of(rules, self.stop, np.repeat(self.lengths, samples), cfg.vocab_size)
        self.knobs = _Knobs(keys, jnp.float32(sampler.temperature), jnp.float32(top_p), stops, rules)
        self.program = _Program(cfg, sampler.temperature == 0, sampler.top_k, sampler.top_p is not None, cache)
        if self.program.greedy:
            self.program = self.program._replace(top_k=None, nucleus=False)

    def chunks(self, chunk):
        """Yield (tokens, log-probs) for each piece of at most `chunk` tokens: lists of an array per row."""
        if self.max_new_tokens == 0:
            return
        state, log_prob = _prefill(self.params, self.prompts, self.lengths, self.knobs, S=self.S, program=self.program)
        open_rows = np.ones(self.B, bool)
        yield self._trim(state, np.asarray(state.token)[:, None], np.asarray(log_prob)[:, None], open_rows)
        made = 1
        while made < self.max_new_tokens and open_rows.any():
            steps = min(chunk, self.max_new_tokens - made)
            state, tokens, log_probs = _decode(self.params, state, self.knobs, steps, program=self.program)
            yield self._trim(state, np.asarray(tokens)[:, :steps], np.asarray(log_probs)[:, :steps], open_rows)
            made += steps

    def _trim(self, state, tokens, log_probs, open_rows):
        """Return the rows cut after their stop token, and note in open_rows which rows have met one."""
        if not np.asarray(state.finite).all():
            raise FloatingPointError(_not_finite(self.params, np.flatnonzero(~np.asarray(state.finite))))
        cuts = []
        for row in range(self.B):
            stops = np.flatnonzero(np.isin(tokens[row], self.stop))
            cuts.append(0 if not open_rows[row] else stops[0] + 1 if stops.size else tokens.shape[1])
            open_rows[row] &= not stops.size
        return [row[:n] for row, n in zip(tokens, cuts)], [row[:n] for row, n in zip(log_probs, cuts)]


def _bucket(n: int, least: int = LEAST_LENGTH) -> int:
    return max(least, 1 << (n - 1).bit_length() if n else 0)


def _whole_number(name, value, least):
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an int, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)


def _checked_prompts(tokens, cfg) -> list[np.ndarray]:
    """Return the prompts as a list of 1-D arrays; raise ValueError or TypeError for what is no batch of prompts."""
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
            raise ValueError(f"prompt {i} is empty: there is nothing to continue; give at least one token")
        check_tokens(prompt[None], cfg)
    return prompts


def _stop_tokens(stop, cfg) -> list[int]:
    ids = [] if stop is None else [stop] if hasattr(stop, "__index__") else sorted(stop)
    for token in ids:
        if _whole_number("stop", token, least=0) >= cfg.vocab_size:
            raise ValueError(f"stop token {token} is outside this model's 0 .. {cfg.vocab_size - 1}")
    return [int(token) for token in ids]


def _not_finite(params, rows) -> str:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    bad = [jax.tree_util.keystr(path) for path, leaf in leaves if not bool(jnp.isfinite(leaf).all())]
    why = (
        f"weights with NaN or infinity: {', '.join(bad[:3])}"
        if bad
        else "the weights are finite, so something overflowed"
    )
    return f"the model's logits are not finite (rows {rows.tolist()}): {why}"

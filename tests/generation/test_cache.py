"""Decoding with a cache against the full forward pass in NumPy float64, position by position."""

import dataclasses
import functools
import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afm_ref.generation import FAR, Cached, decoding
from afm_ref.transformer import forward, hidden, logits
from tests.interop.models import LLAMA, QWEN3, SMALL, map_weights, random_params

ALIKE, ONE_KEY = (dataclasses.replace(SMALL, n_kv_heads=n) for n in (6, 1))
# of one layer, for what differs is within it
QWEN3_ALIKE = dataclasses.replace(QWEN3, n_layers=1, n_kv_heads=6)
LLAMA_ONE_KEY = dataclasses.replace(LLAMA, n_layers=1, n_kv_heads=1)
PIECES = (5, 1, 5, 1)  # long after short, short after long, and two programs only
HALVES = (6, 6)  # one program
LENGTHS = (7, 1, 12)
S = 16
# A sum of n float64 terms is off by at most n eps of its size. Nothing here sums more than a few dozen terms, a few
# dozen sums follow each other, and logits are of size 1 to 10: about 1e-12 with room for conditioning.
TOLERANCE = 20 * 20 * np.finfo(np.float64).eps * 10


def example(cfg):
    """Return (float64 params, prompts [B, T] padded with 0, positions [B, T] with pads at FAR)."""
    params = map_weights(lambda w: w.astype(np.float64), random_params(cfg))
    T = max(LENGTHS)
    tokens = np.random.default_rng(3).integers(1, cfg.vocab_size, (len(LENGTHS), T), dtype=np.int32)
    real = np.arange(T) < np.array(LENGTHS)[:, None]
    return params, np.where(real, tokens, 0), np.where(real, np.arange(T), FAR).astype(np.int32)


@functools.partial(jax.jit, static_argnames=("cfg", "attend"))
def step(params, tokens, positions, cache, cfg, attend):
    """Return (hidden states, cache); one function for all tests: equal shapes are compiled once."""
    return hidden(params, tokens, cfg, positions, attend(), cache)


def in_pieces(params, cfg, tokens, positions, pieces, cache, attend=Cached):
    """Return the logits of all positions, computed by feeding the columns in pieces of these widths."""
    out, start = [], 0
    for width in pieces:
        cut = np.s_[:, start : start + width]
        x, cache = step(params, tokens[cut], positions[cut], cache, cfg, attend)
        out.append(logits(params, np.asarray(x)))
        start += width
    return np.concatenate(out, axis=1), cache


def assert_rows_equal_alone(got, params, cfg, tokens):
    for row, n in enumerate(LENGTHS):
        alone = forward(params, tokens[row : row + 1, :n], cfg)[0]
        np.testing.assert_allclose(got[row, :n], alone, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    "cfg, pieces",
    [
        (SMALL, PIECES),
        (SMALL, (1,) * 12),
        (QWEN3_ALIKE, HALVES),
        (LLAMA_ONE_KEY, HALVES),
        *(pytest.param(cfg, (12,), marks=pytest.mark.slow) for cfg in (QWEN3, LLAMA, ALIKE, ONE_KEY)),
    ],
)
def test_cached_decoding_equals_the_full_forward(cfg, pieces):
    params, tokens, positions = example(cfg)
    with jax.enable_x64(True):
        got, _ = in_pieces(params, cfg, tokens, positions, pieces, Cached.empty(cfg, 3, S, np.float64))
    assert_rows_equal_alone(got, params, cfg, tokens)


def test_empty_slots_and_pads_are_invisible():
    """Whatever lies in slots that nobody wrote, and whatever tokens the pads are, no logit changes."""
    params, tokens, positions = example(SMALL)
    rng = np.random.default_rng(0)
    other_pads = np.where(positions == FAR, 9, tokens)
    with jax.enable_x64(True):
        cache = Cached.empty(SMALL, 3, S, np.float64)
        dirt = [jnp.asarray(100 * rng.normal(size=slots.shape)) for slots in cache[0][:2]]
        dirty = tuple(c._replace(k=dirt[0], v=dirt[1]) for c in cache)
        got, after = in_pieces(params, SMALL, other_pads, positions, PIECES, dirty)
    assert_rows_equal_alone(got, params, SMALL, tokens)
    slots = np.where(np.arange(S) < np.array(LENGTHS)[:, None], np.arange(S), FAR)
    for layer in after:
        np.testing.assert_array_equal(layer.positions, slots)


def test_layers_that_reuse_keys_decode_too():
    """A layer without wk and wv attends to the cache of the last layer that has them."""
    params, tokens, positions = example(SMALL)
    first, second = params.layers
    params = params._replace(layers=(first, second._replace(wk=None, wv=None, k_norm=None)))
    with jax.enable_x64(True):
        got, _ = in_pieces(params, SMALL, tokens, positions, HALVES, Cached.empty(SMALL, 3, S, np.float64))
    assert_rows_equal_alone(got, params, SMALL, tokens)


def test_the_compiled_loop_updates_the_cache_in_place():
    """No instruction of a step copies or transposes a whole cache: that costs more than reading it, in every layer."""
    cfg = dataclasses.replace(SMALL, n_layers=1)
    params, prompts, lengths, knobs, program = decoding._request(random_params(cfg), cfg, [[1, 2]] * 3, 200)
    state, _ = jax.eval_shape(functools.partial(decoding._prefill, program=program), params, prompts, lengths, knobs)
    text = decoding._decode.lower(params, state, knobs, 5, program=program).compile().as_text()
    found = re.findall(r" = f32\[([\d,]+)\]\S* ([\w-]+)\(", text)  # (shape, instruction)
    whole = Counter(name for shape, name in found if np.prod(list(map(int, shape.split(",")))) == state.cache[0].k.size)
    assert whole["parameter"] > len(state.cache)
    assert not whole["copy"] and not whole["transpose"], whole

"""Keys and values in 8 bits: each vector's error, the cache against a whole forward, its bytes, generation with it."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from afm_ref import generation
from afm_ref.config import AFM_ON_DEVICE, AFM_TINY, kv_cache_bytes_per_token
from afm_ref.generation import decoding
from afm_ref.quantization import eight_bit_cache
from afm_ref.quantization.eight_bit_cache import QuantizedCached, QuantizedKeys
from afm_ref.transformer import forward
from tests.generation.test_cache import HALVES, LENGTHS, S, example, in_pieces
from tests.generation.test_generate import loop
from tests.interop.models import SMALL

ONE = dataclasses.replace(SMALL, n_layers=1)


def test_each_vector_errs_by_half_a_step_at_most():
    """Tokens and heads of very different size side by side: each is rounded by its own largest value."""
    x = np.random.default_rng(0).standard_normal((2, 5, 3, 16))
    x *= 10.0 ** np.linspace(-25, 25, 30).reshape(2, 5, 3, 1)
    x[1, 2, 1] = 0
    for rounded in (eight_bit_cache.rounded(x), jax.jit(eight_bit_cache.rounded)(np.float32(x))):
        assert (rounded.codes.dtype, rounded.scale.dtype) == (np.int8, np.float32)
        back = np.asarray(eight_bit_cache.restored(jax.tree.map(np.asarray, rounded), np.float32), np.float64)
        half = np.abs(x).max(axis=-1, keepdims=True) / 254
        assert (np.abs(back - x) <= half * (1 + 1e-4)).all()  # 127 roundings of float32 beside half a step
        assert (np.abs(np.asarray(rounded.codes)).max(axis=-1) == np.where(half[..., 0] > 0, 127, 0)).all()


@pytest.mark.parametrize("pieces", [pytest.param((12,), marks=pytest.mark.slow), HALVES], ids=str)
def test_the_cache_equals_a_whole_forward_with_rounded_keys(pieces):
    """However the text is cut into calls, padded or not. Scales are float32, whose last bit NumPy and XLA may round
    apart: 1e-7 of keys of size 1, a few layers on. The rounding itself moves logits by far more.
    """
    params, tokens, positions = example(SMALL)
    with jax.enable_x64(True):
        cache = QuantizedCached.empty(SMALL, len(tokens), S)
        got, _ = in_pieces(params, SMALL, tokens, positions, pieces, cache, QuantizedCached)
    for row, n in enumerate(LENGTHS):
        alone = tokens[row : row + 1, :n]
        rounded = forward(params, alone, SMALL, attend=QuantizedKeys())[0]
        np.testing.assert_allclose(got[row, :n], rounded, rtol=0, atol=1e-5)
        exact = forward(params, alone, SMALL)[0]
        assert 1e-4 < np.abs(rounded - exact).max() < 0.1 * np.abs(exact).max()


def test_bytes_are_those_of_the_arrays():
    empty = QuantizedCached.empty(AFM_TINY, 3, 5)
    arrays = [leaf for layer in empty for leaf in jax.tree.leaves((layer.k, layer.v))]
    assert sum(leaf.nbytes for leaf in arrays) == 3 * 5 * eight_bit_cache.cache_bytes_per_token(AFM_TINY) == 3 * 5 * 576
    assert eight_bit_cache.cache_bytes_per_token(AFM_ON_DEVICE) == 54_912
    assert kv_cache_bytes_per_token(AFM_ON_DEVICE) == 106_496
    with pytest.raises(ValueError, match="at least one sequence"):
        QuantizedCached.empty(SMALL, 0, 4)


def test_generation_runs_with_it():
    """Greedy tokens are those of the whole forward with rounded keys, where no runner-up is near."""
    params, prompts, n = jax.tree.map(np.float32, example(ONE)[0]), [[3, 1, 4, 1, 5], [9, 2]], 6

    def rounded(scores, text, made):
        return forward(params, np.array([text]), ONE, attend=QuantizedKeys())[0, -1]

    for prompt, new in zip(prompts, generation.generate(params, ONE, prompts, n, cache=QuantizedCached)):
        expected, lead = loop(params, ONE, prompt, n, rule=rounded)
        assert lead > 0.01  # a code that float32 rounds the other way moves a logit by less
        assert new.tolist() == expected
    *given, program = decoding._request(params, ONE, prompts, n, cache=QuantizedCached)
    state, _ = jax.eval_shape(functools.partial(decoding._prefill, program=program), *given)
    assert {layer.k.codes.dtype for layer in state.cache} == {np.dtype(np.int8)}

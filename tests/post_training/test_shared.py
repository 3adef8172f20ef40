"""Rows that share a prompt: the same numbers as rows that repeat it, and nothing leaks from one response to another."""

import dataclasses

import jax
import numpy as np
import pytest

from afm_ref.data.tasks import Rendered
from afm_ref.data.tokenizer import END
from afm_ref.post_training.policy import response_log_probs, sequence_log_probs
from afm_ref.post_training.responses import in_batches, pad
from afm_ref.post_training.shared import share
from tests.post_training.models import CFG, params64

CFG2 = dataclasses.replace(CFG, n_layers=2)  # in the second layer a prompt could bring along what it saw in the first
PARAMS = params64(cfg=CFG2)
P, H, R = 3, 7, 5
LENGTHS = (1, H, 4)  # of the prompts


def parts(K, seed=0):
    """Return token ids of P prompts and K responses to each; one of these is only <|end|>, the next is full."""
    rng = np.random.default_rng((seed, K))
    groups = [[rng.integers(1, CFG.vocab_size, n).tolist() for n in rng.integers(1, R + 1, K)] for _ in range(P)]
    groups[0][0], groups[1][-1] = [END], rng.integers(1, CFG.vocab_size, R).tolist()
    return [rng.integers(1, CFG.vocab_size, n).tolist() for n in LENGTHS], groups


def repeated(prompts, groups):
    """Return the same as padded rows, each prompt once for each response."""
    said = [(prompt, y) for prompt, group in zip(prompts, groups) for y in group]
    return pad([Rendered(np.array([*prompt, *y], np.int32), len(prompt)) for prompt, y in said])


@pytest.mark.parametrize("K", [1, 3])
def test_numbers_are_those_of_padded_rows(K):
    """Log-probabilities token by token, in float64."""
    both = share(*parts(K), H, R), repeated(*parts(K))
    shared, padded = (response_log_probs(PARAMS, rows, CFG2) for rows in both)
    assert shared.shape == (P * K, R) and not shared[~both[0].real].any()
    np.testing.assert_allclose(shared[both[0].real], padded[both[1].real], rtol=1e-10)


@pytest.mark.parametrize("K", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_gradients_are_those_of_padded_rows(K):
    """Of all log-probabilities, with random weights. The values above differ first where K does; slopes follow them."""
    both = share(*parts(K), H, R), repeated(*parts(K))
    weights = np.random.default_rng(1).standard_normal(P * K)
    slope = jax.grad(lambda params, rows: weights @ sequence_log_probs(params, rows, CFG2))
    quickly = {"xla_backend_optimization_level": 0}  # to compile takes longer than to run
    with jax.enable_x64(True):
        slopes = [jax.jit(slope, compiler_options=quickly)(PARAMS, rows) for rows in both]
    for got, want in zip(*map(jax.tree.leaves, slopes), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10 * np.abs(want).max())


def test_a_response_does_not_see_its_neighbours():
    """Other tokens in one response, or in all the padding: every other number is the same, bit for bit."""
    clean = share(*parts(3), H, R)
    before = response_log_probs(PARAMS, clean, CFG2).reshape(P, 3, R)
    changed = clean._replace(said=clean.said.copy())
    changed.said[1, 1] = (clean.said[1, 1] + 1) % CFG.vocab_size
    after = response_log_probs(PARAMS, changed, CFG2).reshape(P, 3, R)
    others = np.arange(P * 3).reshape(P, 3) != 4
    assert (after[others] == before[others]).all() and (after != before)[1, 1][clean.response[1, 1]].all()
    prompts = np.where(np.arange(H) < H - clean.lengths[:, None], 2, clean.prompts)
    dirty = clean._replace(prompts=prompts, said=np.where(clean.response, clean.said, 2))
    assert (dirty.tokens != clean.tokens).any(axis=1).all()
    assert (response_log_probs(PARAMS, dirty, CFG2).reshape(P, 3, R) == before).all()


def test_the_padding_of_a_prompt_changes_nothing():
    """Wider rows move every token to another column, and to the same position."""
    narrow, wide = (share(*parts(3), H + more, R + more) for more in (0, 4))
    assert wide.tokens.shape == (P, H + 4 + 3 * (R + 3))
    got, want = (response_log_probs(PARAMS, rows, CFG2)[rows.real] for rows in (wide, narrow))
    np.testing.assert_allclose(got, want, rtol=1e-12)  # float64, sums of other lengths


def test_batches_of_prompts_are_joined_in_order():
    """Three prompts, two at a time: the filling is taken off again, with all of its responses."""
    rows = share(*parts(3), H, R)
    got = in_batches(lambda factor, r, cfg: r.targets * factor, np.int32(2), rows, None, batch_size=2)
    assert got.tolist() == (2 * rows.targets).tolist()


def test_one_token_responses():
    """Nothing is read after the prompts: the first tokens of all K come from one hidden state."""
    prompts, groups = parts(3)
    rows = share(prompts, [[y[:1] for y in group] for group in groups], H, 1)
    assert rows.tokens.shape == (P, H)
    first = response_log_probs(PARAMS, share(prompts, groups, H, R), CFG2)[:, :1]
    np.testing.assert_allclose(response_log_probs(PARAMS, rows, CFG2), first, rtol=1e-12)  # float64


def test_bad_requests_are_refused():
    for prompts, groups, message in (
        ([], [], "each of 0 prompts"),
        ([[3]], [[]], "at least one"),
        ([[3], [4]], [[[5]], [[5], [6]]], r"as many responses.*\[1, 2\]"),
        ([[3], []], [[[5]], [[6]]], "a prompt must have 1 to 4 tokens, got 0 to 1"),
        ([[3] * 5], [[[5]]], "a prompt must have 1 to 4 tokens, got 5"),
        ([[3]], [[[5], []]], "a response must have 1 to 2 tokens"),
        ([[3]], [[[5] * 3]], "a response must have 1 to 2 tokens"),
    ):
        with pytest.raises(ValueError, match=message):
            share(prompts, groups, 4, 2)

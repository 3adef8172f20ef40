"""Rows that share a prompt: the same numbers as rows that repeat it, and nothing leaks from one response to another."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref import generation
from afm_ref.data.tasks import Rendered
from afm_ref.data.tokenizer import END, PAD
from afm_ref.post_training import losses, reward_model
from afm_ref.post_training.responses import Response, sampled, written
from afm_ref.post_training.rows import conversation, in_batches, pad, response_log_probs, sequence_log_probs, share
from afm_ref.training.step import QUICK
from afm_ref.transformer import init
from tests.post_training.models import CFG, TEXT_CFG, chats, params64, random_pairs, random_reward_model, tokenizer

TOK = tokenizer()
CFG2 = dataclasses.replace(CFG, n_layers=2)  # in the second layer a prompt could bring along what it saw in the first
PARAMS = params64(cfg=CFG2)
P, H, R = 3, 7, 5
LENGTHS = (1, H, 4)  # of the prompts


def parts(n, seed=0):
    """Return token ids of P prompts and n responses to each; one of these is only <|end|>, the next is full."""
    rng = np.random.default_rng((seed, n))
    groups = [
        [rng.integers(1, CFG.vocab_size, length).tolist() for length in rng.integers(1, R + 1, n)] for _ in range(P)
    ]
    groups[0][0], groups[1][-1] = [END], rng.integers(1, CFG.vocab_size, R).tolist()
    return [rng.integers(1, CFG.vocab_size, n).tolist() for n in LENGTHS], groups


def repeated(prompts, groups):
    """Return the same as padded rows, each prompt once for each response."""
    said = [(prompt, y) for prompt, group in zip(prompts, groups) for y in group]
    return pad([Rendered(np.array([*prompt, *y], np.int32), len(prompt)) for prompt, y in said])


@pytest.mark.parametrize("n", [1, 3])
def test_numbers_are_those_of_padded_rows(n):
    """Log-probabilities token by token, in float64."""
    both = share(*parts(n), H, R), repeated(*parts(n))
    shared, padded = (response_log_probs(PARAMS, rows, CFG2) for rows in both)
    assert shared.shape == (P * n, R) and not shared[~both[0].real].any()
    np.testing.assert_allclose(shared[both[0].real], padded[both[1].real], rtol=1e-10)


def test_gradients_are_those_of_padded_rows():
    """Of all log-probabilities, with random weights."""
    both = share(*parts(3), H, R), repeated(*parts(3))
    weights = np.random.default_rng(1).standard_normal(P * 3)
    slope = jax.grad(lambda params, rows: weights @ sequence_log_probs(params, rows, CFG2))
    with jax.enable_x64(True):
        slopes = [jax.jit(slope, compiler_options=QUICK)(PARAMS, rows) for rows in both]
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


def test_one_token_responses():
    """Nothing is read after the prompts: the first tokens of all n come from one hidden state."""
    prompts, groups = parts(3)
    rows = share(prompts, [[y[:1] for y in group] for group in groups], H, 1)
    assert rows.tokens.shape == (P, H)
    first = response_log_probs(PARAMS, share(prompts, groups, H, R), CFG2)[:, :1]
    np.testing.assert_allclose(response_log_probs(PARAMS, rows, CFG2), first, rtol=1e-12)  # float64


def test_bad_requests_are_refused():
    for prompts, groups, message in (
        ([], [], "each of 0 prompts"),
        ([[3], [4]], [[[5]], [[5], [6]]], r"as many responses.*\[1, 2\]"),
        ([[3], []], [[[5]], [[6]]], "a prompt must have 1 to 4 tokens, got 0 to 1"),
        ([[3] * 5], [[[5]]], "a prompt must have 1 to 4 tokens, got 5"),
        ([[3]], [[[5], []]], "a response must have 1 to 2 tokens"),
        ([[3]], [[[5] * 3]], "a response must have 1 to 2 tokens"),
    ):
        with pytest.raises(ValueError, match=message):
            share(prompts, groups, 4, 2)


def test_probabilities_of_all_responses_sum_to_one():
    cfg = dataclasses.replace(CFG, vocab_size=5)
    every = [Rendered(np.array([1, 3, 2, *said], np.int32), 3) for said in itertools.product(range(5), repeat=3)]
    log_probs = sequence_log_probs(params64(cfg=cfg), pad(every), cfg)
    np.testing.assert_allclose(np.exp(log_probs).sum(), 1, rtol=1e-12)  # 125 terms of float64
    assert log_probs.max() - log_probs.min() > 1  # not uniform: the prompt matters


def test_equal_to_those_of_generation():
    """Decoding goes token by token through a cache; the sum must be the same."""
    rng, params = np.random.default_rng(3), init(TEXT_CFG, 3)
    prompts = [rng.integers(6, 2048, n).astype(np.int32) for n in (3, 1, 12, 5, 7, 2, 9, 4)]
    said = generation.rollouts(params, TEXT_CFG, prompts, 6, temperature=1.0, seed=4)
    rows = pad([Rendered(np.concatenate([p, s]), len(p)) for p, s in zip(prompts, said.tokens)])
    got = sequence_log_probs(params, rows, TEXT_CFG)
    np.testing.assert_allclose(got, [x.sum() for x in said.log_probs], rtol=1e-5)  # float32 through a layer


@settings(max_examples=4)
@given(seed=st.integers(0, 10**6), more=st.integers(1, 9))
def test_padding_leaks_nowhere(seed, more):
    """Other tokens in the padding: every number bit-equal. More padding: equal but for the order of additions."""
    pairs, model = random_pairs(3, seed), random_reward_model()
    rng = np.random.default_rng(seed)
    rows = pairs.rows
    real = np.arange(rows.tokens.shape[1]) < rows.lengths[:, None]
    dirty = rows._replace(tokens=np.where(real, rows.tokens, rng.integers(0, CFG.vocab_size, real.shape)))
    wide = rows._replace(**{name: np.pad(getattr(rows, name), ((0, 0), (0, more))) for name in ("tokens", "response")})

    def numbers(rows):
        p = pairs._replace(rows=rows)
        of_pairs = [losses.preference_loss(model.params, p, CFG, kind)[0] for kind in losses.LOSSES]
        heads, ranking = reward_model.read(model, rows, CFG), reward_model.reward_loss(model, p, CFG)[0]
        log_probs = sequence_log_probs(model.params, rows, CFG)
        return np.concatenate([np.ravel(x) for x in (log_probs, of_pairs, *heads, ranking)])

    assert not np.array_equal(dirty.tokens, rows.tokens)
    clean = numbers(rows)
    np.testing.assert_array_equal(numbers(dirty), clean)
    np.testing.assert_allclose(numbers(wide), clean, rtol=1e-9, atol=1e-12)


def test_rows_by_hand():
    rows = pad(chats(3, seed=1), length=20)
    for (tokens, start), row, mask, length in zip(chats(3, seed=1), *rows):
        assert row.tolist() == tokens.tolist() + [PAD] * (20 - len(tokens)) and length == len(tokens)
        assert np.flatnonzero(mask).tolist() == list(range(start, len(tokens)))
    assert pad(chats(3, seed=1)).tokens.shape[1] % 16 == 0


def test_an_empty_response_is_its_end_and_none_is_refused():
    empty = written(TOK, "")
    assert empty.tokens == (END,) and empty.ended
    tokens, start = conversation(TOK, "2 + 2 =", empty)
    assert tokens[start:].tolist() == [END]
    with pytest.raises(ValueError, match="no token"):
        conversation(TOK, "2 + 2 =", Response("", ()))
    cut = sampled(TOK, TOK.encode("the park"))  # a response without an end stays without one
    assert not cut.ended and cut.text == "the park"
    tokens, start = conversation(TOK, "Where?", cut)
    assert END not in tokens[start:] and written(TOK, "the park").tokens == (*cut.tokens, END)


@pytest.mark.parametrize("rows", [pad(chats(7)), share(*parts(3), H, R)])
def test_batches_are_joined_in_order(rows):
    """The filling of the last batch is taken off again; of shared prompts with all of its responses."""
    got = in_batches(lambda factor, r, cfg: r.targets * factor, np.int32(2), rows, None, batch_size=3)
    assert got.tolist() == (2 * rows.targets).tolist()

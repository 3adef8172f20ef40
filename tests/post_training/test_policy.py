"""Log-probabilities of responses: they sum to one, equal those of generation, and know nothing of padding."""

import dataclasses
import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref import generation
from afm_ref.data.tasks import Rendered
from afm_ref.post_training import preference_losses, reward_model
from afm_ref.post_training.policy import response_lengths, sequence_log_probs
from afm_ref.post_training.responses import pad
from afm_ref.transformer import init
from tests.post_training.models import CFG, TEXT_CFG, chats, params64, random_pairs, random_reward_model


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


@settings(max_examples=6)
@given(seed=st.integers(0, 10**6), more=st.integers(1, 9))
def test_padding_leaks_nowhere(seed, more):
    """Other tokens in the padding: every number bit-equal. More padding: equal but for the order of additions."""
    pairs, model = random_pairs(3, seed), random_reward_model()
    rng = np.random.default_rng(seed)
    real = np.arange(pairs.tokens.shape[-1]) < pairs.lengths[..., None]
    dirty = pairs._replace(tokens=np.where(real, pairs.tokens, rng.integers(0, CFG.vocab_size, real.shape)))
    wide = [np.pad(field, ((0, 0), (0, 0), (0, more))) for field in (pairs.tokens, pairs.response)]

    def numbers(p):
        losses = [preference_losses.preference_loss(model.params, p, CFG, kind)[0] for kind in preference_losses.LOSSES]
        heads = reward_model.read(model, p.rows, CFG)
        ranking = reward_model.reward_loss(model, p, CFG)[0]
        log_probs, lengths = sequence_log_probs(model.params, p.rows, CFG), response_lengths(p.rows)
        return np.concatenate([np.ravel(x) for x in (log_probs, lengths, losses, *heads, ranking)])

    assert not np.array_equal(dirty.tokens, pairs.tokens)
    clean = numbers(pairs)
    np.testing.assert_array_equal(numbers(dirty), clean)
    np.testing.assert_allclose(numbers(pairs._replace(tokens=wide[0], response=wide[1])), clean, rtol=1e-9, atol=1e-12)


def test_the_prompt_counts_nothing_but_is_read():
    (tokens, start), params = chats(1, seed=2)[0], params64()
    alone = pad([Rendered(tokens, start)])
    longer = pad([Rendered(tokens, start - 1)])  # its response has one token more
    step = longer.response & ~alone.response
    only = alone._replace(response=step)
    got = [sequence_log_probs(params, rows, CFG)[0] for rows in (longer, alone, only)]
    np.testing.assert_allclose(got[0], got[1] + got[2], rtol=1e-12)
    other = tokens.copy()
    other[0] = (other[0] + 1) % CFG.vocab_size
    assert abs(sequence_log_probs(params, pad([Rendered(other, start)]), CFG)[0] - got[1]) > 1e-6

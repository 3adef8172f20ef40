"""Responses and rows: what is kept, padded, refused."""

import numpy as np
import pytest

from afm_ref import generation
from afm_ref.data.tasks import chat_tokens
from afm_ref.data.tokenizer import END, PAD
from afm_ref.post_training import pairs, preferences, responses
from afm_ref.post_training.responses import Response, conversation, in_batches, pad, sample, sampled, written
from afm_ref.transformer import init
from tests.post_training.models import TEXT_CFG, chats, tokenizer

TOK = tokenizer()
PARAMS = init(TEXT_CFG, 0)


def test_rows_by_hand():
    rows = pad(chats(3, seed=1), length=20)
    for (tokens, start), row, mask, length in zip(chats(3, seed=1), *rows):
        assert row.tolist() == tokens.tolist() + [PAD] * (20 - len(tokens)) and length == len(tokens)
        assert np.flatnonzero(mask).tolist() == list(range(start, len(tokens)))
    assert pad(chats(3, seed=1)).tokens.shape[1] % responses.ROW_MULTIPLE == 0


def test_an_empty_response_is_its_end_and_none_is_refused():
    empty = written(TOK, "")
    assert empty.tokens == (END,) and empty.ended
    tokens, start = conversation(TOK, "2 + 2 =", empty)
    assert tokens[start:].tolist() == [END]
    with pytest.raises(ValueError, match="no token"):
        conversation(TOK, "2 + 2 =", Response("", ()))


def test_a_response_without_end_stays_without_one():
    cut = sampled(TOK, TOK.encode("the park"))
    assert not cut.ended and cut.text == "the park"
    tokens, start = conversation(TOK, "Where?", cut)
    assert END not in tokens[start:] and written(TOK, "the park").tokens == (*cut.tokens, END)


def test_sampling_does_not_depend_on_the_fill():
    """Rows that fill up the last batch are dropped, and change nothing of the others."""
    prompts = ["2 + 3 =", "Where is the picnic?", "Correct:\nThe tickets is here."]
    settings = dict(max_new_tokens=6, seed=3, batch_size=8)
    some = sample(PARAMS, TEXT_CFG, TOK, prompts, 2, **settings)
    assert [len(group) for group in some] == [2, 2, 2]
    assert some == sample(PARAMS, TEXT_CFG, TOK, prompts, 2, **settings)
    assert some[:2] == sample(PARAMS, TEXT_CFG, TOK, prompts[:2], 2, **settings)
    said = [response for group in some for response in group]
    assert len({response.tokens for response in said}) == 6  # a nearly uniform model repeats nothing
    assert all(response.ended == (END in response.tokens) for response in said)


@pytest.mark.parametrize("n, batch_size", [(1, 1), (2, 8), (3, 8), (4, 4), (5, 4), (9, 4)])
def test_every_prompt_gets_its_own_responses(monkeypatch, n, batch_size):
    """With a model that repeats its prompt and counts its rows: nothing is mixed up, and one shape serves all."""
    prompts, calls, shapes = ["2 + 3 =", "Where is the picnic?", "Why?", "7 - 1 ="], [], set()

    def echo(params, cfg, tokens, *rest, samples):
        shapes.add((len(tokens), samples))
        calls.append(None)
        rows = [ids for ids in tokens for _ in range(samples)]
        return [np.array([*ids, len(calls), row]) for row, ids in enumerate(rows)]

    monkeypatch.setattr(generation, "generate", echo)
    groups = sample(None, None, TOK, prompts, n, 4, batch_size=batch_size)
    [(count, samples)] = shapes
    assert count * samples <= batch_size < (count + 1) * samples
    assert batch_size % n or len(calls) == -(-4 * n // batch_size)
    for prompt, group in zip(prompts, groups, strict=True):
        assert [list(r.tokens[:-2]) for r in group] == [chat_tokens(TOK, prompt).tokens.tolist()] * n
    assert len({response.tokens[-2:] for group in groups for response in group}) == 4 * n  # each row given once


def test_bad_requests_are_refused():
    for settings, message in (
        (dict(n=0), "at least 1"),
        (dict(n=1, batch_size=0), "at least 1"),
        (dict(n=2, temperature=0), "same response"),
    ):
        with pytest.raises(ValueError, match=message):
            sample(PARAMS, TEXT_CFG, TOK, ["Where?"], max_new_tokens=4, **settings)
    with pytest.raises(ValueError, match="no conversation"):
        pad([])
    with pytest.raises(ValueError, match="a row holds 3"):
        pad(chats(4), length=3)
    tokens, _ = chats(1)[0]
    with pytest.raises(ValueError, match="no response"):
        pad([responses.Rendered(tokens, len(tokens))])
    with pytest.raises(ValueError, match="responses were equal"):
        pairs.pairs_of([], TOK)


def test_batches_are_joined_in_order():
    rows = pad(chats(7))
    got = in_batches(lambda factor, r, cfg: r.lengths * factor, np.int32(2), rows, None, batch_size=3)
    assert got.tolist() == (2 * rows.lengths).tolist()


def test_pairs_hold_what_the_preferences_say():
    good, bad = written(TOK, "7"), written(TOK, "8 or 9")
    found = [preferences.Preference("3 + 4 =", good, bad, level, (2, 2, 2, 2), (0, 1, 0, 2), 0.7) for level in range(4)]
    batch = pairs.pairs_of(found, TOK)
    assert batch.labels.tolist() == np.float32([0.95, 0.85, 0.75, 0.65]).tolist()
    assert batch.grades[:, 3].tolist() == [[2, 2, 2, 2], [0, 1, 0, 2]]
    for side, response in enumerate((good, bad)):
        tokens = conversation(TOK, "3 + 4 =", response).tokens
        assert batch.tokens[side, 2, : batch.lengths[side, 2]].tolist() == tokens.tolist()
    assert batch.rows.tokens[6].tolist() == batch.tokens[1, 2].tolist()
    feed = pairs.pair_batches(batch, 2, seed=1)
    assert sorted(np.concatenate([feed(0).labels, feed(1).labels])) == sorted(batch.labels)  # an epoch

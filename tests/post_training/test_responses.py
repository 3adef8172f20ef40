"""Responses and rows: what is kept, padded, refused."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from afm_ref import generation
from afm_ref.data.tasks import chat_tokens
from afm_ref.data.tokenizer import END
from afm_ref.post_training.losses import pairs_of
from afm_ref.post_training.responses import Response, expected_best, kl_of_best_of_n, rejection_sample, sample
from afm_ref.post_training.rows import pad
from afm_ref.transformer import init
from tests.post_training.models import TEXT_CFG, chats, tokenizer

TOK = tokenizer()
PARAMS = init(TEXT_CFG, 0)


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

    def echo(params, cfg, tokens, *_, samples, **__):
        shapes.add((len(tokens), samples))
        calls.append(None)
        rows = [ids for ids in tokens for _ in range(samples)]
        said = [np.array([*ids, len(calls), row]) for row, ids in enumerate(rows)]
        return generation.Rollouts(said, said)

    monkeypatch.setattr(generation, "rollouts", echo)
    groups = sample(None, None, TOK, prompts, n, 4, batch_size=batch_size)
    [(count, samples)] = shapes
    assert count * samples <= batch_size < (count + 1) * samples
    assert batch_size % n or len(calls) == -(-4 * n // batch_size)
    for prompt, group in zip(prompts, groups, strict=True):
        assert [list(r.tokens[:-2]) for r in group] == [chat_tokens(TOK, prompt).tokens.tolist()] * n
    assert len({response.tokens[-2:] for group in groups for response in group}) == 4 * n  # each row given once


def test_bad_requests_are_refused():
    ask = partial(sample, PARAMS, TEXT_CFG, TOK, ["Where?"], max_new_tokens=4)
    for call, message in (
        (lambda: ask(n=0), "at least 1"),
        (lambda: ask(n=1, batch_size=0), "at least 1"),
        (lambda: ask(n=2, temperature=0), "same response"),
        (lambda: pad(chats(4), length=3), "a row holds 3"),
        (lambda: pairs_of([], TOK), "responses were equal"),
        (lambda: expected_best([1.0, 2.0, 3.0], 0), r"n must lie in 1 \.\. 3"),
        (lambda: expected_best([1.0, 2.0, 3.0], 4), r"n must lie in 1 \.\. 3"),
        (lambda: expected_best([1.0, math.nan], 1), "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@hypothesis(max_examples=40)
@given(values=st.lists(st.integers(-3, 3), min_size=1, max_size=7), seed=st.integers(0, 99))
def test_expected_best_over_all_subsets(values, seed):
    """Few distinct rewards, so that many tie; of those that tie, any may be the best."""
    judged = np.random.default_rng(seed).standard_normal(len(values))
    for n in range(1, len(values) + 1):
        bests = [max(subset) for subset in itertools.combinations(values, n)]
        truths = [np.mean([judge for value, judge in zip(values, judged) if value == best]) for best in bests]
        assert expected_best(values, n) == pytest.approx(np.mean(bests))
        assert expected_best(values, n, judged) == pytest.approx(np.mean(truths))


@pytest.mark.parametrize("n", [1, 2, 4, 16])
def test_divergence_reaches_its_bound(n):
    """Exactly, for policies over a list of responses with rewards 1, 2, 3, ...: P(best = i) = F_i^n - F_{i-1}^n."""

    def divergence(p):
        best = np.diff(np.cumsum(p) ** n, prepend=0)
        return float((best * np.log(best / p)).sum())

    bound = kl_of_best_of_n(n)
    assert max(map(divergence, np.random.default_rng(n).dirichlet(np.ones(6), 20))) <= bound + 1e-12
    assert divergence(np.full(100_000, 1e-5)) == pytest.approx(bound, abs=1e-4)
    assert n == 1 or divergence(np.array([0.5, 0.5])) < 0.9 * bound


def test_rejection_sampling_by_hand():
    a, b, c = (Response(text, (1, 3)) for text in "abc")
    prompts, groups = ["x", "y", "z"], [[a, b, c], [a, a, b], [c, b, a]]
    values = [[0.1, 0.9, 0.9], [0.2, 0.2, 0.1], [-1.0, -2, -3]]
    assert rejection_sample(prompts, groups, values) == [("x", b), ("y", a), ("z", c)]
    for groups, values in (([[]], [[]]), ([[a]], [[math.nan]]), ([[a, b]], [[1.0]])):
        with pytest.raises(ValueError, match="one number for each"):
            rejection_sample(["x"], groups, values)

"""Responses: sampled, padded, refused; and the simulated annotators who judge them."""

import math
from functools import partial
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from afm_ref import generation
from afm_ref.data import tasks
from afm_ref.data.tokenizer import END
from afm_ref.post_training import preferences, responses
from afm_ref.post_training.losses import pairs_of
from afm_ref.post_training.responses import Response, expected_best, rejection_sample, sample, sampled, written
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
        assert [list(r.tokens[:-2]) for r in group] == [tasks.chat_tokens(TOK, prompt).tokens.tolist()] * n
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
        bests = [max(subset) for subset in combinations(values, n)]
        truths = [np.mean([judge for value, judge in zip(values, judged) if value == best]) for best in bests]
        assert expected_best(values, n) == pytest.approx(np.mean(bests))
        assert expected_best(values, n, judged) == pytest.approx(np.mean(truths))


@pytest.mark.parametrize("n", [1, 2, 4, 16])
def test_divergence_reaches_its_bound(n):
    """Exactly, for policies over a list of responses with rewards 1, 2, 3, ...: P(best = i) = F_i^n - F_{i-1}^n."""

    def divergence(p):
        best = np.diff(np.cumsum(p) ** n, prepend=0)
        return float((best * np.log(best / p)).sum())

    bound = responses.kl_of_best_of_n(n)
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


RECORD = tasks.Record("sums", "3 + 4 =", "7", "train", {})
NEWS = tasks.Record("summarise", "Summarise:\nLeo: away on Friday", "Leo is off on Friday.", "train",
                    {"facts": ["Leo", "Friday"]})  # fmt: skip
SHORT, WORDY = written(TOK, NEWS.reference), written(TOK, "Leo is off on Friday, I think so.")  # 5 and 8 words
RIGHT, WRONG, LONG = written(TOK, "7"), written(TOK, "8"), written(TOK, "7 I think it is")


@pytest.mark.parametrize("lapse", [0.1, 0.4])
def test_verdicts_follow_their_distribution(lapse):
    """600 verdicts: each of the 8 counts within 5 standard deviations (once in 200000 runs, and the seed is fixed).

    The levels are drawn here from noise, thresholds and lapses, in the package from the closed form.
    """
    annotator, n = preferences.Annotator(noise=0.15, position_bias=0.04, length_bias=0.08, lapse=lapse), 600
    gap = preferences.utility(NEWS, SHORT) - preferences.utility(NEWS, WORDY)
    assert gap == pytest.approx(0.6 * 0.25 + 0.15 * 0.375)
    rng, edges = np.random.default_rng(0), [np.inf, 0.3, 0.15, 0.05, 0]
    seen = gap + 0.04 + 0.08 * np.log(6 / 9) + 0.15 * rng.logistic(size=n)
    levels = [(side * seen > low) & (side * seen <= high) for side in (1, -1) for high, low in pairwise(edges)]
    blind = rng.random(n) < lapse
    simulated = np.bincount(np.where(blind, rng.integers(8, size=n), np.argmax(levels, axis=0)), minlength=8)
    rng = np.random.default_rng(1)
    verdicts = [preferences.judge(NEWS, SHORT, WORDY, annotator, rng) for _ in range(n)]
    counts = np.bincount([v.level + 4 * (v.chosen == WORDY) for v in verdicts], minlength=8)
    want = n * preferences.level_probabilities(preferences.seen_difference(annotator, gap, 5, 8), 0.15, lapse).ravel()
    assert np.all(np.abs([counts - want, simulated - want]) <= 5 * np.sqrt(want))
    assert all(v.gap == (gap if v.chosen == SHORT else -gap) and v.simulated for v in verdicts)


def test_each_bias_moves_the_choice_its_way():
    for bias, want in ({}, 0.2), ({"position_bias": 0.1}, 0.3), ({"length_bias": 0.1}, 0.2 + 0.1 * np.log(2)):
        assert preferences.seen_difference(preferences.Annotator(**bias), 0.2, 7, 3) == pytest.approx(want)
    noisy, sure = (preferences.level_probabilities(0.2, noise)[0].sum() for noise in (0.5, 0.1))
    assert noisy < sure


@pytest.mark.parametrize("d, lapse", [(0.0, 0.0), (0.07, 0.1), (-0.3, 0.02)])
def test_mean_label_minimises_the_mean_loss(d, lapse):
    """By a search over margins: sigmoid of the best one is the mean label."""
    odds, labels = preferences.level_probabilities(d, 0.1, lapse), np.array(preferences.SOFT_LABELS)
    p = np.linspace(0.001, 0.999, 9981)  # sigmoid of the margin
    first, second = np.outer(labels, np.log(p)), np.outer(1 - labels, np.log(1 - p))  # [levels, margins]
    loss = -odds[0] @ (first + second) - odds[1] @ (first + second)[:, ::-1]  # p is symmetric about 1/2
    assert p[loss.argmin()] == pytest.approx(preferences.mean_label(odds), abs=1e-4)  # the grid's step


def test_grades():
    assert [preferences.grade(q) for q in (0.0, 0.49, 0.5, 0.94, 0.95, 1.0)] == [0, 0, 1, 1, 2, 2]
    careful = preferences.judge(RECORD, RIGHT, WRONG, preferences.Annotator(noise=1e-3), np.random.default_rng(0))
    assert (careful.chosen_grades, careful.rejected_grades) == ((2, 2, 2, 2), (0, 2, 0, 2))
    rng = np.random.default_rng(3)
    hasty = preferences.Annotator(noise=1e-3, grade_lapse=1)
    blind = [preferences.judge(RECORD, RIGHT, WRONG, hasty, rng).chosen_grades for _ in range(300)]
    want = 100 * len(preferences.GRADES)
    assert np.all(np.abs(np.bincount(np.ravel(blind), minlength=3) - want) < 5 * np.sqrt(want))


def test_collect_pairs_what_differs():
    records = [RECORD] * 4
    cut = Response("7", RIGHT.tokens[:-1])
    groups = [[RIGHT, WRONG, LONG], [RIGHT] * 3, [RIGHT, cut], [RIGHT, RIGHT, WRONG]]
    found = preferences.collect(records, groups, preferences.PANEL, seed=5, pairs=9)
    by_pair = [frozenset((p.chosen, p.rejected)) for p in found]
    assert by_pair.count(frozenset((RIGHT, WRONG))) == 1 + 2  # the last group has it twice
    assert len(found) == 3 + 0 + 1 + 2 and all(len(pair) == 2 for pair in by_pair)
    assert found == preferences.collect(records, groups, preferences.PANEL, seed=5, pairs=9)
    assert found[:3] == preferences.collect(records[:1], groups[:1], preferences.PANEL, seed=5, pairs=9)
    assert len(preferences.collect(records, groups, preferences.PANEL, seed=6)) == 3  # one a prompt
    with pytest.raises(ValueError, match="nothing to prefer"):
        preferences.judge(RECORD, RIGHT, RIGHT, preferences.PANEL[0], np.random.default_rng(0))


def test_qualities_by_hand():
    fields = {"facts": ["Leo", "school play", "Friday"]}
    prompt = "Summarise:\nLeo: the school play is on Friday"
    record = tasks.Record("summarise", prompt, "Leo plans the school play on Friday.", "train", fields)
    cut = sampled(TOK, TOK.encode("Leo plans plans the school play on Monday at the gym."))
    # facts: 2 of 3, 11 words of an allowance of 1.2 * 7; claims: Leo, school play hold, Monday, gym do not
    want = (2 / 3 * 8.4 / 11, 7 / 11, 2 / 4, 1 / 3)
    assert tuple(preferences.qualities(record, cut).values()) == pytest.approx(want)
    assert tuple(preferences.qualities(record, cut)) == preferences.GRADES
    assert preferences.utility(record, cut) == pytest.approx(np.dot((0.6, 0.15, 0.15, 0.1), want))
    # a wrong sum, though a 3 stands in the prompt
    assert preferences.qualities(RECORD, written(TOK, "3"))["truthfulness"] == 0


@pytest.mark.parametrize("task", tasks.TASKS)
def test_references_have_the_highest_utility(task):
    for record in tasks.records(task, 20):
        best = written(TOK, record.reference)
        assert preferences.utility(record, best) == pytest.approx(1)
        worse = dict(text=best.text + " Anna is at the airport at 3:45"), dict(tokens=best.tokens[:-1])
        assert all(preferences.utility(record, best._replace(**change)) < 0.99 for change in worse)
        assert preferences.utility(record, written(TOK, "")) == preferences.utility(record, Response("", ())) == 0

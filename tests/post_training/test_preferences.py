"""Simulated annotators: their verdicts follow the stated distribution, their biases point where they should."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from afm_ref.data import tasks
from afm_ref.post_training.preferences import (
    GRADES,
    LEVELS,
    PANEL,
    SOFT_LABELS,
    WEIGHTS,
    Annotator,
    collect,
    expected_verdict,
    grade,
    judge,
    level_probabilities,
    mean_label,
    qualities,
    seen_difference,
    utility,
)
from afm_ref.post_training.responses import Response, sampled, written
from tests.post_training.models import tokenizer

TOK = tokenizer()
RECORD = tasks.Record("sums", "3 + 4 =", "7", "train", {})
NEWS = tasks.Record("summarise", "Summarise:\nLeo: away on Friday", "Leo is off on Friday.", "train",
                    {"facts": ["Leo", "Friday"]})  # fmt: skip
SHORT, WORDY = written(TOK, NEWS.reference), written(TOK, "Leo is off on Friday, I think so.")  # 5 and 8 words
RIGHT, WRONG, LONG = written(TOK, "7"), written(TOK, "8"), written(TOK, "7 I think it is")


@settings(max_examples=50)
@given(d=st.floats(-3, 3), noise=st.floats(0.01, 2), lapse=st.floats(0, 1))
def test_level_probabilities_close(d, noise, lapse):
    odds = level_probabilities(d, noise, lapse)
    assert odds.min() >= 0 and odds.sum() == pytest.approx(1)
    assert odds[0].sum() == pytest.approx((1 - lapse) * expit(d / noise) + lapse / 2)
    np.testing.assert_allclose(odds, level_probabilities(-d, noise, lapse)[::-1], atol=1e-12)  # no side is special


def test_verdicts_follow_their_distribution():
    """600 verdicts: each of the 8 counts within 5 standard deviations (once in 200000 runs, and the seed is fixed).

    The levels are drawn here from noise and thresholds, in the package from the closed form.
    """
    annotator, n = Annotator(noise=0.15, position_bias=0.04, length_bias=0.08), 600
    gap = utility(NEWS, SHORT) - utility(NEWS, WORDY)
    assert gap == pytest.approx(0.6 * 0.25 + 0.15 * 0.375)
    seen = gap + 0.04 + 0.08 * np.log(6 / 9) + 0.15 * np.random.default_rng(0).logistic(size=n)
    edges = [np.inf, 0.3, 0.15, 0.05, 0]
    simulated = [
        ((side * seen > low) & (side * seen <= high)).sum() for side in (1, -1) for high, low in pairwise(edges)
    ]
    rng = np.random.default_rng(1)
    verdicts = [judge(NEWS, SHORT, WORDY, annotator, rng) for _ in range(n)]
    counts = [
        sum(v.chosen == first and v.level == level for v in verdicts) for first in (SHORT, WORDY) for level in range(4)
    ]
    want = n * level_probabilities(seen_difference(annotator, gap, 5, 8), 0.15).ravel()
    for got in (counts, simulated):
        assert np.all(np.abs(np.array(got) - want) <= 5 * np.sqrt(want))
    assert all(v.gap == (gap if v.chosen == SHORT else -gap) and v.simulated for v in verdicts)


def test_lapses_are_blind():
    rng = np.random.default_rng(2)
    verdicts = [judge(RECORD, RIGHT, WRONG, Annotator(noise=0.01, lapse=0.4), rng) for _ in range(500)]
    wrong = np.mean([v.chosen == WRONG for v in verdicts])
    assert wrong == pytest.approx(0.2, abs=5 * np.sqrt(0.2 * 0.8 / 500))
    assert {v.level for v in verdicts if v.chosen == WRONG} == set(range(len(LEVELS)))


def test_each_bias_moves_the_choice_its_way():
    assert seen_difference(Annotator(), 0.2, 3, 3) == pytest.approx(0.2)
    assert seen_difference(Annotator(position_bias=0.1), 0.2, 3, 3) == pytest.approx(0.3)
    assert seen_difference(Annotator(length_bias=0.1), 0.2, 7, 3) == pytest.approx(0.2 + 0.1 * np.log(2))
    assert level_probabilities(0.2, 0.5)[0].sum() < level_probabilities(0.2, 0.1)[0].sum()


@pytest.mark.parametrize("d, lapse", [(0.0, 0.0), (0.07, 0.1), (-0.3, 0.02)])
def test_mean_label_minimises_the_mean_loss(d, lapse):
    """By a search over margins: sigmoid of the best one is the mean label."""
    odds, labels = level_probabilities(d, 0.1, lapse), np.array(SOFT_LABELS)
    p = np.linspace(0.001, 0.999, 9981)  # sigmoid of the margin
    loss = sum(
        odds[side, level] * (-q * np.log(p if side == 0 else 1 - p) - (1 - q) * np.log(1 - p if side == 0 else p))
        for side in range(2)
        for level, q in enumerate(labels)
    )
    assert p[loss.argmin()] == pytest.approx(mean_label(odds), abs=1e-4)  # the grid's step


def test_expected_verdicts_of_many_pairs():
    """500 pairs from the whole panel in random order; 5 standard errors, of which a label's is below 0.5 / sqrt(n)."""
    found = collect([NEWS] * 500, [[SHORT, WORDY]] * 500, PANEL, seed=8)
    first = np.array([p.chosen == SHORT for p in found])
    labels = np.where(first, *(lambda p: (p, 1 - p))(np.array([SOFT_LABELS[p.level] for p in found])))
    expected = expected_verdict(NEWS, SHORT, WORDY)
    error = 0.5 / np.sqrt(len(found))
    assert expected.probability == pytest.approx(first.mean(), abs=5 * error)
    assert expected.label == pytest.approx(labels.mean(), abs=5 * error)
    other = expected_verdict(NEWS, WORDY, SHORT)
    assert [x + y for x, y in zip(expected, other)] == pytest.approx([1, 1])
    gap = utility(NEWS, SHORT) - utility(NEWS, WORDY)
    plain = expected_verdict(NEWS, SHORT, WORDY, [Annotator(noise=0.3)]).probability
    assert plain == pytest.approx(1 / (1 + np.exp(-gap / 0.3)))


def test_grades():
    assert [grade(q) for q in (0.0, 0.49, 0.5, 0.94, 0.95, 1.0)] == [0, 0, 1, 1, 2, 2]
    careful = judge(RECORD, RIGHT, WRONG, Annotator(noise=1e-3), np.random.default_rng(0))
    assert (careful.chosen_grades, careful.rejected_grades) == ((2, 2, 2, 2), (0, 2, 0, 2))
    rng = np.random.default_rng(3)
    blind = [judge(RECORD, RIGHT, WRONG, Annotator(noise=1e-3, grade_lapse=1), rng).chosen_grades for _ in range(300)]
    counts = np.bincount(np.ravel(blind), minlength=3)
    assert np.all(np.abs(counts - 100 * len(GRADES)) < 5 * np.sqrt(100 * len(GRADES)))


def test_collect_pairs_what_differs():
    records = [RECORD] * 4
    cut = Response("7", RIGHT.tokens[:-1])
    groups = [[RIGHT, WRONG, LONG], [RIGHT] * 3, [RIGHT, cut], [RIGHT, RIGHT, WRONG]]
    found = collect(records, groups, PANEL, seed=5, pairs=9)
    by_pair = [frozenset((p.chosen, p.rejected)) for p in found]
    assert by_pair.count(frozenset((RIGHT, WRONG))) == 1 + 2  # the last group has it twice
    assert len(found) == 3 + 0 + 1 + 2 and all(len(pair) == 2 for pair in by_pair)
    assert found == collect(records, groups, PANEL, seed=5, pairs=9)
    assert found[:3] == collect(records[:1], groups[:1], PANEL, seed=5, pairs=9)
    assert len(collect(records, groups, PANEL, seed=6)) == 3  # one a prompt
    with pytest.raises(ValueError, match="nothing to prefer"):
        judge(RECORD, RIGHT, RIGHT, PANEL[0], np.random.default_rng(0))


def test_qualities_by_hand():
    fields = {"facts": ["Leo", "school play", "Friday"]}
    prompt = "Summarise:\nLeo: the school play is on Friday"
    record = tasks.Record("summarise", prompt, "Leo plans the school play on Friday.", "train", fields)
    cut = sampled(TOK, TOK.encode("Leo plans plans the school play on Monday at the gym."))
    # facts: 2 of 3, 11 words of an allowance of 1.2 * 7; claims: Leo, school play hold, Monday, gym do not
    want = (2 / 3 * 8.4 / 11, 7 / 11, 2 / 4, 1 / 3)
    assert tuple(qualities(record, cut).values()) == pytest.approx(want)
    assert tuple(qualities(record, cut)) == GRADES == tuple(WEIGHTS)
    assert utility(record, cut) == pytest.approx(np.dot((0.6, 0.15, 0.15, 0.1), want))


@pytest.mark.parametrize("task", tasks.TASKS)
def test_references_have_the_highest_utility(task):
    for record in tasks.records(task, 40):
        best = written(TOK, record.reference)
        assert utility(record, best) == pytest.approx(1)
        worse = (
            best._replace(text=best.text + " Anna is at the airport at 3:45"),
            best._replace(tokens=best.tokens[:-1]),
        )
        assert all(utility(record, response) < 0.99 for response in worse)
        assert utility(record, written(TOK, "")) == utility(record, Response("", ())) == 0


def test_a_wrong_sum_is_not_true():
    record = tasks.Record("sums", "3 + 4 =", "7", "train", {})
    assert qualities(record, written(TOK, "3"))["truthfulness"] == 0  # though a 3 stands in the prompt

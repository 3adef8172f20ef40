"""Simulated annotators: their verdicts follow the stated distribution, their biases point where they should."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref.data import tasks
from afm_ref.post_training.preferences import (
    LEVELS,
    PANEL,
    SOFT_LABELS,
    Annotator,
    collect,
    expected_verdict,
    grade,
    judge,
    level_probabilities,
    mean_label,
    seen_difference,
)  # fmt: skip
from afm_ref.post_training.responses import Response, written
from afm_ref.post_training.utility import GRADES, utility
from tests.post_training.models import tokenizer

TOK = tokenizer()
RECORD = tasks.Record("sums", "3 + 4 =", "7", "train", {})
RIGHT, WRONG, LONG = written(TOK, "7"), written(TOK, "8"), written(TOK, "7 I think it is")


@settings(max_examples=50)
@given(d=st.floats(-30, 30), lapse=st.floats(0, 1))
def test_level_probabilities_close(d, lapse):
    odds = level_probabilities(d, lapse)
    assert odds.min() >= 0 and odds.sum() == pytest.approx(1)
    assert odds[0].sum() == pytest.approx((1 - lapse) / (1 + np.exp(-d)) + lapse / 2)
    np.testing.assert_allclose(odds, level_probabilities(-d, lapse)[::-1], atol=1e-12)  # no side is special


def test_verdicts_follow_their_distribution():
    """1200 verdicts: each of the 8 counts within 5 standard deviations (once in 200000 runs, and the seed is fixed).

    The levels are drawn here from noise and thresholds, in the package from the closed form.
    """
    annotator, n = Annotator(noise=0.4, position_bias=0.1, length_bias=0.2), 1200
    gap = utility(RECORD, RIGHT) - utility(RECORD, LONG)
    seen = gap / 0.4 + 0.25 + 0.5 * np.log(2 / 6) + np.random.default_rng(0).logistic(size=n)
    cuts = np.log(np.array([0.9, 0.8, 0.7]) / np.array([0.1, 0.2, 0.3]))
    simulated = [(seen * side > low) & (seen * side <= high) for side in (1, -1)
                 for low, high in zip([*cuts, 0], [np.inf, *cuts])]  # fmt: skip
    rng = np.random.default_rng(1)
    verdicts = [judge(RECORD, RIGHT, LONG, annotator, rng) for _ in range(n)]
    counts = np.array([sum(v.chosen == first and v.level == level for v in verdicts)
                       for first in (RIGHT, LONG) for level in range(4)])  # fmt: skip
    for got in (counts, np.array(simulated).sum(axis=1)):
        want = n * level_probabilities(seen_difference(annotator, gap, 1, 5)).ravel()
        assert np.all(np.abs(got - want) <= 5 * np.sqrt(want))
    assert all(v.gap == (gap if v.chosen == RIGHT else -gap) and v.simulated for v in verdicts)


def test_lapses_are_blind():
    rng = np.random.default_rng(2)
    verdicts = [judge(RECORD, RIGHT, WRONG, Annotator(noise=0.01, lapse=0.4), rng) for _ in range(500)]
    wrong = np.mean([v.chosen == WRONG for v in verdicts])
    assert wrong == pytest.approx(0.2, abs=5 * np.sqrt(0.2 * 0.8 / 500))
    assert {v.level for v in verdicts if v.chosen == WRONG} == set(range(len(LEVELS)))


def test_each_bias_moves_the_choice_its_way():
    plain = seen_difference(Annotator(noise=0.5), 0.2, 3, 3)
    assert plain == pytest.approx(0.4)
    assert seen_difference(Annotator(noise=0.5, position_bias=0.1), 0.2, 3, 3) == pytest.approx(plain + 0.2)
    longer = seen_difference(Annotator(noise=0.5, length_bias=0.1), 0.2, 7, 3)
    assert longer == pytest.approx(plain + 0.2 * np.log(2))
    assert seen_difference(Annotator(noise=0.25), 0.2, 3, 3) == pytest.approx(2 * plain)


@pytest.mark.parametrize("d, lapse", [(0.0, 0.0), (0.7, 0.1), (-3.0, 0.02)])
def test_mean_label_minimises_the_mean_loss(d, lapse):
    """By a search over margins: sigmoid of the best one is the expected label."""
    odds, labels = level_probabilities(d, lapse), np.array(SOFT_LABELS)
    p = np.linspace(0.001, 0.999, 9981)  # sigmoid of the margin
    loss = sum(
        odds[side, level] * (-q * np.log(p if side == 0 else 1 - p) - (1 - q) * np.log(1 - p if side == 0 else p))
        for side in range(2)
        for level, q in enumerate(labels)
    )
    assert p[loss.argmin()] == pytest.approx(mean_label(odds), abs=1e-4)  # the grid's step


def test_expected_verdicts_are_those_of_many_pairs():
    """1000 pairs from the whole panel in random order; 5 standard errors, of which a label's is below 0.5 / sqrt(n)."""
    found = collect([RECORD] * 1000, [[RIGHT, LONG]] * 1000, PANEL, seed=8)
    first = np.array([p.chosen == RIGHT for p in found])
    labels = np.where(first, *(lambda p: (p, 1 - p))(np.array([SOFT_LABELS[p.level] for p in found])))
    expected = expected_verdict(RECORD, RIGHT, LONG)
    error = 0.5 / np.sqrt(len(found))
    assert expected.probability == pytest.approx(first.mean(), abs=5 * error)
    assert expected.label == pytest.approx(labels.mean(), abs=5 * error)
    other = expected_verdict(RECORD, LONG, RIGHT)
    assert [x + y for x, y in zip(expected, other)] == pytest.approx([1, 1])
    gap = utility(RECORD, RIGHT) - utility(RECORD, LONG)
    plain = expected_verdict(RECORD, RIGHT, LONG, [Annotator(noise=0.3)]).probability
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

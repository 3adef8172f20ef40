"""Simulated annotators: their verdicts follow the stated distribution, their biases point where they should."""

from itertools import pairwise

import numpy as np
import pytest

from afm_ref.data import tasks
from afm_ref.post_training import preferences
from afm_ref.post_training.responses import Response, sampled, written
from tests.post_training.models import tokenizer

TOK = tokenizer()
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


def test_expected_verdicts_of_many_pairs():
    """500 pairs from the whole panel in random order; 5 standard errors, of which a label's is below 0.5 / sqrt(n)."""
    found = preferences.collect([NEWS] * 500, [[SHORT, WORDY]] * 500, preferences.PANEL, seed=8)
    first = np.array([p.chosen == SHORT for p in found])
    labels = np.array([preferences.SOFT_LABELS[p.level] for p in found])
    seen = first.mean(), np.where(first, labels, 1 - labels).mean()
    expected = preferences.expected_verdict(NEWS, SHORT, WORDY)
    assert (expected.probability, expected.label) == pytest.approx(seen, abs=5 * 0.5 / np.sqrt(len(found)))
    other = preferences.expected_verdict(NEWS, WORDY, SHORT)
    assert [x + y for x, y in zip(expected, other)] == pytest.approx([1, 1])
    gap = preferences.utility(NEWS, SHORT) - preferences.utility(NEWS, WORDY)
    plain = preferences.expected_verdict(NEWS, SHORT, WORDY, [preferences.Annotator(noise=0.3)]).probability
    assert plain == pytest.approx(1 / (1 + np.exp(-gap / 0.3)))


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
    assert tuple(preferences.qualities(record, cut)) == preferences.GRADES == tuple(preferences.WEIGHTS)
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

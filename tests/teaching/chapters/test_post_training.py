"""Figures of chapters 10 and 11, and the pipeline's: what is drawn is what was given."""

import itertools

import numpy as np
import pytest

from afm_ref.post_training.preferences import PANEL
from afm_ref.teaching.chapters import post_training, whole_road

BASE, SFT = (0.4, 0.35, 0.47), (0.6, 0.5, 0.65)
RNG = np.random.default_rng(7)
REWARDS, JUDGED = RNG.standard_normal((3, 5)), RNG.random((3, 5))


def test_points_and_bars_are_those_given():
    """A shorter run ends early."""
    given = {"reward model": [BASE, SFT], "utility": [BASE, (0.7, 0.6, 0.85)]}
    steps = {judge: dict(zip(("0_base", "1_sft"), rows, strict=True)) for judge, rows in given.items()}
    (of_steps,) = whole_road.utility_by_step(steps).axes
    for (line, _, (segments,)), rows, x in zip(of_steps.containers, given.values(), (-0.1, 0.1), strict=True):
        assert line.get_ydata().tolist() == [row[0] for row in rows]
        np.testing.assert_allclose(line.get_xdata(), x + np.arange(len(rows)))
        np.testing.assert_allclose([s[:, 1] for s in segments.get_segments()], [row[1:] for row in rows])
    assert [text.get_text() for text in of_steps.get_xticklabels()] == ["base", "sft"]
    assert [text.get_text() for text in of_steps.get_legend().get_texts()] == list(steps)


def judged(accuracy, four, sixteen, student):
    """Return a run of "judges" whose start has a utility of .5."""
    best_of = [0.5, 0.5, 0.5, four, *[0.5] * 11, sixteen]
    return {"accuracy": accuracy, "best_of": best_of, "student": {"utility": {"all": student}}}


JUDGES = {
    "picks": {"best_of": [0.5] * 16},
    "utility_0": judged(1.0, 0.7, 0.8, 0.9),
    "utility_1": judged(1.0, 0.7, 0.8, 0.8),
    "80_0": judged(0.6, 0.5, 0.4, 0.6),
    "80_1": judged(0.7, 0.5, 0.2, 0.4),
}


def test_judges_stand_at_their_accuracy_and_gain_over_one_sample():
    assert list(post_training.by_judge(JUDGES)) == ["80", "utility"]
    four, sixteen, student = post_training.worth_of_judges(JUDGES).axes[0].containers
    for bars, gains in ((four, (0, 0.2)), (sixteen, (-0.2, 0.3)), (student, (0, 0.35))):
        np.testing.assert_allclose(bars.lines[0].get_ydata(), gains)
        np.testing.assert_allclose(bars.lines[0].get_xdata(), (0.65, 1), atol=0.004)
    low, high = sixteen.lines[2][0].get_segments()[0][:, 1]  # t at 95%, one degree: 12.71; half the difference is .1
    assert (low, high) == pytest.approx((-0.2 - 12.71 * 0.1, -0.2 + 12.71 * 0.1), abs=1e-3)


def test_three_grades_are_drawn_for_each_task():
    grades = {"sums": dict(instruction_following=[0.1, 0.2], form=[1, 1], truthfulness=[0.3, 0.2], conciseness=[0, 1])}
    (ax,) = post_training.grades_of_the_best(grades | {"tone": grades["sums"]}).axes[:1]
    assert [list(line.get_ydata()) for line in ax.lines] == [[0.1, 0.2], [0.3, 0.2], [0, 1]]


def test_the_committees_lead_is_paired_by_seed():
    def run(*utilities):
        arms = ("committee", *post_training.RIVALS)
        return {"students": {arm: {"utility": {"all": u}} for arm, u in zip(arms, utilities, strict=True)}}

    runs = {"start": {}, "utility_0": run(0.6, 0.5, 0.6, 0.2), "utility_1": run(0.8, 0.5, 0.9, 0.4)}
    runs["reward model_0"] = runs["reward model_1"] = run(0.1, 0.3, 0.2, 0.1)
    found = post_training.committee_leads(runs, "utility")
    assert [of.mean for of in found.values()] == pytest.approx([0.2, -0.05, 0.4])
    assert found["best teacher"].high == pytest.approx(0.2 + 12.71 * 0.1, abs=1e-3)
    assert found["more samples"].high == pytest.approx(0.4)  # the same lead in both seeds
    left, right = post_training.committee_ahead(runs).axes
    assert [bar.lines[0].get_xdata()[0] for bar in left.containers] == pytest.approx([0.2, -0.05, 0.4])
    assert [bar.lines[0].get_xdata()[0] for bar in right.containers] == pytest.approx([-0.2, -0.1, 0])


def points(line):
    return dict(zip(line.get_xdata(), line.get_ydata(), strict=True))


def over_pairs(rewards, judged):
    """Return the mean judged value of the better of two, over all pairs of every prompt."""
    pairs = itertools.product(range(len(rewards)), itertools.combinations(range(rewards.shape[1]), 2))
    return np.mean([judged[p, max(pair, key=lambda i: rewards[p, i])] for p, pair in pairs])


def test_best_of_n_draws_the_means_over_all_pairs():
    left, right = post_training.worth_of_best_of_n(REWARDS, JUDGED, 2).axes
    oracle, _, picked, mark, one = left.lines
    best = points(right.lines[0])
    assert list(best) == [1, 2, 4, 5]
    for curve, of in ((points(picked), JUDGED), (best, REWARDS)):
        assert curve[1] == pytest.approx(of.mean())
        assert curve[2] == pytest.approx(over_pairs(REWARDS, of))
        assert curve[5] == pytest.approx(np.mean(of[np.arange(3), REWARDS.argmax(axis=1)]))
    assert points(oracle)[5] == pytest.approx(JUDGED.max(axis=1).mean())
    assert points(mark) == {2: pytest.approx(over_pairs(REWARDS, JUDGED))}
    assert one.get_ydata()[0] == pytest.approx(JUDGED.mean())
    assert "0.19 nats" in right.get_title()  # log 2 - 1 / 2


def test_noise_in_the_reward_raises_it_and_lowers_what_it_picks():
    """Without noise this reward is the utility; with much of it, it picks nearly at random."""
    utility = np.random.default_rng(0).random((60, 16))
    clean, noisy = (post_training.worth_of_best_of_n(utility, utility, 16, noise).axes for noise in (0.0, 4.0))
    picked, rewards = ([axes[side].lines[2 if side == 0 else 0] for axes in (clean, noisy)] for side in (0, 1))
    assert points(picked[0]) == points(clean[0].lines[0])
    assert points(picked[1])[16] < 0.5 * (points(picked[0])[16] + utility.mean())
    assert points(rewards[1])[16] > points(rewards[0])[16] + 1


def bands(ax):
    """Return {verdict: its height at every gap}."""
    edges = {band.get_label(): band.get_paths()[0].vertices.T for band in ax.collections}
    heights = lambda x, y: np.array([np.ptp(y[np.isclose(x, gap)]) for gap in post_training.GAPS])  # noqa: E731
    return {verdict: heights(x, y) for verdict, (x, y) in edges.items()}


def test_verdicts_are_the_closed_forms():
    gaps = post_training.GAPS
    left, right = post_training.verdicts(noise=0.1, lapse=0.2).axes
    found = bands(left)
    assert len(found) == 8
    np.testing.assert_allclose(sum(found.values()), 1)
    np.testing.assert_allclose(found["second negligibly, 0.65"], found["first negligibly, 0.65"][::-1], atol=1e-12)
    at = 0.025 + 0.8 / (1 + np.exp(-(gaps - 0.3) / 0.1))  # a lapse takes each of the eight as often
    np.testing.assert_allclose(found["first significantly, 0.95"], at, atol=1e-12)
    preferred, label = (line.get_ydata() for line in right.lines[:2])
    choice = 0.1 + 0.8 / (1 + np.exp(-gaps / 0.1))
    np.testing.assert_allclose(preferred, choice)
    worth = {name: abs(name.startswith("second") - float(name[-4:])) for name in found}
    np.testing.assert_allclose(label, sum(worth[name] * height for name, height in found.items()))
    agree = np.maximum(choice, 1 - choice)[gaps != 0].mean()
    assert f"on {100 * agree:.0f}%" in right.get_title()


def test_biases_shift_the_curves():
    """By log 2 times the length bias, the first response being twice as long, and by the position bias."""
    right = post_training.verdicts(noise=0.1, length_bias=0.1, position_bias=0.05).axes[1]
    shifted = post_training.GAPS + 0.1 * np.log(2) + 0.05
    np.testing.assert_allclose(right.lines[0].get_ydata(), 1 / (1 + np.exp(-shifted / 0.1)))


def test_the_widgets_redraw(explored):
    post_training.best_of_n_explorer(REWARDS, JUDGED, "alt")
    post_training.annotator_explorer("alt", PANEL[2])
    wanted = dict(n=4, noise=0.0), dict(noise=0.2, length_bias=0.02, position_bias=0.05, lapse=0.08)
    other = dict(n=5, noise=4.0), dict(noise=0.02, length_bias=0.2, position_bias=0.2, lapse=0.4)
    for (draw, _, controls), start, ends in zip(explored, wanted, other, strict=True):
        assert {name: control.value for name, control in controls.items()} == start
        before, after = (draw(**values).axes[1].lines[0].get_ydata() for values in (start, ends))
        assert not np.array_equal(before, after)

"""Figures of chapters 10 and 11, and the pipeline's: what is drawn is what was given."""

import itertools

import numpy as np
import pytest

from afm_ref.post_training.preferences import PANEL
from afm_ref.post_training.reward_model import Calibration, calibration
from afm_ref.teaching.chapters import post_training, whole_road

ROUNDS = {"committee": [(0.6, 0.55, 0.66)], "best teacher": [(0.55, 0.5, 0.6), (0.6, 0.5, 0.7)]}
BASE, SFT = (0.4, 0.35, 0.47), (0.6, 0.5, 0.65)
RNG = np.random.default_rng(7)
REWARDS, JUDGED = RNG.standard_normal((3, 5)), RNG.random((3, 5))


def test_points_and_bars_are_those_given():
    """A shorter run ends early."""
    given = {"reward model": [BASE, SFT], "utility": [BASE, (0.7, 0.6, 0.85)]}
    steps = {judge: dict(zip(("0_base", "1_sft"), rows, strict=True)) for judge, rows in given.items()}
    of_rounds, of_steps = post_training.win_rates(ROUNDS).axes + whole_road.utility_by_step(steps).axes
    for ax, curves, places in ((of_rounds, ROUNDS, (0.88, 1.12)), (of_steps, given, (-0.1, 0.1))):
        for (line, _, (segments,)), rows, x in zip(ax.containers, curves.values(), places, strict=True):
            assert line.get_ydata().tolist() == [row[0] for row in rows]
            np.testing.assert_allclose(line.get_xdata(), x + np.arange(len(rows)))
            np.testing.assert_allclose([s[:, 1] for s in segments.get_segments()], [row[1:] for row in rows])
    assert [text.get_text() for text in of_steps.get_xticklabels()] == ["base", "sft"]
    assert [text.get_text() for text in of_steps.get_legend().get_texts()] == list(steps)


def test_shares_fill_their_bars():
    shares = {"sums": {"dpo": 0.75, "sft": 0.25}, "tone": {"dpo": 0.04, "rs": 0.96}}
    (ax,) = post_training.who_teaches(shares).axes
    bars = {c.get_label(): [(b.get_x(), b.get_width()) for b in c] for c in ax.containers}
    assert bars["dpo"] == [(0, 0.75), (0, 0.04)] and bars["sft"][0] == (0.75, 0.25)
    assert bars["rs"][1] == pytest.approx((0.04, 0.96))
    assert [text.get_text() for text in ax.texts] == ["75", "", "25", "", "", "96"]  # 4% is too narrow for a number


def test_reliability_shows_bins_and_error():
    soft = calibration(np.array([0.1, 0.12, 0.9]), np.array([0, 1, 1]))
    hard = Calibration(np.array([0.5]), np.array([0.25]), np.array([7]))
    dots = post_training.reliability({"soft": soft, "hard": hard}).axes[0].collections
    np.testing.assert_allclose(dots[0].get_offsets(), [(0.11, 0.5), (0.9, 1.0)])
    np.testing.assert_allclose(dots[1].get_offsets(), [(0.5, 0.25)])
    assert dots[0].get_sizes()[0] > dots[0].get_sizes()[1]
    assert [dot.get_label() for dot in dots] == ["soft: off by 0.293", "hard: off by 0.250"]  # (2 * 0.39 + 0.1) / 3


def test_the_path_of_best_of_n():
    """The second of two rewards is the higher; the highest of four belongs to the worst sample."""
    rewards, judged = np.array([[0.0, 1, 2, 9], [0, 1, 2, 9]]), np.array([[0.2, 0.5, 0.8, 0], [0.4, 0.7, 1, 0]])
    bins, best, peak = post_training.reward_against_utility(rewards, judged, bins=4).axes[0].lines
    np.testing.assert_allclose(bins.get_data(), [[0, 1, 2, 9], [0.3, 0.6, 0.9, 0]])
    of_two = [np.mean([1, 2, 9, 2, 9, 9]), np.mean([0.6, 0.9, 0, 0.9, 0, 0])]  # all pairs
    np.testing.assert_allclose(best.get_data(), np.array([[3, 0.45], of_two, [9, 0]]).T)
    assert peak.get_label() == "highest utility, n = 1" and peak.get_ydata()[0] == pytest.approx(0.45)


def test_margins_stand_beside_their_optimum():
    margins = np.concatenate([np.arange(11), np.arange(11) / 10])
    (ax,) = post_training.margins_by_level({"soft": (margins, np.repeat([0, 3], 11))}).axes
    (lines, *_), ((dots, _, (bars,)),) = ax.collections, ax.containers
    np.testing.assert_allclose([s[0, 1] for s in lines.get_segments()], [2.94, 1.73, 1.10, 0.62], atol=0.006)
    assert dots.get_xdata().tolist() == [0, 3] and dots.get_ydata().tolist() == [5, 0.5]
    np.testing.assert_allclose([s[:, 1] for s in bars.get_segments()], [[1, 9], [0.1, 0.9]])  # the middle 80%


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

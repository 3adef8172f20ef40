"""Chapter 7's figures: what is drawn is what was given, and what makes no sense is refused."""

import numpy as np
import pytest

from afm_ref.post_training.reward_model import Calibration, calibration
from afm_ref.teaching import figures, post_training_figures


def small_enough(fig):
    return 2000 < len(figures.png(fig)) < figures.MAX_BYTES


def test_win_rates_stand_at_their_rounds():
    rates = {"committee": [(0.6, 0.55, 0.66), (0.7, 0.6, 0.75)], "best teacher": [(0.55, 0.5, 0.6), (0.6, 0.5, 0.7)]}
    fig = post_training_figures.win_rates(rates)
    for bars, rows, x in zip(fig.axes[0].containers, rates.values(), (0.88, 1.12), strict=True):
        line, _, (segments,) = bars
        assert line.get_ydata().tolist() == [row[0] for row in rows]
        np.testing.assert_allclose(line.get_xdata(), [x, x + 1])
        np.testing.assert_allclose([s[:, 1] for s in segments.get_segments()], [row[1:] for row in rows])
    assert small_enough(fig)
    with pytest.raises(ValueError, match="equally many rounds"):
        post_training_figures.win_rates(rates | {"sft": rates["committee"][:1]})


def test_shares_fill_their_bars():
    shares = {"sums": {"dpo": 0.75, "sft": 0.25}, "tone": {"dpo": 0.04, "rs": 0.96}}
    fig = post_training_figures.who_teaches(shares)
    bars = {c.get_label(): [(b.get_x(), b.get_width()) for b in c] for c in fig.axes[0].containers}
    assert bars["dpo"] == [(0, 0.75), (0, 0.04)] and bars["sft"][0] == (0.75, 0.25)
    assert bars["rs"][1] == pytest.approx((0.04, 0.96))
    assert [text.get_text() for text in fig.axes[0].texts] == ["75", "25", "96"]  # 4% is too narrow for a number
    assert small_enough(fig)
    for bad in ({"sums": {"dpo": 0.5}}, {"sums": {"dpo": 1.5, "sft": -0.5}}, {}):
        with pytest.raises(ValueError, match="add up to 1"):
            post_training_figures.who_teaches(bad)


def test_reliability_shows_bins_and_error():
    soft = calibration(np.array([0.1, 0.12, 0.9]), np.array([0, 1, 1]))
    hard = Calibration(np.array([0.5]), np.array([0.25]), np.array([7]))
    fig = post_training_figures.reliability({"soft": soft, "hard": hard})
    dots = fig.axes[0].collections
    np.testing.assert_allclose(dots[0].get_offsets(), [(0.11, 0.5), (0.9, 1.0)])
    np.testing.assert_allclose(dots[1].get_offsets(), [(0.5, 0.25)])
    assert dots[0].get_sizes()[0] > dots[0].get_sizes()[1]
    assert [dot.get_label() for dot in dots] == ["soft: off by 0.293", "hard: off by 0.250"]  # (2 * 0.39 + 0.1) / 3
    assert small_enough(fig)
    with pytest.raises(ValueError, match="no calibration"):
        post_training_figures.reliability({})


def test_the_path_of_best_of_n():
    """The second of two rewards is the higher; the highest of four belongs to the worst sample."""
    rewards, judged = np.array([[0.0, 1, 2, 9], [0, 1, 2, 9]]), np.array([[0.2, 0.5, 0.8, 0], [0.4, 0.7, 1, 0]])
    fig = post_training_figures.reward_against_utility(rewards, judged, bins=4)
    bins, best, peak = fig.axes[0].lines
    np.testing.assert_allclose(bins.get_data(), [[0, 1, 2, 9], [0.3, 0.6, 0.9, 0]])
    of_two = [np.mean([1, 2, 9, 2, 9, 9]), np.mean([0.6, 0.9, 0, 0.9, 0, 0])]  # all pairs
    np.testing.assert_allclose(best.get_data(), np.array([[3, 0.45], of_two, [9, 0]]).T)
    assert peak.get_label() == "highest utility, n = 1" and peak.get_ydata()[0] == pytest.approx(0.45)
    assert small_enough(fig)
    with pytest.raises(ValueError, match="of one shape"):
        post_training_figures.reward_against_utility(rewards, judged[:, :2])


def test_margins_stand_beside_their_optimum():
    levels = np.repeat([0, 3], 11)
    margins = np.concatenate([np.arange(11), np.arange(11) / 10])
    fig = post_training_figures.margins_by_level({"soft": (margins, levels)})
    (lines, *_), ((dots, _, (bars,)),) = fig.axes[0].collections, fig.axes[0].containers
    np.testing.assert_allclose([s[0, 1] for s in lines.get_segments()], [2.94, 1.73, 1.10, 0.62], atol=0.006)
    assert dots.get_xdata().tolist() == [0, 3] and dots.get_ydata().tolist() == [5, 0.5]
    np.testing.assert_allclose([s[:, 1] for s in bars.get_segments()], [[1, 9], [0.1, 0.9]])  # the middle 80%
    assert small_enough(fig)
    with pytest.raises(ValueError, match="no margins"):
        post_training_figures.margins_by_level({})


def test_more_curves_than_colours_are_refused():
    with pytest.raises(ValueError, match="at most 8"):
        post_training_figures.win_rates({str(i): [(0.5, 0.4, 0.6)] for i in range(9)})

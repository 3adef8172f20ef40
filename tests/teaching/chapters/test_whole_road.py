"""Figures of the first chapter: guesses, prices, one step, scores. What is drawn is what was given."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import colors

from afm_ref.teaching import figures
from afm_ref.teaching.chapters import whole_road


def widths(ax):
    return [bar.get_width() for bar in ax.patches]


def names(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def test_the_likeliest_stand_on_top():
    words = SimpleNamespace(decode=lambda ids: "abcd"[ids[0]])
    (ax,) = whole_road.likeliest(np.array([0.1, 0.6, 0.0, 0.3]), words, n=3).axes
    assert names(ax) == ["'a'", "'d'", "'b'"] and widths(ax) == pytest.approx([10, 30, 60])


def test_each_price_is_a_bar_and_the_loss_their_mean():
    (ax,) = whole_road.prices([" a", "$b"], [1.0, 3.0]).axes
    assert [bar.get_height() for bar in ax.patches] == [1.0, 3.0]
    assert list(ax.lines[0].get_ydata()) == [2.0, 2.0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["' a'", "'$b'"]


def test_a_step_on_a_parabola_follows_its_slope_at_first():
    """x^2 / 2 from x = 2: slope 2, squared 4; a step of length 1 lands in the minimum, one of 2 where it began."""
    (ax,) = whole_road.downhill(lambda length: (2 - 2 * length) ** 2 / 2, 2.0, 4.0, longest=2.0).axes
    landed, slope, _ = ax.lines
    np.testing.assert_allclose(landed.get_ydata(), (2 - 2 * landed.get_xdata()) ** 2 / 2)
    assert landed.get_xdata()[[0, -1]] == pytest.approx([0, 2]) and landed.get_ydata()[-1] == pytest.approx(2)
    (x0, x1), (y0, y1) = slope.get_data()
    assert (y1 - y0) / (x1 - x0) == pytest.approx(-4) and (x0, y0) == (0, 2)


def test_the_best_score_is_on_top_and_kinds_have_colours():
    (ax,) = whole_road.scores({"knows nothing": 4.0, "xz": 2.0, "a model": 3.0}, "model", "xz").axes
    assert names(ax) == ["xz", "a model", "knows nothing"] and widths(ax) == [2.0, 3.0, 4.0]
    faces = [colors.to_hex(bar.get_facecolor()).upper() for bar in ax.patches]
    assert faces == [figures.ORANGE, figures.BLUE, figures.GREY]


def test_changes_are_paired_by_seed():
    """By hand: .2 and .4 in two seeds; t of one degree of freedom is 12.706, half the difference .1."""

    def run(sft, end):
        return {"steps": {"1_sft": {"utility": {"all": sft}}, "4_mdloo": {"utility": {"all": end}}}}

    runs = {"utility_1": run(0.5, 0.9), "prompts": {}, "utility_0": run(0.1, 0.3), "reward model_0": run(0, 1)}
    assert whole_road.utilities(runs, "utility", "4_mdloo").tolist() == [0.3, 0.9]
    found = whole_road.change(runs, "utility", "4_mdloo", "1_sft")
    assert found == pytest.approx((0.3, 0.3 - 1.2706, 0.3 + 1.2706), abs=1e-4)

"""Figures of per-document curation: what is drawn is what was given."""

import pytest

from afm_ref.teaching import figures, quality_figures

SCORES = {"reference": [0.9, 0.8, 0.4], "spam": [0.1, 0.6], "tables": [0.3, 0.2]}
GOOD = ("reference",)


def small_enough(fig):
    return 2000 < len(figures.png(fig)) < figures.MAX_BYTES


def test_each_text_is_a_dot_at_its_score():
    fig = quality_figures.scores_by_kind(SCORES, GOOD)
    (ax,) = fig.axes
    assert [line.get_xdata().tolist() for line in ax.lines[:3]] == list(SCORES.values())
    assert [line.get_color() for line in ax.lines[:3]] == [figures.BLUE, figures.ORANGE, figures.ORANGE]
    assert [text.get_text() for text in ax.texts] == ["67% kept", "50% dropped", "100% dropped"]
    assert ax.lines[3].get_xdata() == [0.5, 0.5] and small_enough(fig)


def test_bars_are_means():
    measured = {"plain, main content": [0.9, 1.0], "plain, all text": [0.5, 0.7]}
    fig = quality_figures.extraction(measured)
    (ax,) = fig.axes
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([0.95, 0.6]) and small_enough(fig)
    assert ax.lines[0].get_ydata().tolist() == [0.9, 1.0]
    with pytest.raises(ValueError, match="plain, all text"):
        quality_figures.extraction({"plain, main content": [1.0]})


@pytest.mark.parametrize("scores", [{"reference": [0.5]}, {"spam": [0.5]}, {"reference": [], "spam": [0.5]}])
def test_both_sides_are_asked_for(scores):
    for draw in (quality_figures.scores_by_kind,):
        with pytest.raises(ValueError, match="good kinds"):
            draw(scores, GOOD)

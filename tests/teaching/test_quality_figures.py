"""Figures of per-document curation: what is drawn is what was given."""

import numpy as np
import pytest

from afm_ref.data.curation import quality
from afm_ref.teaching import figures, quality_figures

SCORES = {"reference": [0.9, 0.8, 0.4], "spam": [0.1, 0.6], "tables": [0.3, 0.2]}
GOOD = ("reference",)


def small_enough(fig):
    return 2000 < len(figures.png(fig)) < figures.MAX_BYTES


def test_lines_are_the_roc_of_each_kind():
    fig = quality_figures.roc(SCORES, GOOD)
    (ax,) = fig.axes
    spam, spam_mark, tables, tables_mark = ax.lines
    np.testing.assert_allclose(spam.get_ydata(), [0, 1 / 3, 2 / 3, 2 / 3, 1, 1])  # 0.9, 0.8 | 0.6 | 0.4 | 0.1
    np.testing.assert_allclose(spam.get_xdata(), [0.25, 0.25, 0.25, 0.5, 0.5, 1])  # 0 stands at half of a text
    assert spam.get_label() == "spam (0.833)" and tables.get_label() == "tables (1.000)"
    assert spam_mark.get_xdata()[0] == 0.5 and tables_mark.get_xdata()[0] == 0.25
    assert spam_mark.get_ydata()[0] == pytest.approx(2 / 3) and small_enough(fig)
    assert quality.area([0.9, 0.8, 0.4, 0.1, 0.6], [1, 1, 1, 0, 0]) == pytest.approx(5 / 6)


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
    for draw in (quality_figures.roc, quality_figures.scores_by_kind):
        with pytest.raises(ValueError, match="good kinds"):
            draw(scores, GOOD)

"""Chapter 2's figures of curation draw what the report and the closed forms say."""

import numpy as np
import pytest

from afm_ref.curation import near_duplicates
from afm_ref.curation.report import Report
from afm_ref.teaching import figures
from afm_ref.teaching.chapters import data


def report():
    found = Report()
    for size in (1000, 2000, 4000):
        found.measure("read", size)
        found.passes("extraction", size, size // 2)
    found.passes("near-duplicates", 500, "near-duplicate")
    found.passes("near-duplicates", 1000, 1000)
    found.passes("near-duplicates", 2000, 2000)
    found.passes("heuristics", 1000, "too short")
    found.passes("heuristics", 2000, 2000)
    found.leave("web", 2000)
    return found


def test_the_funnel_is_the_reports():
    fig = data.funnel(report())
    (ax,) = fig.axes
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], [7, 3.5, 3, 2])
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "read", "extraction", "near-duplicates", "heuristics"
    ]  # fmt: skip
    assert "kB" in ax.get_xlabel() and [t.get_text().strip() for t in ax.texts][-1] == "1 documents"
    with pytest.raises(ValueError, match="no steps"):
        data.funnel(Report())


def test_drops_are_in_order():
    found = report()
    for _ in range(3):
        found.passes("heuristics", 1, "too short")
    (ax,) = data.drops(found).axes
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["heuristics: too short", "near-duplicates: near-duplicate"]
    assert [bar.get_width() for bar in ax.patches] == [4, 1]


def test_lengths_are_counted_by_powers_of_two():
    (ax,) = data.lengths(report()).axes
    places = {(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in ax.patches}
    assert places == {(10, 1), (11, 1), (12, 1)}  # 1000, 2000 and 4000; the one left is on top of 2000


def test_the_s_curve_is_the_closed_form():
    bins = [{"jaccard": 0.5, "candidates": [0.2, 0.1, 0.3], "removed": [0.0, 0.0, 0.1]}]
    fig = data.s_curve(16, 8, 128, 0.75, bins)
    s, curve = fig.axes[0].lines[0].get_data()
    np.testing.assert_allclose(curve, 1 - (1 - s**8) ** 16, atol=1e-12)
    np.testing.assert_allclose(fig.axes[0].lines[1].get_ydata(), near_duplicates.removal_probability(s, 16, 8, 128, 97))
    assert "97 of 128" in fig.axes[0].lines[1].get_label()
    with pytest.raises(ValueError, match="do not fit into 128"):
        data.s_curve(17, 8)


def test_the_explorer_has_controls(monkeypatch):
    asked = {}
    monkeypatch.setattr("afm_ref.teaching.widgets.explore", lambda draw, alt, **c: asked.update(c, draw=draw, alt=alt))
    data.s_curve_explorer("an S-curve")
    assert (asked["bands"].value, asked["rows"].value) == (16, 8)
    assert asked["draw"](8, 16).axes[0].lines and asked["alt"] == "an S-curve"
    with pytest.raises(ValueError, match="do not fit"):
        asked["draw"](128, 32)


SCORES = {"reference": [0.9, 0.8, 0.4], "spam": [0.1, 0.6], "tables": [0.3, 0.2]}
GOOD = ("reference",)


def test_each_text_is_a_dot_at_its_score():
    fig = data.scores_by_kind(SCORES, GOOD)
    (ax,) = fig.axes
    assert [line.get_xdata().tolist() for line in ax.lines[:3]] == list(SCORES.values())
    assert [line.get_color() for line in ax.lines[:3]] == [figures.BLUE, figures.ORANGE, figures.ORANGE]
    assert [text.get_text() for text in ax.texts] == ["67% kept", "50% dropped", "100% dropped"]
    assert ax.lines[3].get_xdata() == [0.5, 0.5]


def test_bars_are_means():
    measured = {"plain, main content": [0.9, 1.0], "plain, all text": [0.5, 0.7]}
    fig = data.precision_by_style(measured)
    (ax,) = fig.axes
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([0.95, 0.6])
    assert ax.lines[0].get_ydata().tolist() == [0.9, 1.0]

"""Chapter 2's figures of curation draw what the report and the closed forms say."""

import numpy as np
import pytest

from afm_ref.curation import near_duplicates
from afm_ref.curation.report import Report
from afm_ref.teaching import figures
from afm_ref.teaching.chapters import data


def report():
    found = Report()
    for size, after, kept in ((1000, "near-duplicate", None), (2000, 1000, "too short"), (4000, 2000, 2000)):
        found.measure("read", size)
        found.passes("extraction", size, size // 2)
        found.passes("near-duplicates", size // 2, after)
        if kept:
            found.passes("heuristics", after, kept)
    found.leave("web", 2000)
    return found


def test_the_funnel_is_the_reports():
    (ax,) = data.funnel(report()).axes
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], [7, 3.5, 3, 2])
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["read", "extraction", "near-duplicates", "heuristics"]
    assert "kB" in ax.get_xlabel() and [t.get_text().strip() for t in ax.texts][-1] == "1 documents"


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
    closed, counted, *_ = data.s_curve(16, 8, 128, 0.75, bins).axes[0].lines
    s, curve = closed.get_data()
    np.testing.assert_allclose(curve, 1 - (1 - s**8) ** 16, atol=1e-12)
    np.testing.assert_allclose(counted.get_ydata(), near_duplicates.removal_probability(s, 16, 8, 128, 97))
    assert "97 of 128" in counted.get_label()
    assert len(data.s_curve(9, 13).axes[0].lines) == 1


def test_the_explorer_has_controls(explored):
    data.s_curve_explorer("an S-curve", permutations=64)
    ((draw, alt, controls),) = explored
    assert {name: control.value for name, control in controls.items()} == {"bands": 16, "rows": 8}
    assert draw(8, 8).axes[0].lines and alt == "an S-curve"
    with pytest.raises(ValueError, match="do not fit into 64"):
        draw(8, 16)


def test_each_text_is_a_dot_at_its_score():
    scores = {"reference": [0.9, 0.8, 0.4], "spam": [0.1, 0.6], "tables": [0.3, 0.2]}
    (ax,) = data.scores_by_kind(scores, ("reference",)).axes
    assert [line.get_xdata().tolist() for line in ax.lines[:3]] == list(scores.values())
    assert [line.get_color() for line in ax.lines[:3]] == [figures.BLUE, figures.ORANGE, figures.ORANGE]
    assert [text.get_text() for text in ax.texts] == ["67% kept", "50% dropped", "100% dropped"]
    assert ax.lines[3].get_xdata() == [0.5, 0.5]


def test_bars_are_means():
    (ax,) = data.precision_by_style({"plain, main content": [0.9, 1.0], "plain, all text": [0.5, 0.7]}).axes
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([0.95, 0.6])
    assert ax.lines[0].get_ydata().tolist() == [0.9, 1.0]

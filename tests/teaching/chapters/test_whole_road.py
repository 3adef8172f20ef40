"""The pipeline's figure: what is drawn is what was given, and what makes no sense is refused."""

import numpy as np
import pytest

from afm_ref.teaching.chapters import whole_road

MEANS = {
    "reward model": {"0_base": (0.4, 0.35, 0.47), "1_sft": (0.6, 0.5, 0.65)},
    "utility": {"0_base": (0.4, 0.35, 0.47), "1_sft": (0.7, 0.6, 0.85)},
}


def test_points_and_bars_are_those_given():
    fig = whole_road.utility_by_step(MEANS)
    (ax,) = fig.axes
    for bars, rows, shift in zip(ax.containers, MEANS.values(), (-0.1, 0.1), strict=True):
        line, _, (segments,) = bars
        assert line.get_ydata().tolist() == [mean for mean, _, _ in rows.values()]
        np.testing.assert_allclose(line.get_xdata(), [shift, 1 + shift])
        np.testing.assert_allclose([s[:, 1] for s in segments.get_segments()], [row[1:] for row in rows.values()])
    assert [text.get_text() for text in ax.get_xticklabels()] == ["base", "sft"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(MEANS)


def test_steps_that_differ_are_refused():
    with pytest.raises(ValueError, match="the same steps for each judge"):
        whole_road.utility_by_step(MEANS | {"utility": {"0_base": (0.4, 0.35, 0.47)}})

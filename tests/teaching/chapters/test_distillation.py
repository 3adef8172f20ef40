"""Pruning's figures and control: what is drawn is what was computed."""

import numpy as np
import pytest

from afm_ref.evaluation import mean_interval
from afm_ref.pretraining.pruning.top_k import soft_top_k, solve
from afm_ref.teaching.chapters import distillation


def test_masks_are_those_of_the_scores():
    scores = np.random.default_rng(0).normal(size=30)
    lines = distillation.masks_by_rank(scores, 10, (0.05, 1.0)).axes[0].lines[1:]
    for line, eps in zip(lines, (0.05, 1.0), strict=True):
        np.testing.assert_allclose(line.get_ydata(), np.sort(soft_top_k(scores, 10, eps))[::-1])
    assert [line.get_label() for line in lines] == ["eps = 0.05", "eps = 1"]


def curve(*values):
    return {"steps": [0, 10, 20], "all": list(values), "accuracy": list(np.divide(values, 10))}


def test_arms_are_means_with_intervals():
    runs = [curve(9.0, 4.0, 3.0), curve(9.0, 4.2, 3.4)]
    (ax,) = distillation.arms({"scratch": runs, "pruned": runs[:1]}, {"parent": 2.5}).axes
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [9.0, 4.1, 3.2])
    assert [line.get_label() for line in ax.lines] == ["from scratch", "pruned start", "parent"]
    (band,) = ax.collections  # one seed alone has no band
    ends = band.get_paths()[0].vertices
    ends = ends[ends[:, 0] == 20][:, 1]
    np.testing.assert_allclose([ends.min(), ends.max()], mean_interval([3.0, 3.4])[1:])
    assert ax.get_ylim()[0] < 2.5 and ax.get_ylim()[1] < 9
    (line,) = distillation.arms({"scratch": runs[:1]}, measure="accuracy").axes[0].lines
    np.testing.assert_allclose(line.get_ydata(), [0.9, 0.4, 0.3])


def test_differences_show_seeds_and_intervals():
    values = [-0.1, -0.3, -0.2]
    (ax,) = distillation.paired({"a - b": values, "c - d": [0.0, 0.1, 0.2]}).axes
    ((means, _, (bars,)),) = ax.containers
    np.testing.assert_allclose(bars.get_segments()[0][:, 0], mean_interval(values)[1:])
    seeds = next(line for line in ax.lines if line.get_marker() == "|")
    assert list(seeds.get_xdata()) == values and means.get_xdata()[0] == pytest.approx(-0.2)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a - b", "c - d"]


def test_the_widget_draws_the_solution():
    left, right = distillation.soft_weights(0.3, 4).axes
    np.testing.assert_allclose([bar.get_height() for bar in right.patches], soft_top_k(distillation.SCORES, 4, 0.3))
    clipped, a = solve(distillation.SCORES, 4, 0.3)
    assert left.get_title().startswith(f"{clipped.sum()} clipped") and left.lines[0].get_ydata()[0] == -a
    assert "sum 4.00" in right.get_title()

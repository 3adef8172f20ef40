"""Chapter 5's pictures: what they compute, what they refuse."""

import numpy as np
import pytest

from afm_ref.teaching import figures
from afm_ref.teaching.chapters import lora


def test_errors_are_those_of_the_matrices_themselves():
    change = np.random.default_rng(0).standard_normal((6, 9))
    u, s, vt = np.linalg.svd(change, full_matrices=False)
    errors = lora.relative_errors(s)
    for rank in range(7):
        left = change - (u[:, :rank] * s[:rank]) @ vt[:rank]
        assert errors[rank] == pytest.approx(np.linalg.norm(left) / np.linalg.norm(change), abs=1e-7)


def test_pictures_are_drawn_small_enough():
    change = np.random.default_rng(0).standard_normal((576, 192))
    for fig in (
        lora.low_rank_sum(576, 192, 16),
        lora.adapters_over_base(["a", "b", "c"], 1),
        lora.cut_to_rank(change, 7),
    ):
        assert 2000 < len(figures.png(fig)) < figures.MAX_BYTES


def test_the_widget_redraws(monkeypatch):
    shown = []
    monkeypatch.setattr(
        "afm_ref.teaching.widgets.explore", lambda draw, alt, **controls: shown.append((draw, controls))
    )
    changes = {"wq": np.eye(4), "wk": np.ones((3, 4))}
    lora.explore_rank(changes, "wq", 2)
    draw, controls = shown[0]
    assert controls["rank"].max == 3 and controls["matrix"].value == "wq"
    assert figures.png(draw("wq", 2)) != figures.png(draw("wq", 3))


def test_impossible_pictures_are_refused():
    with pytest.raises(ValueError, match=r"rank must be 0..4"):
        lora.cut_to_rank(np.eye(4), 5)
    with pytest.raises(ValueError, match=r"rank must be 1..4"):
        lora.low_rank_sum(4, 9, 5)
    with pytest.raises(ValueError, match=r"active must be 0..1"):
        lora.adapters_over_base(["a", "b"], 2)

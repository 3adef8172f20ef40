"""Chapter 5's pictures: what they compute."""

import numpy as np
import pytest

from afm_ref.teaching.chapters import lora


def test_errors_are_those_of_the_matrices_themselves():
    change = np.random.default_rng(0).standard_normal((6, 9))
    u, s, vt = np.linalg.svd(change, full_matrices=False)
    errors = lora.relative_errors(s)
    for rank in range(7):
        left = change - (u[:, :rank] * s[:rank]) @ vt[:rank]
        assert errors[rank] == pytest.approx(np.linalg.norm(left) / np.linalg.norm(change), abs=1e-7)


def test_matrices_are_drawn_to_scale():
    frozen, b, a = (patch.get_bbox().size for patch in lora.low_rank_sum(576, 192, 16).axes[0].patches)
    np.testing.assert_allclose([frozen[0] / frozen[1], b[0] / b[1], a[1] / a[0]], [192 / 576, 0.12 / 4, 0.12 / (4 / 3)])


def test_the_active_adapter_lies_beside_its_layers():
    ax = lora.adapters_over_base(["a", "b"], 1, n_layers=3).axes[0]
    assert [text.get_text() for text in ax.texts].count("BA") == 3
    weights = {text.get_text(): text.get_fontweight() for text in ax.texts}
    assert (weights["a"], weights["b"]) == ("normal", "bold")


def test_the_widget_redraws(explored):
    lora.explore_rank({"wq": np.eye(4), "wk": np.ones((3, 4))}, "wq", 2)
    ((draw, _, controls),) = explored
    assert controls["rank"].max == 3 and controls["matrix"].value == "wq"
    assert [draw("wq", rank).axes[3].get_title() for rank in (2, 4)] == ["71%", "0%"]  # sqrt(2 / 4)

"""Pictures of chapters 8 and 9: what they compute, and that they show what the allocation and the palettes are."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from afm_ref.config import AFM_TINY
from afm_ref.quantization import allocate, palettize, weight_counts
from afm_ref.teaching.chapters import lora, quantization

WEIGHTS = weight_counts(AFM_TINY)
COSTS = {key: {2: 0.01 * (1 + i % 5), 4: 0.0004 * (1 + i % 3)} for i, key in enumerate(WEIGHTS)}
NAMES = ("wq", "wk", "wv", "wo", "w_gate", "w_up", "w_down")


def cells(ax):
    """Return {(matrix, layer): text} of the map."""
    found = [(text.get_position(), text.get_text()) for text in ax.texts]
    return {(NAMES[x], y): int(text) for (x, y), text in found}


def test_talaria_shows_the_allocation():
    bits = allocate(COSTS, WEIGHTS, 3.5)
    left, right = quantization.talaria(COSTS, AFM_TINY, 3.5, gigabytes_per_s=20).axes
    assert cells(left) == bits and set(bits.values()) == {2, 4}
    average = sum(WEIGHTS[key] * b for key, b in bits.items()) / sum(WEIGHTS.values())
    read = average * 4 * 430_080 / 8 + 2048 * 192 + (4 * (2 * 192 + 2 * 32) + 192) * 2  # codes, embedding, gains
    title = left.get_title(loc="left")
    assert f"{average:.2f} bits a weight, {read / 1e6:.2f} MB" in title
    assert f"{1e3 * read / 20e9:.3g} ms a token at 20 GB/s" in title
    loss = sum(COSTS[key][b] for key, b in bits.items())
    line, chosen = right.lines
    assert (chosen.get_xdata()[0], chosen.get_ydata()[0]) == pytest.approx((average, loss))
    assert line.get_xdata()[0] == 2 and line.get_xdata()[-1] == 4 and (np.diff(line.get_ydata()) <= 0).all()
    assert not [patch for patch in left.patches if isinstance(patch, Rectangle)]


def test_a_matrix_set_by_hand_is_kept_and_framed():
    free = allocate(COSTS, WEIGHTS, 3.0)
    key = next(key for key, b in free.items() if b == 2)
    left, right = quantization.talaria(COSTS, AFM_TINY, 3.0, fixed={key: 4}).axes
    assert cells(left)[key] == 4 and cells(left) != free
    (frame,) = left.patches
    assert (frame.get_x() + 0.44, frame.get_y() + 0.44) == pytest.approx((NAMES.index(key[0]), key[1]))
    assert right.lines[1].get_ydata()[0] > sum(COSTS[k][b] for k, b in free.items())


def test_the_palette_figure_shows_the_table_and_the_error():
    w = np.random.default_rng(0).standard_normal((40, 64)).astype(np.float32)
    left, right = quantization.table_and_error(w, 3, 16).axes
    dense = palettize(w, 3, 16).dense()
    assert sum(bar.get_height() for bar in left.patches) == 16 * 64
    entries = sorted(segment[0][0] for segment in left.collections[0].get_segments())
    np.testing.assert_allclose(entries, np.unique(dense[:16]), rtol=1e-6)
    assert len(entries) == 8
    line, chosen = right.lines
    assert len(line.get_xdata()) == 6 and (np.diff(line.get_ydata()) < 0).all()
    counted = 3 + (3 * 8 * 16 + 16) / w.size  # three tables of eight entries, and the exponent
    error = 100 * np.sqrt(((w - dense) ** 2).sum() / (w**2).sum())
    assert (chosen.get_xdata()[0], chosen.get_ydata()[0]) == pytest.approx((counted, error))
    assert quantization.relative_error(np.zeros((2, 2)), np.zeros((2, 2))) == 0
    assert quantization.table_and_error(np.zeros((4, 8)), 2, 16).axes


def test_the_widgets_redraw(explored):
    quantization.explore_bits(COSTS, AFM_TINY, "alt")
    quantization.explore_palette({"wq": np.eye(64), "wk": np.ones((64, 8))}, "wq", "alt")
    (draw, _, controls), (draw_palette, _, palette_controls) = explored
    start = {name: control.value for name, control in controls.items()}
    assert start == {"average_bits": 3.5, "matrix": "w_gate, layer 0", "bits": 4, "gigabytes_per_s": 40.0}
    assert len(draw(**start).axes[0].patches) == 1 + len(draw(**start | {"matrix": "none"}).axes[0].patches)
    assert cells(draw(**start | {"average_bits": 2.0, "matrix": "none"}).axes[0]) == dict.fromkeys(WEIGHTS, 2)
    assert cells(draw(**start | {"matrix": "wk, layer 3", "bits": 2}).axes[0])["wk", 3] == 2
    start = {name: control.value for name, control in palette_controls.items()}
    assert start == {"matrix": "wq", "bits": 4, "rows": 16}
    assert draw_palette(**start | {"rows": 64}).axes[0].get_title().endswith("of 64 rows")


def test_errors_are_those_of_the_matrices_themselves():
    change = np.random.default_rng(0).standard_normal((6, 9))
    u, s, vt = np.linalg.svd(change, full_matrices=False)
    errors = lora.relative_errors(s)
    for rank in range(7):
        left = change - (u[:, :rank] * s[:rank]) @ vt[:rank]
        assert errors[rank] == pytest.approx(np.linalg.norm(left) / np.linalg.norm(change), abs=1e-7)


def test_spectra_show_the_share_of_the_first_terms():
    values = {"change": [2.0, 1, 0], "W0": [1.0, 1, 1], "noise": [1.0, 1, 1]}
    ax, _ = lora.spectra({"wq": values, "wo": values}, 1).axes
    shares = [line.get_ydata() for line in ax.lines[:3]]
    np.testing.assert_allclose(shares, [[0, 80, 100, 100], *[[0, 100 / 3, 200 / 3, 100]] * 2], atol=1e-9)


RANKS = {"base": {"nats": 0.6}, "try_1_0.1": {"nats": 9.0}} | {
    f"{arm}_{seed}": {"nats": nats + 0.01 * seed}
    for arm, nats in (("1", 0.4), ("16", 0.3), ("rank 0", 0.5), ("full", 0.1))
    for seed in (0, 1)
}
RANKS |= {f"matrices_{seed}": {"nats": 0.2, "cut": {"1": 0.7, "16": 0.25 + 0.02 * seed}} for seed in (0, 1)}


def test_the_rank_study_draws_trained_cut_and_the_comparisons_named_beforehand():
    left, right = lora.rank_study(RANKS).axes
    bars = {bar.get_label(): list(bar.lines[0].get_ydata()) for bar in left.containers}
    assert bars["trained at rank R"] == pytest.approx([0.405, 0.305])
    assert bars["matrices tuned, then cut to R"] == pytest.approx([0.7, 0.26])
    levels = {line.get_label(): line.get_ydata()[0] for line in left.lines if ": " in line.get_label()}
    wanted = {"base: 0.600": 0.6, "rank 0: 0.505": 0.505, "matrices: 0.200": 0.2, "full: 0.105": 0.105}
    assert levels == pytest.approx(wanted)
    (primary,) = right.containers
    assert list(primary.lines[0].get_xdata()) == pytest.approx([-45, 60])


def test_the_comparisons_of_rank_are_paired_by_seed():
    """By hand: cut 16 is .25 and .27, rank 16 .30 and .31, the matrices .20 twice; t at 97.5%, one degree: 25.45."""
    found = lora.rank_primary(RANKS)
    assert found["cut to 16 less trained at 16"] == pytest.approx(
        (-0.045, -0.045 - 25.45 * 0.005, -0.045 + 25.45 * 0.005), abs=1e-4
    )
    assert found["cut to 16 less matrices"] == pytest.approx((0.06, 0.06 - 25.45 * 0.01, 0.06 + 25.45 * 0.01), abs=1e-4)


def test_the_score_table_writes_every_score():
    table = np.array([[[0.4, 0.4, 0.4], [0.8, 0.7, 0.9]]])
    assert [text.get_text() for text in lora.score_table(["tone"], table).axes[0].texts] == ["0.40", "0.80 ± 0.10"]


def test_matrices_are_drawn_to_scale():
    frozen, b, a = (patch.get_bbox().size for patch in lora.low_rank_sum(576, 192, 16).axes[0].patches)
    np.testing.assert_allclose([frozen[0] / frozen[1], b[0] / b[1], a[1] / a[0]], [192 / 576, 0.12 / 4, 0.12 / (4 / 3)])


def test_the_active_adapter_lies_beside_its_layers():
    ax = lora.adapters_over_base(["a", "b"], 1, n_layers=3).axes[0]
    assert [text.get_text() for text in ax.texts].count("B, A") == 3
    weights = {text.get_text(): text.get_fontweight() for text in ax.texts}
    assert (weights["a"], weights["b\n(in place now)"]) == ("normal", "bold")


def test_the_widget_redraws(explored):
    lora.explore_rank({"wq": np.eye(4), "wk": np.ones((3, 4))}, "wq", 2)
    ((draw, _, controls),) = explored
    assert controls["rank"].max == 3 and controls["matrix"].value == "wq"
    assert [draw("wq", rank).axes[3].get_title() for rank in (2, 4)] == ["71%", "0%"]  # sqrt(2 / 4)

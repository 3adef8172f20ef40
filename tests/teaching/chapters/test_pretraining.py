"""Figures of chapters 2 to 5, of curation, the optimizer, the stages and pruning: what is drawn is what was given."""

import math

import numpy as np
import pytest

from afm_ref.curation import near_duplicates
from afm_ref.curation.report import Report
from afm_ref.evaluation import mean_interval
from afm_ref.pretraining.pruning.top_k import soft_top_k, solve
from afm_ref.pretraining.stages import apple_stages
from afm_ref.teaching import figures
from afm_ref.teaching.chapters import data, distillation, optimizer, stages
from afm_ref.training.history import History

RATES = 2.0 ** np.arange(-8, -2)
SHARES = (0.0, 0.5, 1.0)
BITS = {"english": [[2, 2.2, 3], [2.2, 2.4, 3.2]], "code": [[3, 2.5, 2], [3, 2.5, 2]]}


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


def test_funnel_and_lengths_are_the_reports():
    (ax,) = data.funnel(report()).axes
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], [7, 3.5, 3, 2])
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["read", "extraction", "near-duplicates", "heuristics"]
    assert "kB" in ax.get_xlabel() and [t.get_text().strip() for t in ax.texts][-1] == "1 documents"
    bars = data.lengths(report()).axes[0].patches  # by powers of two: 1000, 2000 and 4000; the one left is on 2000
    assert {(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in bars} == {(10, 1), (11, 1), (12, 1)}


def test_drops_are_in_order():
    found = report()
    for _ in range(3):
        found.passes("heuristics", 1, "too short")
    (ax,) = data.drops(found).axes
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["heuristics: too short", "near-duplicates: near-duplicate"]
    assert [bar.get_width() for bar in ax.patches] == [4, 1]


def test_the_s_curve_is_the_closed_form():
    bins = [{"jaccard": 0.5, "candidates": [0.2, 0.1, 0.3], "removed": [0.0, 0.0, 0.1]}]
    closed, counted, *_ = data.s_curve(16, 8, 128, 0.75, bins).axes[0].lines
    s, curve = closed.get_data()
    np.testing.assert_allclose(curve, 1 - (1 - s**8) ** 16, atol=1e-12)
    np.testing.assert_allclose(counted.get_ydata(), near_duplicates.removal_probability(s, 16, 8, 128, 97))
    assert "97 of 128" in counted.get_label()


def test_the_explorer_has_controls(explored):
    data.s_curve_explorer("an S-curve")
    ((draw, alt, controls),) = explored
    assert {name: control.value for name, control in controls.items()} == {"bands": 16, "rows": 8}
    assert draw(8, 8).axes[0].lines and alt == "an S-curve"
    with pytest.raises(ValueError, match="do not fit into 128"):
        draw(128, 32)


def test_each_text_is_a_dot_at_its_score():
    scores = {"reference": [0.9, 0.8, 0.4], "spam": [0.1, 0.6], "tables": [0.3, 0.2]}
    (ax,) = data.scores_by_kind(scores, ("reference",)).axes
    assert [line.get_xdata().tolist() for line in ax.lines[:3]] == list(scores.values())
    assert [line.get_color() for line in ax.lines[:3]] == [figures.BLUE, figures.ORANGE, figures.ORANGE]
    assert [text.get_text() for text in ax.texts] == ["67% kept", "50% dropped", "100% dropped"]
    assert ax.lines[3].get_xdata() == [0.5, 0.5]


def test_a_band_meets_where_all_its_entries_are_equal():
    first, second = [1, 2, 3, 4, 5, 6], [1, 2, 3, 9, 8, 106]  # 6 and 106 look the same, and are not
    texts = [text.get_text() for text in data.bands(first, second, 3, 2).axes[0].texts]
    told = [text for text in texts if "agree" in text or "meet" in text]
    assert told == ["meet here", "1 of 2 agree", "0 of 2 agree"]
    assert [int(text) for text in texts if text.isdigit()] == [2, 2, 1, 1, 4, 9, 3, 3, 6, 6, 5, 8]  # from below


def made_up(shift, noise=(0.0, 0.1, -0.1)):
    """Return a sweep whose best rate is 2^-5 at width 32 and moves by `shift` a doubling, by `noise` a seed."""

    def loss(width, rate, off):
        return 5 + 0.1 * (np.log2(rate) + 5 - shift * np.log2(width / 32) - off) ** 2

    return {w: {r: [loss(w, r, off) for off in noise] for r in RATES} for w in (32, 64, 128)}


def test_the_shift_of_a_made_up_sweep():
    sweep = made_up(-0.6)
    best = optimizer.best_rates(sweep)
    np.testing.assert_allclose(np.log2(best[64]), [-5.6, -5.5, -5.7], atol=1e-9)
    assert optimizer.shift_per_doubling(sweep) == pytest.approx((-0.6, -0.6, -0.6), abs=1e-9)
    steeper = {w: {r: [a[0], b] for (r, a), b in zip(by.items(), [x[0] for x in made_up(-1)[w].values()], strict=True)}
               for w, by in sweep.items()}  # fmt: skip
    mean, low, high = optimizer.shift_per_doubling(steeper)  # two seeds: t of one degree of freedom
    assert (mean, high - mean, mean - low) == pytest.approx((-0.8, 0.2 * 12.706, 0.2 * 12.706), rel=1e-4)


def test_lines_are_means_of_seeds():
    sweep = made_up(0.0)
    sweep[32][RATES[-1]] = [None, 5.0, 5.0]
    left, right = optimizer.loss_against_rate({"standard": sweep, "mup_simple": made_up(0.0)}, {"a level": 4}).axes
    assert [left.get_title(), right.get_title()] == ["standard parametrisation", "muP-simple"]
    assert left.lines[0].get_xdata().tolist() == RATES[:-1].tolist()  # where a seed diverged nothing is drawn
    np.testing.assert_allclose(right.lines[1].get_ydata(), [np.mean(x) for x in made_up(0.0)[64].values()])
    (band,) = right.collections[0].get_paths()
    assert band.vertices[:, 1].max() == pytest.approx(max(x for losses in made_up(0.0)[32].values() for x in losses))


def test_best_rates_are_drawn_seed_by_seed():
    left, right = optimizer.best_against_width({"standard": made_up(-1.0), "mup_simple": made_up(0.0)}).axes
    standard, _, _, _, falling, mup_simple, *seeds = left.lines  # two lines of means, three seeds each, and 1 / width
    np.testing.assert_allclose(standard.get_ydata(), 2.0 ** np.array([-5, -6, -7]), rtol=1e-6)
    np.testing.assert_allclose(falling.get_ydata(), standard.get_ydata(), rtol=1e-6)
    np.testing.assert_allclose(mup_simple.get_ydata(), 2.0**-5, rtol=1e-6)
    np.testing.assert_allclose(sorted(line.get_ydata()[0] for line in seeds), 2.0 ** np.array([-5.1, -5, -4.9]))
    assert [bars.lines[0].get_xdata()[0] for bars in right.containers] == pytest.approx([-1, 0])


def test_a_spike_is_forgotten_after_its_memory():
    (ax,) = optimizer.after_a_spike(0.95, 1000.0).axes
    after, size = ax.lines[0].get_data()
    np.testing.assert_allclose(size[after == 0], 0.05**-0.5, rtol=1e-4)  # all of the mean square is the spike's
    assert after[(after > 0) & (size > 0.5**0.5)].min() == 211


def test_the_pipe_has_six_boxes_and_two_memories():
    texts = [text.get_text() for text in optimizer.pipe().axes[0].texts]
    assert texts.count("kept for the next step") == 2 and sum(text.startswith("(3.") for text in texts) == 6


def test_curves_are_smoothed_over_five_steps():
    (ax,) = optimizer.training_curves({"a": np.arange(10.0)}, {"level": 3.0}).axes
    np.testing.assert_allclose(ax.lines[0].get_data(), [np.arange(3, 9), np.arange(2, 8)])
    assert ax.lines[1].get_ydata() == [3.0, 3.0]


def test_the_explorer_of_a_spike_has_controls(explored):
    optimizer.spike_explorer("a spike")
    ((draw, _, controls),) = explored
    assert {name: control.value for name, control in controls.items()} == {"memory": 0.95, "times": 1000.0}
    assert draw(0.9, 10.0).axes[0].lines


LOSSES = {
    "standard_64_-3_1": 4.1, "standard_64_-10_0": 5.0, "standard_64_-3_0": 4.0, "standard_64_-10_1": 5.0,
    "standard_32_-3_0": 3.0, "mup_simple_64_-3_0": 6.0, "adam_64_-10_0": 3.0, "adam_64_-3_0": 3.5,
    "adam_64_-10_1": 3.2, "adam_64_-3_1": None, "standard_64_-5_0": 4.5, "standard_64_-5_1": 4.6, "adam_64_-5_0": 9,
    "adam_64_-5_1": 9, "standard_64_-1_0": 5.5, "standard_64_-1_1": 5.7,
}  # fmt: skip
RUNS = {key: {"loss": loss, "rate": 2.0 ** int(key.split("_")[-2])} for key, loss in LOSSES.items()}
STRESS = {"stress whole_0": 4.6, "stress whole_1": 4.6, "stress no skip_1": 7.0, "stress no skip_0": 6.0}
RUNS |= {key: {"loss": loss} for key, loss in STRESS.items()}


def test_recorded_runs_are_sorted():
    sweeps = optimizer.recorded_sweeps(RUNS)
    assert sweeps["standard"][64][2.0**-10] == [5.0, 5.0] and sweeps["standard"][64][0.125] == [4.0, 4.1]
    assert sweeps["mup_simple"] == {32: {0.125: [3.0]}, 64: {0.125: [6.0]}} and sweeps["standard"][32] == {0.125: [3.0]}


def test_rules_are_compared_each_at_its_best_rate_and_at_the_next():
    """Apple's best is 2^-3 (4.0, 4.1), then 2^-1; Adam's 2^-10 (3.0, 3.2), then 2^-5."""
    found = optimizer.rule_leads(RUNS, ["adam"])
    assert found["adam", 1].mean == pytest.approx((3.0 - 4.0 + 3.2 - 4.1) / 2)
    assert found["adam", 4].mean == pytest.approx((9 - 5.5 + 9 - 5.7) / 2)
    assert found["adam", 1].high == pytest.approx(-0.95 + 12.706 * 0.05, abs=1e-3)  # paired: -1 and -.9


def test_what_a_broken_batch_costs_is_paired_by_seed():
    found = optimizer.stress_costs(RUNS)
    assert found["whole"].mean == pytest.approx((4.6 - 4.5 + 4.6 - 4.6) / 2)
    assert found["no skip"] == pytest.approx((1.9, 1.9 - 12.706 * 0.5, 1.9 + 12.706 * 0.5), abs=1e-3)


def test_growth_is_drawn_part_by_part():
    parts = dict.fromkeys(("ffn out", "logits"), np.array([[0.1, 0.2], [0.2, 0.4]]))
    axes = optimizer.coordinate_growth((32, 64), {"standard": parts, "mup_simple": parts}).axes
    assert [ax.get_title() for ax in axes] == ["ffn out", "logits"]
    assert axes[0].lines[0].get_ydata().tolist() == [0.2, 0.4]


def test_losses_stand_one_behind_the_other():
    past = {name: History(*[np.array(loss)] * 5) for name, loss in (("core", [3.0, 2.0]), ("continued", [1.5]))}
    curves = {line.get_label(): line.get_data() for line in stages.losses_by_stage(past).axes[0].lines}
    np.testing.assert_allclose(curves["core"], [[1, 2], [3, 2]])
    np.testing.assert_allclose(curves["continued"], [[3], [1.5]])
    for history, found in zip(past.values(), ([(0, 3.5), (2, 2.5)], [(1, 2.4)]), strict=True):
        history.evaluations = [{"step": step, "held_out": value} for step, value in found]
    dots = stages.losses_by_stage(past).axes[0].lines[-1]  # of one text, at steps of the whole run
    np.testing.assert_allclose(dots.get_data(), [[0, 2, 3], [3.5, 2.5, 2.4]])


def test_schedules_are_drawn_to_scale():
    """The core stage ends at 6.3 trillion tokens at 0.005 of 0.01, and peaks at 5000 / 375,509 of its way."""
    rates, windows = stages.rates_and_windows(apple_stages()).axes
    core, continued, lengthening = rates.lines
    assert [text.get_text() for text in windows.texts] == ["4,096", "8,192", "32,768"]
    x, y = core.get_data()
    assert x[-1] == pytest.approx(6.3, rel=1e-4) and y[-1] == pytest.approx(5e-5) and y.max() == pytest.approx(0.01)
    assert x[y.argmax()] / x[-1] == pytest.approx(5000 / 375_509)
    assert [line.get_xdata()[-1] for line in (continued, lengthening)] == pytest.approx([7.3, 7.4], rel=1e-3)


def test_wavelengths_by_hand():
    """Pair 0 turns in 2 pi tokens; the pair at half of a head of 4 in 2 pi sqrt(base); windows are lines."""
    old, new, window = stages.wavelengths(4, {"old": 100.0, "new": 400.0}, {"trained": 50}).axes[0].lines
    np.testing.assert_allclose(old.get_ydata(), [2 * math.pi, 20 * math.pi])
    np.testing.assert_allclose(new.get_ydata(), [2 * math.pi, 40 * math.pi])
    assert set(window.get_ydata()) == {50}


def test_positions_show_curves_and_differences():
    """Differences 0 and 2 of two seeds: mean 1, half an interval 12.706 times 1."""
    differences = {"new": {"near": [1.0, 1.0], "far": [0.0, 2.0]}}
    left, right = stages.by_position({"before": [2.0, 1.0]}, [0, 10, 30], {"old": 10}, differences, "before").axes
    np.testing.assert_allclose(left.lines[0].get_data(), [[5, 20], [2, 1]])
    ((means, _, (bars,)),) = right.containers
    np.testing.assert_allclose(means.get_ydata(), [1, 1])
    np.testing.assert_allclose([np.ptp(bar[:, 1]) for bar in bars.get_segments()], [0, 2 * 12.706], rtol=1e-3)
    assert [label.get_text() for label in right.get_xticklabels()] == ["near", "far"]
    assert left.lines[1].get_xdata()[0] == 10 and right.get_title() == "2 seeds, 95% intervals"


def test_the_sweep_draws_what_it_was_given():
    english, code, _ = stages.batch_of_mixture(0.5, SHARES, BITS).axes[1].lines
    np.testing.assert_allclose(english.get_data(), [SHARES, [2.1, 2.3, 3.1]])
    np.testing.assert_allclose(code.get_ydata(), [3, 2.5, 2])


@pytest.mark.parametrize(("share", "nearest"), [(0.0, 0), (0.2, 0), (0.3, 0.5), (1.0, 1)])
def test_the_mixture_shows_its_rows_and_the_nearest_recording(share, nearest):
    left, right = stages.batch_of_mixture(share, SHARES, BITS, rows=10, batches=2).axes
    drawn = left.images[0].get_array()
    assert drawn.shape == (2, 10) and drawn.sum() == 20 * share
    assert right.get_title() == f"nearest recorded share: {nearest:g}" and right.lines[-1].get_xdata()[0] == nearest


def test_masks_are_those_of_the_scores():
    scores = np.random.default_rng(0).normal(size=30)
    lines = distillation.masks_by_rank(scores, 10, (0.05, 1.0)).axes[0].lines[1:]
    for line, eps in zip(lines, (0.05, 1.0), strict=True):
        np.testing.assert_allclose(line.get_ydata(), np.sort(soft_top_k(scores, 10, eps))[::-1])
    assert [line.get_label() for line in lines] == [r"$\nu$ = 0.05", r"$\nu$ = 1"]


def curve(*values):
    return {"steps": [0, 10, 20], "all": list(values), "accuracy": list(np.divide(values, 10))}


def test_accuracies_are_means_with_intervals():
    runs = [curve(9.0, 4.0, 3.0), curve(9.0, 4.2, 3.4)]
    (ax,) = distillation.accuracies({"scratch": runs, "pruned": runs[:1]}, 0.25).axes
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.9, 0.41, 0.32])
    assert [line.get_label() for line in ax.lines] == ["scratch", "pruned", "the parent"]
    (band,) = ax.collections  # one seed alone has no band
    ends = band.get_paths()[0].vertices
    ends = ends[ends[:, 0] == 20][:, 1]
    np.testing.assert_allclose([ends.min(), ends.max()], mean_interval([0.3, 0.34])[1:])


def test_a_slice_keeps_rows_of_two_matrices_and_columns_of_the_third():
    axes = distillation.slicing(D=2, F=5, kept=(1, 4)).axes
    gate, _, down, *sliced = (ax.images[0].get_array() for ax in axes)
    assert gate.shape == (5, 2, 3) and down.shape == (2, 5, 3)
    np.testing.assert_array_equal(sliced[0], gate[[1, 4]])
    np.testing.assert_array_equal(sliced[2], down[:, [1, 4]])
    np.testing.assert_array_equal(gate[1, 0], down[0, 1])  # one channel, one colour
    assert len({tuple(row) for row in gate[:, 0]}) == 3 and axes[5].get_title("left").endswith("2 x 2")


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

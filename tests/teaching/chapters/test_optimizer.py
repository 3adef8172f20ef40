"""Chapter 2's figures of the optimizer: what is drawn is what was given."""

import numpy as np
import pytest

from afm_ref.teaching.chapters import optimizer

RATES = 2.0 ** np.arange(-8, -2)


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
    left, right = optimizer.loss_against_rate({"standard": sweep, "mup_simple": made_up(0.0)}).axes
    assert [left.get_title(), right.get_title()] == ["standard parametrisation", "muP-simple"]
    assert left.lines[0].get_xdata().tolist() == RATES[:-1].tolist()  # where a seed diverged nothing is drawn
    np.testing.assert_allclose(right.lines[1].get_ydata(), [np.mean(x) for x in made_up(0.0)[64].values()])
    (band,) = right.collections[0].get_paths()
    assert band.vertices[:, 1].max() == pytest.approx(max(x for losses in made_up(0.0)[32].values() for x in losses))


def test_best_rates_carry_intervals():
    (ax,) = optimizer.best_against_width({"standard": made_up(-1.0), "mup_simple": made_up(0.0)}).axes
    standard, mup_simple = ax.containers
    np.testing.assert_allclose(standard[0].get_ydata(), 2.0 ** np.array([-5, -6, -7]), rtol=1e-6)
    np.testing.assert_allclose(mup_simple[0].get_ydata(), 2.0**-5, rtol=1e-6)
    low, high = np.log2(mup_simple[2][0].get_segments()[0][:, 1])
    assert (high + 5, low + 5) == pytest.approx((0.1 * 2.4841, -0.1 * 2.4841), rel=1e-3)  # t 4.303 / sqrt(3)


LOSSES = {
    "standard_64_-3_1": 4.1, "standard_64_-10_0": 5.0, "standard_64_-3_0": 4.0, "mup_simple_32_-3_0": 3.0,
    "start_32": 8.0, "whole_x1_0": 4.0, "whole_x1_1": 4.2, "whole_x4_0": 5.0, "whole_x4_1": 5.5, "no skip_x1_0": 4.1,
    "no skip_x1_1": 4.5, "no skip_x4_0": None, "no skip_x4_1": 5.5, "stress whole_0": 4.0, "stress whole_1": 4.0,
    "stress no skip_0": 6.0, "stress no skip_1": 7.0,
}  # fmt: skip
RUNS = {key: {"loss": loss, "rate": 2.0**-10 if "-10" in key else 0.125} for key, loss in LOSSES.items()}


def test_recorded_runs_are_sorted():
    sweeps = optimizer.recorded_sweeps(RUNS)
    assert sweeps["standard"][64] == {2.0**-10: [5.0], 0.125: [4.0, 4.1]}
    assert list(sweeps["standard"][64]) == [2.0**-10, 0.125]
    assert sweeps["mup_simple"] == {32: {0.125: [3.0]}} and sweeps["standard"][32] == {0.125: [3.0]}
    found = optimizer.recorded_differences(RUNS, ["no skip"], times=(1, 4))
    assert found["no skip"][1] == pytest.approx([0.1, 0.3]) and found["no skip"][4] == [None, 0.0]
    assert optimizer.recorded_differences(RUNS, ["no skip"], times=None)["no skip"][1] == [2.0, 3.0]


def test_differences_carry_intervals_and_say_who_diverged():
    found = optimizer.recorded_differences(RUNS, ["whole", "no skip"], times=(1, 4))
    (ax,) = optimizer.changed_terms(found).axes
    assert [bars[0].get_xdata()[0] for bars in ax.containers] == pytest.approx([0.0, 0.2, 0.0])
    assert [line.get_marker() for line in ax.lines].count("x") == 1
    assert [label.get_text() for label in ax.get_yticklabels()] == ["whole", "no skip"]


def test_growth_is_drawn_part_by_part():
    parts = dict.fromkeys(("ffn out", "logits"), np.array([[0.1, 0.2], [0.2, 0.4]]))
    axes = optimizer.coordinate_growth((32, 64), {"standard": parts, "mup_simple": parts}).axes
    assert [ax.get_title() for ax in axes] == ["ffn out", "logits"]
    assert axes[0].lines[0].get_ydata().tolist() == [0.2, 0.4]


def test_descents_start_at_one():
    fig = optimizer.descents({"a": [4.0, 2.0, 1.0], "b": [8.0, 2.0, 0.8]})
    assert [line.get_ydata().tolist() for line in fig.axes[0].lines] == [[1, 0.5, 0.25], [1, 0.25, 0.1]]

"""Chapter 8's figures: what is drawn is what was given."""

import numpy as np
import pytest

from afm_ref.teaching.chapters import rlhf


def run(utility, proxy=(1.0, 2.0), kl=(0.0, 3.0), samples=(0, 64)):
    columns = dict(utility=utility, proxy=proxy, kl=kl, samples=samples, held_out_utility=np.array(utility) - 0.1)
    return {name: list(values) for name, values in columns.items()}


TWO = [run((0.5, 0.6)), run((0.5, 0.8))]


def test_lines_are_means_and_bands_t_intervals():
    """Of two values that differ by 0.2 the interval is 0.1 times t on either side: 12.706 for one degree of freedom."""
    longer = run((0.4, 0.5, 0.6), (1, 1.5, 2), (0, 1, 2), (0, 10, 20))
    fig = rlhf.against_samples({"rloo": TWO, "mdloo": TWO[:1], "dpo": [longer]}, own="dpo")
    for ax, last in zip(fig.axes, (0.2, 1.0, 3.0, 0.2), strict=True):
        assert [line.get_label() for line in ax.lines] == ["rloo", "mdloo", "dpo"]
        assert ax.lines[0].get_xdata().tolist() == [0, 64] and ax.lines[0].get_ydata()[1] == pytest.approx(last)
        assert ax.lines[2].get_xdata().tolist() == [0, 10, 20] and ax.lines[2].get_linestyle() == "--"
        assert len(ax.collections) == 1  # a single seed has no band
    utility = fig.axes[0]
    for line, want in zip(utility.lines[1:], ([0, 0.1], [0, 0.1, 0.2]), strict=True):
        np.testing.assert_allclose(line.get_ydata(), want, atol=1e-12)
    (band,) = utility.collections[0].get_paths()
    ends = band.vertices[band.vertices[:, 0] == 64][:, 1]
    np.testing.assert_allclose([ends.min(), ends.max()], [0.2 - 1.2706, 0.2 + 1.2706], rtol=1e-4)
    assert [ax.get_ylabel() for ax in fig.axes] == [f"{label},\ngained" for label in rlhf.MEASURES.values()]


def test_utility_and_proxy_share_their_kl():
    """The utility of the mean over seeds is highest at the second of three points, while the proxy rises on."""
    one = run((0.2, 0.9, 0.3), (0, 1, 2), (0, 1, 5), (0, 1, 2))
    other = run((0.4, 0.7, 0.5), (2, 3, 4), (0, 3, 7), (0, 1, 2))
    above, below = rlhf.utility_against_kl({"beta 0": [one, other]}).axes
    np.testing.assert_allclose(above.lines[0].get_data(), [[0, 2, 6], [1, 2, 3]])
    np.testing.assert_allclose(below.lines[0].get_data(), [[0, 2, 6], [0.3, 0.8, 0.4]])
    crosses = [ax.lines[1].get_data() for ax in (above, below)]
    np.testing.assert_allclose(crosses, [[[2], [2]], [[2], [0.8]]])
    assert above.lines[0].get_markerfacecolor() == "white" != below.lines[0].get_markerfacecolor()


def test_surrogates_by_hand():
    """gamma 1, epsilon 0.2, at rho = 2 and A = 1: 2, 1.2 and 2 - (2 ln 2 - 1); the maximum e - 1 at rho = e."""
    expected = (2, 1.2, 3 - 2 * np.log(2), np.e), (-2, -2, -1 - 2 * np.log(2), 1 / np.e)
    for ax, (plain, clip, ours, best) in zip(rlhf.surrogates(1.0, 0.2).axes, expected, strict=True):
        curves = {line.get_label(): line.get_data() for line in ax.lines[1:]}  # the first marks rho = 1
        at_2 = [np.interp(2, *curve) for curve in list(curves.values())[:3]]
        np.testing.assert_allclose(at_2, [plain, clip, ours], atol=1e-4)  # between points that are 0.01 apart
        (_, _, (rho, y), (x, top)) = curves.values()
        assert x[0] == pytest.approx(best) and y.max() <= top[0] < y.max() + 1e-4
        assert abs(rho[y.argmax()] - x[0]) <= rho[1] - rho[0]
    assert [len(ax.lines) for ax in rlhf.surrogates(0.5, 0.2).axes] == [4, 5]  # exp(2) is out of range


def test_a_live_run_is_drawn_as_recorded():
    row = lambda i: dict(samples=64 * i, reward=i / 2, utility=i / 4, kl_reference=i, kl_previous=0.1)  # noqa: E731
    evaluations = [{"step": 0}, row(1), row(2)]
    drawn = [line.get_data() for ax in rlhf.course_of_run(evaluations).axes for line in ax.lines]
    np.testing.assert_allclose(drawn, [[[64, 128], values] for values in ([0.5, 1], [0.25, 0.5], [1, 2], [0.1, 0.1])])
    without = [{name: value for name, value in row.items() if name != "utility"} for row in evaluations]
    assert [line.get_label() for line in rlhf.course_of_run(without).axes[0].lines] == ["reward"]


def test_recorded_runs_are_sorted_by_algorithm():
    keys = ("utility_mdloo_0", "utility_mdloo_1", "reward model_mdloo_0", "utility_rloo_0", "beta_0.0_0")
    runs = {key: {"its": key} for key in keys}
    mdloo_0, mdloo_1, by_model, rloo, _ = runs.values()
    assert list(rlhf.recorded_curves(runs, "utility").items()) == [("rloo", [rloo]), ("mdloo", [mdloo_0, mdloo_1])]
    assert rlhf.recorded_curves(runs, "reward model") == {"mdloo": [by_model]}


def test_distances_follow_the_factor():
    """By hand: beta 0.2 and gamma 0.4 halve log(pi / fixed point) at every step; it begins as that of exp(r / 0.2)."""
    distances, policies, _ = rlhf.mirror_descent(0.2, 0.4).axes
    exact, predicted = (line.get_ydata() for line in distances.get_lines())
    np.testing.assert_allclose(exact, 5.0 * 0.5 ** np.arange(11), rtol=1e-9)  # rewards differ by 1, over 0.2
    np.testing.assert_allclose(predicted, exact, rtol=1e-9)
    heights = np.array([bar.get_height() for bar in policies.patches]).reshape(4, 4)
    np.testing.assert_allclose(heights.sum(axis=1), 1)
    weights = np.exp(rlhf.REFERENCE + rlhf.REWARDS / 0.2)
    np.testing.assert_allclose(heights[3], weights / weights.sum())


def test_the_course_is_named():
    for gamma, course in ((0.4, "evenly"), (0.2, "at once"), (0.15, "swinging"), (0.05, "diverges")):
        assert course in rlhf.mirror_descent(0.2, gamma).axes[0].get_title()

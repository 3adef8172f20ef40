"""Chapter 11's figures draw what they say, and its paired differences are those by hand."""

import numpy as np
import pytest

from afm_ref import assets
from afm_ref.teaching.chapters import rlhf

BANDIT = assets.recording("bandit")["numbers"]["runs"]
# of two seeds: utility at the end, rewards of four iterations
ENDS = {"mdloo": (0.9, 0.8), "ppo": (0.8, 0.6), "rloo": (0.9, 0.9), "grpo": (0.7, 0.6), "reinforce": (0.5, 0.4)}
RUNS = {
    f"{name}_{seed}": {"utility": {"all": of}, "reward": [9.0, of, of, of + 0.3]}
    for name, both in ENDS.items()
    for seed, of in enumerate(both)
} | {"try_mdloo_0.1_0": {"utility": {"all": 9.0}, "reward": [9.0] * 4}, "start": {"utility": {"all": 0.1}}}


def test_leads_are_paired_by_seed():
    """0.1 and 0.2 ahead of PPO: 0.15, and half of it times t of one degree of freedom, tan(pi 0.975 / 2)."""
    for measure in (rlhf.ends, rlhf.soon):
        found = rlhf.leads(RUNS, measure)
        assert list(found) == ["ppo", "rloo", "grpo", "reinforce"]
        half = 0.05 * np.tan(np.pi * 0.975 / 2)
        assert found["ppo"] == pytest.approx((0.15, 0.15 - half, 0.15 + half))
        half = 0.05 * np.tan(np.pi * (1 - 0.05 / 6) / 2)
        assert found["rloo"] == pytest.approx((-0.05, -0.05 - half, -0.05 + half))
    assert rlhf.soon(RUNS, "mdloo") == pytest.approx([1.0, 0.9])  # the first iteration is the start's
    with pytest.raises(ValueError, match="no run of dpo"):
        rlhf.ends(RUNS, "dpo")


def test_leads_and_rewards_are_drawn():
    for ax, measure in zip(rlhf.algorithm_leads(RUNS).axes, (rlhf.ends, rlhf.soon), strict=True):
        drawn = [container[0].get_xdata()[0] for container in ax.containers]
        assert drawn == pytest.approx([lead.mean for lead in rlhf.leads(RUNS, measure).values()])
    (ax,) = rlhf.rewards_by_iteration(RUNS, ("mdloo", "ppo")).axes
    assert [line.get_label() for line in ax.lines] == ["MDLOO", "PPO"]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [9, 0.85, 0.85, 1.15])


def test_ideas_are_differences_of_means():
    """Each point is the mean gain of one cell less that of the other; the keys are those of the recording."""

    def mean(key):
        return np.mean(BANDIT[key]["gains"])

    none, std, steps = rlhf.three_ideas(BANDIT).axes
    drawn = none.containers[1][0].get_ydata()
    keys = [f"{{}}, none x 1, noise {noise}, same 0.75" for noise in ("0", "0.3", "1")]
    assert drawn == pytest.approx([mean(k.format("leave one out")) - mean(k.format("none")) for k in keys])
    drawn = std.containers[0][0].get_ydata()[1]
    key = "{}, none x 1, noise 0.3, same 0"
    assert drawn == pytest.approx(mean(key.format("leave one out")) - mean(key.format("divided by std")))
    drawn = [container[0].get_ydata()[-1] for container in steps.containers]
    key = "shared: leave one out, {} x 32, noise 1, same 0"
    assert drawn == pytest.approx([mean(key.format("mirror")) - mean(key.format(other)) for other in ("clip", "none")])


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

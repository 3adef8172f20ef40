"""Chapter 8's control draws what the bandit computes."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from afm_ref.teaching import rlhf_widgets


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def test_distances_follow_the_factor():
    """By hand: beta 0.2 and gamma 0.4 halve log(pi / fixed point) at every step; it begins as that of exp(r / 0.2)."""
    distances, policies, _ = rlhf_widgets.mirror_descent(0.2, 0.4).axes
    exact, predicted = (line.get_ydata() for line in distances.get_lines())
    np.testing.assert_allclose(exact, 5.0 * 0.5 ** np.arange(11), rtol=1e-9)  # rewards differ by 1, over 0.2
    np.testing.assert_allclose(predicted, exact, rtol=1e-9)
    heights = np.array([bar.get_height() for bar in policies.patches]).reshape(4, 4)
    np.testing.assert_allclose(heights.sum(axis=1), 1)
    weights = np.exp(rlhf_widgets.REFERENCE + rlhf_widgets.REWARDS / 0.2)
    np.testing.assert_allclose(heights[3], weights / weights.sum())


@pytest.mark.parametrize(
    ("gamma", "course"), [(0.4, "evenly"), (0.2, "at once"), (0.15, "swinging"), (0.05, "diverges")]
)
def test_the_course_is_named(gamma, course):
    assert course in rlhf_widgets.mirror_descent(0.2, gamma).axes[0].get_title()


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="beta"):
        rlhf_widgets.mirror_descent(0.0, 0.4)
    with pytest.raises(ValueError, match="K"):
        rlhf_widgets.mirror_descent(0.2, 0.4, K=1)

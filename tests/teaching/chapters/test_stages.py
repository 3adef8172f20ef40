"""Chapter 2's figures of the stages: what is drawn is what was given."""

import math

import numpy as np
import pytest

from afm_ref.pretraining.stages import apple_stages
from afm_ref.teaching.chapters import stages
from afm_ref.training.history import History

SHARES = (0.0, 0.5, 1.0)
BITS = {"english": [[2, 2.2, 3], [2.2, 2.4, 3.2]], "code": [[3, 2.5, 2], [3, 2.5, 2]]}


def test_losses_stand_one_behind_the_other():
    past = {name: History(*[np.array(loss)] * 5) for name, loss in (("core", [3.0, 2.0]), ("continued", [1.5]))}
    curves = {line.get_label(): line.get_data() for line in stages.losses_by_stage(past).axes[0].lines}
    np.testing.assert_allclose(curves["core"], [[1, 2], [3, 2]])
    np.testing.assert_allclose(curves["continued"], [[3], [1.5]])


def test_schedules_are_drawn_to_scale():
    """The core stage ends at 6.3 trillion tokens at 0.005 of 0.01, and peaks at 5000 / 375,509 of its way."""
    core, continued, lengthening = stages.rates_and_windows(apple_stages()).axes[0].lines
    x, y = core.get_data()
    assert x[-1] == pytest.approx(6.3, rel=1e-4) and y[-1] == pytest.approx(5e-5) and y.max() == pytest.approx(0.01)
    assert x[y.argmax()] / x[-1] == pytest.approx(5000 / 375_509)
    assert continued.get_xdata()[-1] == pytest.approx(7.3, rel=1e-3)
    assert lengthening.get_xdata()[-1] == pytest.approx(7.4, rel=1e-3)


def test_wavelengths_by_hand():
    """Pair 0 turns in 2 pi tokens; the pair at half of a head of 4 in 2 pi sqrt(base); windows are lines."""
    old, new, window = stages.wavelengths(4, {"old": 100.0, "new": 400.0}, {"trained": 50}).axes[0].lines
    np.testing.assert_allclose(old.get_ydata(), [2 * math.pi, 20 * math.pi])
    np.testing.assert_allclose(new.get_ydata(), [2 * math.pi, 40 * math.pi])
    assert set(window.get_ydata()) == {50}


def test_positions_show_means_and_paired_differences():
    """Seeds 3, 5 against 2, 4 in one bin: means 4 and 3, difference 1 each time, so a band of no width."""
    runs = {"before": [[2.0, 1.0], [4.0, 1.0]], "after": [[3.0, 1.0], [5.0, 3.0]]}
    above, below = stages.by_position(runs, [0, 10, 30], 10, "before").axes
    np.testing.assert_allclose(above.lines[1].get_data(), [[5, 20], [4, 2]])
    np.testing.assert_allclose(below.lines[1].get_ydata(), [1, 1])
    _, band = below.collections
    ends = band.get_paths()[0].vertices
    np.testing.assert_allclose(ends[ends[:, 0] == 5][:, 1], 1)
    assert np.ptp(ends[ends[:, 0] == 20][:, 1]) == pytest.approx(2 * 12.706, rel=1e-3)  # of 0 and 2: s / sqrt(2) = 1


def test_the_sweep_draws_what_it_was_given():
    english, code = stages.mixture_sweep(SHARES, BITS).axes[0].lines
    np.testing.assert_allclose(english.get_data(), [SHARES, [2.1, 2.3, 3.1]])
    np.testing.assert_allclose(code.get_ydata(), [3, 2.5, 2])


@pytest.mark.parametrize(("share", "nearest"), [(0.0, 0), (0.2, 0), (0.3, 0.5), (1.0, 1)])
def test_the_mixture_shows_its_rows_and_the_nearest_recording(share, nearest):
    right, left = stages.batch_of_mixture(share, SHARES, BITS, rows=10, batches=2).axes
    drawn = left.images[0].get_array()
    assert drawn.shape == (2, 10) and drawn.sum() == 20 * share
    assert right.get_title() == f"nearest recorded share: {nearest:g}" and right.lines[-1].get_xdata()[0] == nearest

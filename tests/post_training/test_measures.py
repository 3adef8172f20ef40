"""Accuracy, calibration and win rates, by hand."""

import numpy as np
import pytest

from afm_ref.post_training.measures import accuracy, calibration, win_rate


def test_accuracy_by_hand():
    assert accuracy([1, -1, 0, 5, 5], [0.2, 0.1, 0.3, -0.1, 0]) == pytest.approx(1.5 / 4)
    with pytest.raises(ValueError, match="no pair"):
        accuracy([1.0], [0.0])


def test_calibration_by_hand():
    found = calibration([0.05, 0.06, 0.55, 1.0], [0, 1, 0.5, 1], bins=10)
    np.testing.assert_allclose(found.predicted, [0.055, 0.55, 1])
    np.testing.assert_allclose(found.observed, [0.5, 0.5, 1])
    assert found.count.tolist() == [2, 1, 1]
    assert found.error == pytest.approx((2 * 0.445 + 0.05 + 0) / 4)
    for predicted in ([], [0.5, 0.5], [1.2]):
        with pytest.raises(ValueError, match=r"lists of one length|probabilities"):
            calibration(predicted, [1.0])


def test_win_rate_by_hand():
    assert win_rate([1, 2, 3, 4], [0, 3, 3, 1]) == 0.625
    with pytest.raises(ValueError, match="one length"):
        win_rate([1.0], [1.0, 2.0])

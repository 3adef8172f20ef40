"""Samples to a target: curves by hand."""

import numpy as np
import pytest

from afm_ref.rlhf.measures import samples_to, target_between


@pytest.mark.parametrize(
    ("values", "target", "want"),
    [
        ([0.0, 1.0, 3.0], 2.0, 20.0),  # half of the way from 1 to 3, between 10 and 30 samples
        ([0.0, 1.0, 3.0], 0.25, 2.5),
        ([0.0, 1.0, 3.0], 1.0, 10.0),  # on a measurement
        ([0.0, 1.0, 3.0], 3.5, None),
        ([2.0, 1.0, 3.0], 2.0, 0.0),  # from the start on, though it falls below again
        ([0.0, 4.0, 1.0], 2.0, 5.0),  # the first time, not for good
    ],
)
def test_samples_to_by_hand(values, target, want):
    assert samples_to([0, 10, 30], values, target) == want


def test_target_by_hand():
    curves = {"a": [[0.0, 2.0, 1.0], [0.0, 4.0, 1.0]], "b": [[1.0, 1.0, 2.0]]}
    start, best = 1 / 3, 3.0  # the mean of a's second measurement
    assert target_between(curves) == pytest.approx((start + best) / 2)
    assert target_between(curves, share=0.25) == pytest.approx(start + 0.25 * (best - start))


def test_bad_curves_are_refused():
    for samples, values in (([0, 1], [0.0]), ([], []), ([0, 0], [0.0, 1.0]), ([0, 1], [0.0, np.nan])):
        with pytest.raises(ValueError, match="samples"):
            samples_to(samples, values, 0.5)
    with pytest.raises(ValueError, match="no algorithm rises"):
        target_between({"a": [[1.0, 0.5]]})

"""How many samples a curve of utility has cost: what algorithms are compared by."""

from collections.abc import Mapping, Sequence

import numpy as np


def samples_to(samples: Sequence[float], values: Sequence[float], target: float) -> float | None:
    """Return after how many samples the values first reach target, or None where they never do.

        s = s_i-1 + (s_i - s_i-1) (target - u_i-1) / (u_i - u_i-1),   i the first with u_i >= target

    Between two measurements the curve is a straight line; samples[0] where it starts at or above target. samples:
    how many had been drawn at each measurement, rising; values: measured then. A noisy curve touches a target earlier
    than its mean does.

    Raises ValueError for lengths that differ, no measurements, samples that do not rise, numbers that are not finite.

    Source: linear interpolation [standard].
    Test: tests/rlhf/test_measures.py::test_samples_to_by_hand
    """
    samples, values = np.asarray(samples, float), np.asarray(values, float)
    if samples.shape != values.shape or samples.ndim != 1 or not samples.size:
        raise ValueError(f"a curve needs as many samples as values, got shapes {samples.shape} and {values.shape}")
    if not (np.diff(samples) > 0).all() or not np.isfinite([*samples, *values, target]).all():
        raise ValueError(f"samples must rise and all numbers be finite, got samples {samples}, values {values}, "
                         f"target {target}")  # fmt: skip
    reached = np.flatnonzero(values >= target)
    if not reached.size:
        return None
    i = reached[0]
    if i == 0:
        return float(samples[0])
    share = (target - values[i - 1]) / (values[i] - values[i - 1])
    return float(samples[i - 1] + share * (samples[i] - samples[i - 1]))


def target_between(curves: Mapping[str, Sequence], share: float = 0.5) -> float:
    """Return the value that lies `share` of the way from the start to the best that any algorithm reached.

        start + share (max_a max_t mean_r u_art - start),   start = mean over all runs of the first value

    curves: of each algorithm a, values [seeds r, measurements t]. The best is that of the mean over seeds, so that a
    lucky seed sets no target. Raises ValueError for no curves, and where no algorithm rises above the start.

    Source: a target that all algorithms share [ours].
    Test: tests/rlhf/test_measures.py::test_target_by_hand
    """
    if not curves:
        raise ValueError("there is no curve to set a target by: give at least one")
    start = np.mean([first for runs in curves.values() for first in np.asarray(runs)[:, 0]])
    best = max(np.mean(runs, axis=0).max() for runs in curves.values())
    if not best > start:
        raise ValueError(f"no algorithm rises above the start, {start:.4g}: there is no target to reach")
    return float(start + share * (best - start))

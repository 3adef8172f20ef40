"""How many samples a curve of utility has cost: what algorithms are compared by."""

from collections.abc import Mapping, Sequence

import numpy as np


def samples_to(
    samples: Sequence[float], values: Sequence[float], target: float
) -> float | None:
    """Return after how many samples the values first reach target, or None if never.

        s = s_i-1 + (s_i - s_i-1) (target - u_i-1) / (u_i - u_i-1)

    i: the first with u_i >= target. samples: how many had been drawn at each measurement.
    A noisy curve touches a target earlier than its mean does. Raises ValueError unless the
    samples rise, with a finite value for each.

    Source: linear interpolation [standard].
    Test: tests/rlhf/test_bandit.py::test_samples_to_by_hand
    """
    if not (
        len(samples) == len(values) > 0
        and (np.diff(samples) > 0).all()
        and np.isfinite([*samples, *values, target]).all()
    ):
        raise ValueError(
            f"samples must rise, with a finite value for each: got samples {samples}, values {values}"
        )
    reached = np.flatnonzero(np.asarray(values) >= target)
    if not reached.size:
        return None
    ends = slice(max(reached[0] - 1, 0), reached[0] + 1)  # of the line across it
    return float(np.interp(target, values[ends], samples[ends]))


def target_between(curves: Mapping[str, Sequence], share: float = 0.5) -> float:
    """Return the value `share` of the way from the start to the best that any reached.

        start + share (max_a max_t mean_r u_art - start),   start = mean of the first values

    curves: of each algorithm a, values [seeds r, measurements t]. The best is that of the
    mean over seeds. Raises ValueError where no algorithm rises above the start.
    """
    start = np.mean([first for runs in curves.values() for first in np.asarray(runs)[:, 0]])
    best = max(np.mean(runs, axis=0).max() for runs in curves.values())
    if not best > start:
        raise ValueError(
            f"no algorithm rises above the start, {start:.4g}: there is no target to reach"
        )
    return float(start + share * (best - start))

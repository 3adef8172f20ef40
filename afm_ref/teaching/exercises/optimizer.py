"""Chapter 2's exercise on the optimizer: one step of Apple's update for one block."""

import math

import numpy as np

from .registry import Case, exercise

B1, B2 = 0.95, 0.95


@exercise("2.3", "one step of Apple's update", "medium", 15)
def apple_step():
    """Go through the block weight by weight in plain floats, and again for each way to get it wrong."""
    rng, cases = np.random.default_rng((2, 3)), []
    for n, t, size in ((1, 1, 0.5), (3, 2, 0.01), (4, 7, 3.0)):
        w, m = rng.standard_normal((2, n))
        v = size**2 * rng.random(n) * (t > 1)
        m = 0.3 * m * (t > 1)
        g = size * rng.standard_normal(n)
        g[0] = 6 * size  # the clip has work to do in the later cases
        given = {"w": w, "g": g, "v": v, "m": m, "t": t, "s": 0.5, "rate": 0.1, "decay": 0.02}
        mistakes = (
            (_step(**given, decay_times_rate=True), "the decay is not multiplied by the learning rate here"),
            (_step(**given, scheduled_decay=False), "the schedule scales the decay as well"),
            (_step(**given, corrected=False), "the second moment starts at 0: divide it by 1 - b2^t"),
            (_step(**given, from_zero=True), "t counts from 1: after t steps the weight gathered is 1 - b2^t"),
            (_step(**given, over_gradient=True), "the momentum runs over the normalised update, not over the gradient"),
            (_step(**given, corrected_momentum=True), "Apple does not correct the momentum for its start at 0"),
            (_step(**given, clipped=False), "the block's RMS may be 1 at most: divide by max(1, rms)"),
            (_step(**given, by_norm=True), "clip by the RMS of the block, not by its norm"),
        )
        cases.append(Case(given, _step(**given), mistakes))
    return cases


def _step(w, g, v, m, t, s, rate, decay, *, decay_times_rate=False, scheduled_decay=True, corrected=True,
          from_zero=False, over_gradient=False, corrected_momentum=False, clipped=True, by_norm=False):  # fmt: skip
    """Return the rows new w, v, m; each keyword is one mistake."""
    n, given, powers = len(w), g, t - 1 if from_zero and t > 1 else t
    if over_gradient:
        m = g = [B1 * m[i] + (1 - B1) * g[i] for i in range(n)]
    v = [B2 * v[i] + (1 - B2) * given[i] * given[i] for i in range(n)]
    share = 1 - math.pow(B2, powers) if corrected else 1.0
    u = [g[i] / math.sqrt(v[i] / share) for i in range(n)]
    size = math.sqrt(sum(x * x for x in u) / (1 if by_norm else n))
    u = [x / max(1.0, size) for x in u] if clipped else u
    if not over_gradient:
        m = u = [B1 * m[i] + (1 - B1) * u[i] for i in range(n)]
    if corrected_momentum:
        u = [x / (1 - math.pow(B1, t)) for x in u]
    shrink = decay * (rate if decay_times_rate else 1.0) * (s if scheduled_decay else 1.0)
    return np.array([[w[i] - s * rate * u[i] - shrink * w[i] for i in range(n)], v, m])

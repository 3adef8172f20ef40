"""Exercises of chapters 4 and 5: windows, top-k."""

import math

import numpy as np

from .registry import bisect, exercise

WINDOWS = ((500_000.0, 8192, 32_768), (10_000.0, 2048, 16_384), (500_000.0, 256, 1024))


@exercise("4.1", "a base for a longer window", "easy", 10, WINDOWS, tolerance=1e-4)
def longer_base(base, T_train, T):
    """Bisect the base at which the pair that just completed a turn does so again."""
    turn = 2 * math.pi
    # the critical pair x of the old base, as a share of the head: 2 pi base^x = T_train
    critical = bisect(lambda x: turn * base**x < T_train, 0.0, 1.0)
    # the logarithm of the new base: 2 pi base'^x = T
    logarithm = bisect(lambda b: turn * math.exp(b * critical) < T, 0.0, 60.0)

    def powered(old, new):
        return base ** (math.log(new) / math.log(old))

    stretched = (
        "that stretches all pairs alike only in the slowest; the fast ones need no change"
    )
    before = "that is the window before: the reference is the one that was trained LAST with the old base"
    return math.exp(logarithm), {
        "wavelengths are 2 pi base^x: divide both windows by 2 pi": powered(T_train, T),
        stretched: base * T / T_train,
        "upside down: it should grow": powered(T / turn, T_train / turn),
        before: powered(T_train / 2 / turn, T / turn),
        "that is its logarithm": logarithm,
    }


SCORES = [
    (np.round(np.random.default_rng((2, F)).normal(size=F), 2), k, eps)
    for F, k, eps in ((4, 2, 0.5), (6, 1, 1.0), (9, 5, 0.2), (12, 4, 0.05))
]


@exercise("5.1", "the threshold of soft top-k", "medium", 15, SCORES)
def threshold(scores, k, eps):
    """Bisect the threshold, without sorting and without a count of the clipped."""

    def weights(a):
        return np.exp(np.minimum((scores + a) / eps, 0))

    a = bisect(
        lambda a: weights(a).sum() < k, -max(scores) - 60 * eps, 60 * eps - min(scores)
    )
    unclipped = eps * (np.log(k) - np.logaddexp.reduce(scores / eps))
    free = "that is right while nobody is clipped; here the largest weight would be above 1"
    limit = "that is minus the k-th largest score, the limit for eps -> 0"
    return a, {
        "the threshold a is asked, one number; these are the weights": weights(a),
        "the sign: a is added to the scores": -a,
        "a is in the units of the scores: times eps": a / eps,
        free: unclipped,
        limit: -np.sort(scores)[-k],
    }

"""Chapter 2's exercise on pruning: the threshold of the soft top-k."""

import numpy as np

from .registry import Case, exercise


@exercise("2.9", "the threshold of soft top-k", "medium", 15)
def threshold():
    """Bisect the threshold, without sorting and without a count of the clipped."""
    rng, cases = np.random.default_rng((2, 9)), []
    for F, k, eps in ((4, 2, 0.5), (6, 1, 1.0), (9, 5, 0.2), (12, 4, 0.05)):
        s = np.round(rng.normal(size=F), 2)
        a, z = _bisected(s, k, eps), s / eps
        unclipped = eps * (np.log(k) - np.logaddexp.reduce(z))
        inside = np.exp(np.minimum((s + a) / eps, 0))
        mistakes = (
            (inside, "the threshold a is asked, one number; these are the weights"),
            (-a, "the sign: a is added to the scores"),
            (a / eps, "a is in the units of the scores: times eps"),
            *([(unclipped, "that is right while nobody is clipped; here the largest weight would be above 1")]
              if abs(unclipped - a) > 1e-3 else []),
            (-np.sort(s)[-k], "that is minus the k-th largest score, the limit for eps -> 0"),
        )  # fmt: skip
        cases.append(Case({"scores": s, "k": k, "eps": eps}, a, mistakes))
    return cases


def _bisected(s, k, eps):
    low, high = -s.max() - 60 * eps, -s.min() + 60 * eps
    for _ in range(200):
        middle = (low + high) / 2
        total = np.exp(np.minimum((s + middle) / eps, 0)).sum()
        low, high = (middle, high) if total < k else (low, middle)
    return high

"""Best of n: what the largest of n rewards is worth, and rejection sampling."""

import math
from collections.abc import Sequence

import numpy as np

from .responses import Response


def expected_best(rewards, n: int, judged=None) -> float:
    """Return the mean of the best of n of the m samples given, over all ways to choose n of them.

        E = sum_i C(i - 1, n - 1) / C(m, n) v_(i),   i = 1 .. m by rising reward

    An unbiased estimate of the best of n fresh samples, from m >= n. v is the reward, or `judged`: another measure of
    the same samples, such as the true utility, when a reward does the choosing. Of equal rewards any may be the best,
    so they share the mean of their v. Raises ValueError unless 1 <= n <= m.

    Source: order statistics without replacement [standard].
    Test: tests/post_training/test_best_of_n.py::test_expected_best_is_the_mean_over_all_subsets
    """
    rewards = np.asarray(rewards, np.float64)
    values = rewards if judged is None else np.asarray(judged, np.float64)
    m = len(rewards)
    if rewards.ndim != 1 or values.shape != rewards.shape or not np.isfinite(rewards).all():
        raise ValueError(
            f"expected a list of finite rewards and as many judgements, got {rewards.shape}, {values.shape}"
        )
    if not 1 <= n <= m:
        raise ValueError(f"n must lie in 1 .. {m}, the number of samples, got {n}")
    _, group = np.unique(rewards, return_inverse=True)
    shared = (np.bincount(group, values) / np.bincount(group))[group]
    weights = [math.comb(i, n - 1) / math.comb(m, n) for i in range(m)]
    return float(np.dot(weights, shared[np.argsort(rewards, kind="stable")]))


def expected_maximum(quantile, n: int, points: int = 4096) -> float:
    """Return the mean of the largest of n independent draws from a distribution given by its quantile function.

        E[max] = integral_0^1 Q(t^(1/n)) dt

    by the midpoint rule. Uniform: n / (n + 1); exponential: 1 + 1/2 + ... + 1/n.

    Source: textbook (t = F(x)^n is uniform) [standard].
    Test: tests/post_training/test_best_of_n.py::test_expected_maximum_closed_forms
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    t = (np.arange(points) + 0.5) / points
    return float(np.mean(quantile(t ** (1 / n))))


def kl_of_best_of_n(n: int) -> float:
    """Return how far best-of-n moves a policy at most, in nats: KL(best of n || policy) <= log n - (n - 1) / n.

    Equality for rewards without ties and responses without repetition.

    Source: Stiennon et al. 2020; a bound by Beirami et al. 2024 [standard].
    Test: tests/post_training/test_best_of_n.py::test_divergence_is_bounded_and_reaches_its_bound
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    return math.log(n) - (n - 1) / n


def rejection_sample(
    prompts: Sequence[str], groups: Sequence[Sequence[Response]], rewards, threshold: float = -math.inf
) -> list[tuple[str, Response]]:
    """Return (prompt, its response of highest reward) for SFT; of equal ones the first.

    A prompt whose best reward is below the threshold is left out. Raises ValueError for a prompt without responses and
    for a reward that is not a number.

    Source: TR24 section 4 (rejection sampling) [confirmed]; the threshold [ours].
    Test: tests/post_training/test_best_of_n.py::test_rejection_sampling_by_hand
    """
    kept = []
    for prompt, group, values in zip(prompts, groups, rewards, strict=True):
        if not len(group) or len(values) != len(group) or np.isnan(values).any():
            raise ValueError(f"{prompt[:40]!r}: {len(group)} responses and rewards {values}: give one number for each")
        best = int(np.argmax(values))
        if values[best] >= threshold:
            kept.append((prompt, group[best]))
    return kept

"""From rewards to advantages, in NumPy, once an iteration: no gradient goes through them.

Rewards are [P, n]: P prompts, n responses to each.
"""

import numpy as np

from .._typing import Array, Float
from ..ops import wide


def penalised_reward(rewards, log_probs, reference, beta: float):
    """Return the reward that online RL maximises, less beta for each nat off the reference.

        R(x, y) = r(x, y) - beta log(pi(y|x) / pi_ref(y|x))

    log_probs, reference: log pi(y|x) and log pi_ref(y|x) of whole responses, in nats.

    Source: TR24 section 4 [confirmed].
    Test: tests/rlhf/test_bandit.py::test_penalised_reward_is_the_objective
    """
    rewards, log_probs, reference = (
        wide(np.asarray(x)) for x in (rewards, log_probs, reference)
    )
    return rewards - beta * (log_probs - reference)


def none(rewards) -> Float[Array, "P n"]:
    """Return the rewards as they are: REINFORCE without a baseline.

    Source: Williams 1992 [standard].
    Test: tests/rlhf/test_bandit.py::test_advantages_by_hand
    """
    return _checked(rewards, 1)


def mean_baseline(rewards) -> Float[Array, "P n"]:
    """Return R_i - mean R: (n - 1) / n of the leave-one-out advantage, and so biased.

    Source: a common baseline [standard].
    Test: tests/rlhf/test_bandit.py::test_advantages_by_hand
    """
    rewards = _checked(rewards, 2)
    return rewards - rewards.mean(axis=1, keepdims=True)


def leave_one_out(rewards) -> Float[Array, "P n"]:
    """Return each reward less the mean of the other n - 1 of its prompt.

        A_i = R_i - 1/(n-1) sum_{j != i} R_j = n/(n-1) (R_i - mean R)

    The others know nothing of y_i, so the gradient stays unbiased without a critic.

    Source: TR24 section 4 [confirmed]; Kool et al. 2019 [standard].
    Test: tests/rlhf/test_bandit.py::test_leave_one_out_is_unbiased
    """
    rewards = _checked(rewards, 2)
    n = rewards.shape[1]
    return n / (n - 1) * (rewards - rewards.mean(axis=1, keepdims=True))


def standardised(rewards, epsilon: float = 1e-4) -> Float[Array, "P n"]:
    """Return GRPO's advantages: deviations in units of the group's standard deviation.

        A_i = (R_i - mean R) / (s + epsilon),   s^2 = 1/(n-1) sum_j (R_j - mean R)^2
        |A_i| <= (n-1) / sqrt(n)

    Rewards that differ by noise alone give advantages as large as those that differ in
    earnest. epsilon, TRL's, keeps rounding errors of equal rewards from doing the same.

    Source: Shao et al. 2024 (DeepSeekMath) [standard]; epsilon and n - 1 as in TRL
        [standard].
    Test: tests/rlhf/test_bandit.py::test_standardised_is_bounded
    """
    rewards = _checked(rewards, 2)
    return mean_baseline(rewards) / (rewards.std(axis=1, ddof=1, keepdims=True) + epsilon)


def best_against_worst(rewards) -> Float[Array, "P n"]:
    """Return DPO's pair: 1 for a prompt's best response, -1 for its worst, 0 else.

    Source: best and worst of n as a pair [standard].
    Test: tests/rlhf/test_bandit.py::test_advantages_by_hand
    """
    rewards = _checked(rewards, 2)
    chosen = np.zeros_like(rewards)
    np.put_along_axis(chosen, rewards.argmax(axis=1, keepdims=True), 1.0, axis=1)
    np.put_along_axis(chosen, rewards.argmin(axis=1, keepdims=True), -1.0, axis=1)
    return np.where(np.ptp(rewards, axis=1, keepdims=True) > 0, chosen, 0.0)


def returns_to_go(
    rewards: Float[Array, " B"], log_ratios: Float[Array, "B T"], beta: float
) -> Float[Array, "B T"]:
    """Return what is still to come from each token on, [B, T]: the critic's targets.

        G_t = r - beta sum_{s >= t} log(pi_old(y_s|x, y_<s) / pi_ref(y_s|x, y_<s)),   G_1 = R

    log_ratios: 0 outside the response.

    Source: Ziegler et al. 2019, GAE with lambda = gamma = 1 [standard].
    Test: tests/rlhf/test_bandit.py::test_returns_to_go
    """
    to_go = np.cumsum(wide(log_ratios)[:, ::-1], axis=1)[:, ::-1]
    return rewards[:, None] - beta * to_go


def _checked(rewards, least: int):
    """Return the rewards as an array [P, n] of numbers, or raise ValueError."""
    rewards = np.asarray(rewards)
    if rewards.ndim != 2 or not rewards.size or not np.isfinite(rewards).all():
        raise ValueError(
            f"rewards must be finite numbers [prompts, n], got shape {rewards.shape}"
        )
    if rewards.shape[1] < least:
        raise ValueError(
            f"this advantage compares the n responses of a prompt: sample at least 2, got {rewards.shape}"
        )
    return wide(rewards) if rewards.dtype.kind == "f" else rewards.astype(np.float64)

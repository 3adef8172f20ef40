"""A bandit: MDLOO where every response can be listed, in closed form.

A policy is its log-probabilities [arms], in nats; an arm is a whole response to one prompt.
"""

import numpy as np

from .._typing import Array, Float

BASELINES = ("none", "true mean", "leave one out")


def normalised(scores) -> Float[Array, " arms"]:
    """Return log softmax of the scores.

    Source: textbook [standard].
    Test: tests/rlhf/test_bandit.py::test_one_step_is_the_maximiser
    """
    scores = np.asarray(scores, np.float64)
    shifted = scores - scores.max()
    return shifted - np.log(np.exp(shifted).sum())


def advantage(policy, reference, rewards, beta: float) -> Float[Array, " arms"]:
    """Return the true advantage of each arm, R - E_{y~pi} R, R = r - beta log(pi / pi_ref).

    Source: TR24 section 4 (R) [confirmed].
    Test: tests/rlhf/test_bandit.py::test_iterates_approach_the_fixed_point_by_the_factor
    """
    policy, reference, rewards = _float64(policy, reference, rewards)
    penalised = rewards - beta * (policy - reference)
    return penalised - np.exp(policy) @ penalised


def maximiser(policy, advantages, gamma: float) -> Float[Array, " arms"]:
    """Return the policy that one step of MDLOO aims at, log(pi_old exp(A / gamma) / Z).

        argmax_pi  sum_y pi(y) A(y) - gamma KL(pi || pi_old)

    Raises ValueError unless gamma is above 0.

    Source: mirror descent with the negative entropy [standard].
    Test: tests/rlhf/test_bandit.py::test_one_step_is_the_maximiser
    """
    if not gamma > 0:
        raise ValueError(
            f"gamma must be above 0, got {gamma}: without the trust region the best arm takes all at once"
        )
    return normalised(policy + np.asarray(advantages) / gamma)


def fixed_point(reference, rewards, beta: float) -> Float[Array, " arms"]:
    """Return what the iterations approach, log(pi_ref exp(r / beta) / Z), whatever gamma.

        argmax_pi  sum_y pi(y) r(y) - beta KL(pi || pi_ref)

    Raises ValueError unless beta is above 0.

    Source: KL-regularised control [standard].
    Test: tests/rlhf/test_bandit.py::test_fixed_point_stays_and_is_best
    """
    if not beta > 0:
        raise ValueError(
            f"beta must be above 0, got {beta}: without a penalty the best arm alone stays where it is"
        )
    return normalised(reference + np.asarray(rewards) / beta)


def iterates(
    policy, reference, rewards, beta: float, gamma: float, steps: int
) -> Float[Array, "iterations arms"]:
    """Return pi_0 .. pi_steps of exact MDLOO: each the maximiser under the one before.

        log(pi_new / pi*) = (1 - beta / gamma) log(pi_old / pi*) + a constant

    pi*: the fixed point.
    They converge for gamma > beta / 2: evenly for gamma >= beta, at once for gamma = beta,
    swinging below. At beta / 2 they swing for ever, and below that they diverge.
    """
    found = [normalised(policy)]
    for _ in range(steps):
        found.append(
            maximiser(found[-1], advantage(found[-1], reference, rewards, beta), gamma)
        )
    return np.stack(found)


def distance(policies, goal) -> Float[Array, "*iterations"]:
    """Return the largest difference of log(pi / goal) between two arms, in nats."""
    return np.ptp(policies - goal, axis=-1)


def policy_gradient(policy, rewards) -> Float[Array, " arms"]:
    """Return the gradient of E_{y~pi} R in the scores of a softmax policy: pi (R - E R).

    Source: textbook [standard].
    Test: tests/rlhf/test_bandit.py::test_variances_by_enumeration
    """
    policy, rewards = _float64(policy, rewards)
    p = np.exp(policy)
    return p * (rewards - p @ rewards)


def advantage_variance(policy, rewards, n: int) -> float:
    """Return the variance of one leave-one-out advantage, n/(n-1) Var R.

    Source: arithmetic [standard].
    Test: tests/rlhf/test_bandit.py::test_variances_by_enumeration
    """
    policy, rewards = _float64(policy, rewards)
    p = np.exp(policy)
    return n / (n - 1) * float(p @ (rewards - p @ rewards) ** 2)


def gradient_variance(policy, rewards, n: int, baseline: str = "leave one out") -> float:
    """Return the trace of the covariance of the gradient estimated from n samples.

        g_hat = 1/n sum_i (R_i - b_i) s_i,   s_i = grad log pi(y_i) = e_{y_i} - pi
        g = E[R s],   mu = E R

        none            b = 0     (E[R^2 |s|^2] - |g|^2) / n
        true mean       b = mu    (E[(R - mu)^2 |s|^2] - |g|^2) / n
        leave one out             true mean's + (Var R E|s|^2 + |g|^2) / (n (n - 1))

    Leave-one-out pays for guessing the true mean, the less the larger n; with mu = 0 there
    is nothing to gain by it. Raises ValueError for another baseline, and leave-one-out with
    n = 1.

    Source: variance of a U-statistic [standard].
    Test: tests/rlhf/test_bandit.py::test_variances_by_enumeration,
        tests/rlhf/test_bandit.py::test_leave_one_out_helps_here_and_not_there
    """
    if baseline not in BASELINES or (n < 2 and baseline == "leave one out"):
        raise ValueError(
            f"expected a baseline of {BASELINES}, the last with n of 2 or more, got {baseline!r}, n = {n}"
        )
    policy, rewards = _float64(policy, rewards)
    p = np.exp(policy)
    centred = rewards if baseline == "none" else rewards - p @ rewards
    squares = 1 - 2 * p + p @ p  # |s|^2 of each arm
    g = policy_gradient(policy, rewards)
    variance = (p @ (centred**2 * squares) - g @ g) / n
    if baseline == "leave one out":
        variance += (p @ centred**2 * (p @ squares) + g @ g) / (n * (n - 1))
    return float(variance)


def _float64(*arrays):
    return (np.asarray(array, np.float64) for array in arrays)

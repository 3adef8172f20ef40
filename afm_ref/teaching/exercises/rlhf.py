"""Chapter 11's exercises: leave-one-out, MDLOO's objective and step, a harmful baseline."""

import itertools
from functools import partial

import numpy as np

from .registry import exercise

# how far from 1 probabilities may add up: rounding errors of float64 stay far below
ONE = 1e-9
TIMES = 1.5  # 11.2: the variance with leave-one-out over that without a baseline


RNG = np.random.default_rng(8)
GROUPS = [(RNG.standard_normal(shape) + 3,) for shape in ((1, 2), (2, 3), (3, 4))]


@exercise("11.1", "leave one out", "easy", 5, GROUPS)
def leave_one_out(rewards):
    """Take each response out of its group and average what is left."""
    n = rewards.shape[1]
    expected = np.array(
        [[r - np.delete(row, i).mean() for i, r in enumerate(row)] for row in rewards]
    )
    others = rewards.sum(axis=1, keepdims=True) - rewards
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    std, sample_std = (rewards.std(axis=1, ddof=less, keepdims=True) for less in (0, 1))
    own = "each prompt has its own baseline: the mean goes over its n responses alone"
    return expected, {
        "that mean has the response itself in it: take the mean of the OTHER n - 1": centred,
        "the others are n - 1, not n": rewards - others / n,
        "dividing by the std is GRPO's; no std is asked": centred / std,
        "dividing by the std of n - 1 is GRPO's; no std is asked": centred / sample_std,
        "the others are right, but dividing by the std is GRPO's": expected / std,
        own: rewards - rewards.mean(),
        "the sign: a response better than the others has a positive advantage": -expected,
        "that is the baseline; the advantage is the reward less it": others / (n - 1),
    }


# each lists all responses of two policies: the mean over pi_old is the objective
LISTED = [
    (*np.log(RNG.dirichlet(np.full(n, 2.0), 2)), RNG.standard_normal(n), gamma)
    for n, gamma in ((2, 1.0), (4, 0.5), (5, 2.0))
]


@exercise("11.4", "MDLOO's objective", "medium", 15, LISTED)
def objective(log_probs, old_log_probs, advantages, gamma):
    """Take the divergence from its definition, Bregman's for h(p) = p log p."""
    A, p, q = advantages, np.exp(log_probs), np.exp(old_log_probs)
    D = (p * log_probs - q * old_log_probs - (old_log_probs + 1) * (p - q)) / q
    rho, log_rho = p / q, log_probs - old_log_probs
    expected = rho * A - gamma * D
    weight = "pi_old drew the responses: in the divergence, too, each has the weight rho"
    slope = "right on average, but with a slope of A - gamma at pi_old: add - rho + 1"
    return expected, {
        weight: rho * A - gamma * log_rho,
        "that is KL(pi_old || pi), the other way round": rho * A
        - gamma * (rho - 1 - log_rho),
        "that is k3, for samples from pi; these are from pi_old": rho * A
        - gamma * (1 / rho - 1 + log_rho),
        slope: rho * A - gamma * rho * log_rho,
        "a minus is missing: the divergence is a cost": rho * A + gamma * D,
        "the divergence is missing": rho * A,
        "gamma is missing: it multiplies the divergence": rho * A - D,
        "pi_old drew the responses: the advantage, too, has the weight rho": A - gamma * D,
        "the weight is rho itself, not its logarithm": log_rho * A - gamma * D,
        "rho is pi / pi_old, not pi_old / pi": A / rho
        - gamma * (1 - 1 / rho - log_rho / rho),
        "that is the loss; the objective is asked, which is ascended": -expected,
        "one number for each response is asked": expected.mean(),
    }


STARTS = [
    (np.log(RNG.dirichlet(np.full(n, 3.0))), RNG.standard_normal(n), gamma)
    for n, gamma in ((3, 1.0), (4, 0.3), (6, 3.0), (4, 1e-3))
]


@exercise("11.3", "one exact step", "medium", 15, STARTS)
def exact_step(policy_log_probs, advantages, gamma):
    """Let other policies, near and far, compete with the answer: none may be better."""
    old, A = policy_log_probs, advantages
    mistakes = {
        "divide by Z: subtract its logarithm": old + A / gamma,
        "pi_old is missing: the step starts from it": _normalised(A / gamma),
        "a large gamma makes a SHORT step: A / gamma": _normalised(old + gamma * A),
        "gamma is missing": _normalised(old + A),
        "the sign: the step is to raise the mean advantage": _normalised(old - A / gamma),
        "log-probabilities are asked": np.exp(_normalised(old + A / gamma)),
    }
    return None, mistakes, partial(_beaten, old=old, A=A, gamma=gamma)


def _beaten(got, old, A, gamma):
    """Return an empty text if `got` is a policy that no other beats, else what is wrong."""
    n = len(A)
    if got.shape != (n,) or not np.isfinite(got).all():
        return f"    expected finite log-probabilities of {n} arms (exp(A / gamma) may overflow)\n    got      {got}"
    total = np.exp(np.minimum(got, 9.0)).sum()
    if abs(total - 1) > ONE:
        return f"    expected log-probabilities: their exp add up to 1\n    got      {got}: add up to {total:.6g}"

    def value(policy):
        return (np.exp(policy) * (A - gamma * (policy - old))).sum(axis=-1)

    steps = np.repeat([1e-3, 0.03, 1.0, 10.0], 500)[:, None]
    others = _normalised(got + steps * np.random.default_rng(n).standard_normal((2000, n)))
    best = value(others).max()
    # float64 adds up to some 1e-15; a step of 1e-3 changes the value by gamma 1e-7
    if best <= value(got) + 1e-12:
        return ""
    return f"    expected a policy that no other beats, yet one reaches {best:.6g}\n    got      {value(got):.6g}"


def _normalised(scores):
    return scores - np.logaddexp.reduce(scores, axis=-1, keepdims=True)


@exercise("11.2", "where leave-one-out harms", "hard", 20, ((2,), (3,), (4,)))
def rewards_where_leave_one_out_hurts(n):
    """Go through every group of n responses, with its probability."""
    return None, {}, partial(_harmless, n=n)


def _harmless(got, n):
    """Return an empty text if leave-one-out gives TIMES the variance, else the fault."""
    if got.shape not in [(2, n) for n in range(3, 9)] or not np.isfinite(got).all():
        wanted = "two lists of numbers: probabilities and rewards of 3 to 8 arms"
        return f"    expected {wanted}\n    got      {got.tolist()}"
    p, rewards = got
    if p.min() <= 0 or abs(p.sum() - 1) > ONE or np.abs(rewards).max() > 10:
        return f"    expected probabilities above 0 with sum 1, rewards from -10 to 10\n    got      {got.tolist()}"
    groups = np.array([*itertools.product(range(len(p)), repeat=n)])
    drawn = rewards[groups]  # [groups, n]
    none = _variance(p, drawn, groups)
    # each less the mean of the others
    ours = _variance(p, drawn - drawn @ ((1 - np.eye(n)) / (n - 1)), groups)
    if ours > 0 and ours >= TIMES * none:
        return ""
    return (
        f"    expected at least {TIMES} times the variance without a baseline at n = {n}\n"
        f"    got      {ours:.4g} with leave-one-out, {none:.4g} without\n"
        f"    hint     the mean reward is {p @ rewards:.3g}: taking it away must help less than guessing it costs"
    )


def _variance(p, advantages, groups):
    """Return the total variance of 1/n sum_i A_i grad log pi(y_i) over all groups."""
    scores = np.eye(len(p))[groups] - p  # [groups, n, arms]
    estimates = (advantages[..., None] * scores).mean(axis=1)
    weights = p[groups].prod(axis=1)
    return weights @ ((estimates - weights @ estimates) ** 2).sum(axis=1)

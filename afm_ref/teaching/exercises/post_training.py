"""Chapter 10's exercises: soft labels, best of n, DPO over padded rows, a committee."""

import itertools
import math
from functools import partial

import numpy as np

from .registry import Case, arrays, bisect, exercise

LABELLED = arrays(
    ([1.0], [0.75]),
    ([2.0, -1.0, 0.3], [0.95, 0.85, 0.65]),
    ([4.0, -3.0], [0.6, 0.9]),
)


@exercise("10.1", "soft labels and where they rest", "easy", 10, LABELLED)
def soft_labels(margins, labels):
    """Cross-entropy of two coins, one in proportion to exp(reward), and bisection."""
    coin = np.exp([margins, np.zeros(len(margins))])  # [2, B]
    first, second = np.log(coin / coin.sum(axis=0))
    p = labels
    losses = -(p * first + (1 - p) * second)
    rest = np.array(
        [bisect(lambda x, p=p: 1 / (1 + math.exp(-x)) < p, -20.0, 20.0) for p in labels]
    )
    hard = "that is the loss of a hard label: the second order has the weight 1 - p"
    slope = "the other order counts as well: set the slope of the whole loss to zero"
    return [losses, rest], {
        hard: [-first, rest],
        "the other order counts as well, with the weight 1 - p": [-p * first, rest],
        "p goes with sigmoid(margin), not -margin": [-(p * second + (1 - p) * first), rest],
        "at the optimum sigmoid(margin) is p; the margin itself is asked": [losses, p],
        "the sign: a label above one half asks for a positive margin": [losses, -rest],
        slope: [losses, np.log(p)],
    }


SAMPLES = arrays(
    ([1.0, 4.5, 2.0], 2),
    ([0.3, -1.0, 2.0, 0.7, 0.1], 3),
    ([3.0, 1.0, 3.0, 2.0], 2),
    ([5.0, 2.0], 1),
)


@exercise("10.2", "the best of n from m samples", "medium", 15, SAMPLES)
def expected_best(rewards, n):
    """Go through all ways to choose n of them."""
    r = np.sort(rewards)
    replaced = np.mean([max(some) for some in itertools.product(rewards, repeat=n)])
    highest = "that is the mean of the n highest; asked is the mean of the highest of n"
    return np.mean([max(some) for some in itertools.combinations(rewards, n)]), {
        "that is the best of all m; asked is the mean best of n fresh samples": r[-1],
        "that uses n samples of m: average over all ways to choose n": max(rewards[:n]),
        highest: r[-n:].mean(),
        "a sample is not drawn twice: choose without replacement": replaced,
        "of every n only the highest counts": r.mean(),
    }


@exercise("10.3", "DPO over padded rows", "medium", 15)
def dpo():
    """Multiply probabilities token by token, and let two odds compete."""
    rng = np.random.default_rng((7, 3))
    for B, T, beta in ((1, 6, 1.0), (3, 9, 0.1), (2, 12, 0.5)):
        policy, reference = -rng.uniform(0.1, 3.0, (2, 2, B, T))
        starts = rng.integers(1, 3, (2, B))
        lengths = starts + rng.integers(1, T - 3, (2, B))
        rows = dict(policy=policy, reference=reference, starts=starts, lengths=lengths)
        given, whole, nothing = rows | {"beta": beta}, np.full_like(lengths, T), 0 * starts
        loss = partial(_dpo, **given)
        swapped = {name: of_both[::-1] for name, of_both in rows.items()}
        mistakes = {
            "padding counts: stop at the row's length": loss(lengths=whole),
            "the prompt counts: begin where the response begins": loss(starts=nothing),
            "prompt and padding count: only the response's tokens may": loss(
                starts=nothing, lengths=whole
            ),
            "the reference is missing: what counts is the ratio": loss(
                reference=0 * reference
            ),
            "index 0 is the chosen response, 1 the rejected one": loss(**swapped),
            "DPO sums over the response; IPO's other form takes means": loss(
                per_token=True
            ),
            "beta is missing: it multiplies the difference inside the sigmoid": loss(
                beta=1.0
            ),
            "beta multiplies the difference inside the sigmoid, not the loss": beta
            * loss(beta=1.0),
            "the mean over pairs is asked": B * loss(),
        }
        yield Case(given, loss(), mistakes)


def _dpo(policy, reference, starts, lengths, beta, per_token=False):
    losses = []
    for b in range(starts.shape[1]):
        odds = []
        for side in (0, 1):
            ratio, span = 1.0, range(starts[side, b], lengths[side, b])
            for t in span:
                ratio *= math.exp(policy[side, b, t]) / math.exp(reference[side, b, t])
            odds.append(ratio ** (beta / (len(span) if per_token else 1)))
        losses.append(math.log(sum(odds) / odds[0]))
    return sum(losses) / len(losses)


@exercise("10.4", "a committee on the budget of one teacher", "hard", 20)
def committee():
    """Go through prompts, members and samples one by one."""
    rng = np.random.default_rng((7, 4))
    for M, P, N in ((2, 1, 2), (2, 4, 6), (3, 5, 6)):
        # members differ by prompt
        rewards = rng.standard_normal((M, P, N)) + 2 * rng.standard_normal((M, P, 1))
        judged = np.tanh(0.5 * rewards + rng.standard_normal((M, P, N)))
        best, truly_best = (of.sum(axis=(1, 2)).argmax() for of in (rewards, judged))
        everyone, few = range(M), N // M

        def both(reward=rewards, value=judged, every=(everyone, few), one=([best], N)):
            return [_picked(reward, value, *pick) for pick in (every, one)]

        mistakes = {
            f"the budget: with {M} members each gives N / M samples": both(
                every=(everyone, N)
            ),
            "the budget: the one teacher gives all N samples": both(one=([best], few)),
            "the reward chooses, but what was chosen is measured by `judged`": both(
                value=rewards
            ),
            "nobody sees `judged` while choosing: the reward chooses": both(reward=judged),
            "the best teacher has the highest mean REWARD": both(one=([truly_best], N)),
            "the committee comes first": both()[::-1],
        }
        yield Case(dict(rewards=rewards, judged=judged), both(), mistakes)


def _picked(rewards, judged, members, samples):
    """Return the mean judged value of each prompt's highest reward among these samples."""
    total, prompts = 0.0, rewards.shape[1]
    for p in range(prompts):
        reward, value = -math.inf, 0.0
        for m, i in itertools.product(members, range(samples)):
            if rewards[m, p, i] > reward:
                reward, value = rewards[m, p, i], judged[m, p, i]
        total += value
    return total / prompts

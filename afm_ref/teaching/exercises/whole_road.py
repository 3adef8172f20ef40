"""Chapter 12's exercises: seeds, few prompts, and what an adapter weighs."""

import itertools
import math

from .registry import exercise

# 97.5% quantiles of Student's t with 1, 2, ... degrees of freedom, from a table
T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179)


@exercise("12.1", "how many seeds would tell?", "medium", 10,
          ((0.022, 0.0139), (0.1, 0.003), (0.01, 0.0139), (0.05, 0.05)))  # fmt: skip
def seeds_needed(change, deviation):
    """The first n of a table of t whose half-width is below the change."""

    def first(factors):
        halves = [t * deviation / math.sqrt(n) for n, t in enumerate(factors, 2)]
        return next(n for n, half in enumerate(halves, 2) if half < change)

    widths = [2 * t for t in T] + [3.92] * 100
    return first(T), {
        "1.96 is for many seeds; for a few the factor of t is larger": first([1.96] * 100),
        "the factor for n seeds has n - 1 degrees of freedom": first(T[1:]),
        "half the width, not the whole, lies on one side of the mean": first(widths),
    }


@exercise("12.2", "how often do a few prompts mislead?", "medium", 12,
          ((0.6, 0.5, 5), (0.9, 0.2, 3), (0.55, 0.5, 1)))  # fmt: skip
def misled(better, worse, n):
    """All outcomes of n prompts of both models, one by one."""
    tie = behind = 0.0
    for answers in itertools.product((0, 1), repeat=2 * n):
        ours, theirs = answers[:n], answers[n:]
        chances = [better if right else 1 - better for right in ours]
        chances += [worse if right else 1 - worse for right in theirs]
        tie += math.prod(chances) if sum(ours) == sum(theirs) else 0
        behind += math.prod(chances) if sum(ours) < sum(theirs) else 0
    return tie + behind, {
        "a tie misleads, too": behind,
        "this is how often they do NOT mislead": 1 - tie - behind,
        "this is how often there is a tie; the worse model may also be ahead": tie,
    }


@exercise("12.3", "what an adapter weighs", "easy", 6,
          ((16, 3.5), (16, 16), (8, 2), (1, 4)))  # fmt: skip
def smallest_width(rank, bits):
    """Try every width."""

    def first(share, factors=2):
        wide = itertools.count(1)
        return next(n for n in wide if factors * rank * n * 16 <= share * n * n * bits)

    return first(0.1), {
        "an adapter has two matrices": first(0.1, factors=1),
        "this is where both are of one size; a tenth is asked": first(1),
        "an adapter's values have 16 bits each": math.ceil(20 * rank / bits),
    }

"""Chapter 2's exercise on context lengthening: the RoPE base for a longer window."""

import math

import numpy as np

from .registry import Case, exercise


@exercise("2.5", "a base for a longer window", "easy", 10, tolerance=1e-4)
def longer_base():
    """Search for the base by bisection: at it, the pair that just completed a turn does so again in the new window."""
    cases = []
    for base, T_train, T in ((500_000.0, 8192, 32_768), (10_000.0, 2048, 16_384), (500_000.0, 256, 1024)):
        expected = _bisected(base, T_train, T)
        mistakes = (
            (base ** (math.log(T) / math.log(T_train)), "wavelengths are 2 pi base^x: divide both windows by 2 pi"),
            (base * T / T_train, "that stretches all pairs alike only in the slowest; the fast ones need no change"),
            (base ** (math.log(T_train / (2 * math.pi)) / math.log(T / (2 * math.pi))), "upside down: it should grow"),
            (base ** (math.log(T / (2 * math.pi)) / math.log(T_train / 2 / (2 * math.pi))),
             "that is the window before: the reference is the one that was trained LAST with the old base"),
            (math.log(expected), "that is its logarithm"),
        )  # fmt: skip
        cases.append(Case({"base": base, "T_train": T_train, "T": T}, np.array(expected), mistakes))
    return cases


def _bisected(base, T_train, T):
    low, high = 0.0, 1.0  # the critical pair x of the old base, as a share of the head: 2 pi base^x = T_train
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if 2 * math.pi * base**middle < T_train else (low, middle)
    critical, (low, high) = low, (0.0, 60.0)  # the logarithm of the new base: 2 pi base'^x = T
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if 2 * math.pi * math.exp(middle * critical) < T else (low, middle)
    return math.exp(low)

"""Exercises of chapter 4: windows and bases, epochs of a part, what a token sees, attention's share."""

import math

import numpy as np

from .registry import arrays, bisect, exercise

TURN = 2 * math.pi
BASES = ((500_000.0, 8192, 1e7), (10_000.0, 2048, 200_000.0), (500_000.0, 256, 1e6))


@exercise("4.1", "the window that a base serves", "easy", 10, BASES, tolerance=1e-4)
def window_of_base(base, T_train, new_base):
    """Bisect the share of a head's pairs that turned in training, and turn it again."""
    share = bisect(lambda x: TURN * base**x < T_train, 0.0, 1.0)
    exponent = math.log(new_base) / math.log(base)
    stretched = (
        "a base k times as large slows the LAST pair k times; look at the one at the border"
    )
    return TURN * new_base**share, {
        "a wavelength is 2 pi base^x, not base^x: divide by 2 pi, and multiply again": T_train
        ** exponent,
        "the 2 pi of the new wavelength is missing": new_base**share,
        "upside down: a larger base serves a longer window": TURN
        * (T_train / TURN) ** (1 / exponent),
        stretched: T_train * new_base / base,
    }


STAGES = arrays(
    ([4e6, 1e6, 2e6], [0.5, 0.2, 0.3], 1.0),
    ([4e6, 1e6, 2e6], [0.8, 0.1, 0.1], 4.0),
    ([3e6, 5e5], [3.0, 1.0], 2.0),
    ([1e6, 1e3, 8e5], [1.0, 0.0, 3.0], 1.5),
)


@exercise("4.2", "the largest stage", "easy", 10, STAGES)
def largest_stage(tokens, weights, most_epochs):
    """Bisect the largest number of tokens at which no part has been read too often."""
    share = weights / weights.sum()

    def fits(total):
        return bool(np.all(share * total <= most_epochs * tokens))

    largest = bisect(fits, 0.0, 1e9)
    used = weights > 0
    limits = most_epochs * tokens[used] / share[used]
    return largest, {
        "that is the part that lasts longest; ask which is used up first": limits.max(),
        "weights need not sum to 1: divide by their sum": limits.min() / weights.sum(),
        "a part may be read `most_epochs` times": limits.min() / most_epochs,
        "a part with a small share is used up slowly: divide by its share": most_epochs
        * tokens[used].min(),
        "that uses up all parts, whatever their shares": most_epochs * tokens.sum(),
    }


WINDOWS = ((12, 4, 2), (20, 8, 3), (9, 4, 4), (7, 16, 8), (15, 5, 1))


@exercise("4.3", "what a token sees", "medium", 15, WINDOWS)
def tokens_seen(T, window, stride):
    """Lay out every window, and note where a token stands in the first that holds it."""
    first, last = {}, {}
    for start in range(0, T, stride):
        for place, t in enumerate(range(start, min(start + window, T))):
            first.setdefault(t, place)
            last[t] = place
    t = np.arange(T)
    return np.array([first[i] for i in range(T)], float), {
        "take the FIRST window that holds a token; that is the last": [
            last[i] for i in range(T)
        ],
        "the token itself is not before it: one less": [first[i] + 1 for i in range(T)],
        "windows move by `stride`, not by `window`": t % window,
        "that is so where windows move by one token": np.minimum(t, window - 1),
    }


MODELS = (
    (2_737_739_264, 26, 24, 128, 0.1),
    (2_737_739_264, 26, 24, 128, 0.5),
    (1_000_000, 4, 6, 32, 0.25),
)


@exercise("4.4", "attention's share of the FLOPs", "medium", 10, MODELS, tolerance=1e-4)
def window_of_share(n_parameters, n_layers, n_heads, head_dim, share):
    """Bisect the window at which attention is that share of a token's FLOPs."""

    def window(scale=1.0, of=lambda a, w: a / (a + w), layers=n_layers):
        def below(T):
            attention = scale * 6 * layers * n_heads * head_dim * T
            return of(attention, 6 * n_parameters) < share

        return bisect(below, 0.0, 1e8)

    return window(), {
        "a share of the whole: attention / (attention + weights)": window(
            of=lambda a, w: a / w
        ),
        "causal: a token asks half of the window on average, so 6 L N H T, not 12": window(
            2.0
        ),
        "every layer has its attention": window(layers=1),
        "both have the three passes: 6 a weight, and 6 L N H T": window(1 / 3),
        "that is for one pass of the weights and three of attention": window(3.0),
    }

"""Chapter 8's exercises: size, merging, a gradient, the rank needed, a cache."""

import math

import numpy as np

from .registry import arrays, exercise

RNG = np.random.default_rng(5)

ADAPTED = (
    ([(6, 4)], 2, 4),
    ([(3072, 3072), (1024, 3072)], 16, 2),
    ([(8, 8), (24, 8)], 1, 2),
)


@exercise("8.1", "the size of an adapter", "easy", 5, ADAPTED)
def adapter_bytes(shapes, rank, bytes_per_value):
    """Make the two matrices of every weight and count their entries."""
    width = bytes_per_value
    numbers = sum(np.zeros((rank, i)).size + np.zeros((o, rank)).size for o, i in shapes)
    return width * numbers, {
        "this counts numbers; bytes are asked": numbers,
        "this is the size of the matrices themselves, not of A and B": width
        * sum(o * i for o, i in shapes),
        "A and B lie beside each other: R in + R out, not R in out": width
        * sum(rank * o * i for o, i in shapes),
        "A has R rows of `in` numbers, and B has `out` rows of R": width
        * sum(rank * i for _, i in shapes),
    }


MERGED = [
    (*map(RNG.standard_normal, ((o, i), (rank, i), (o, rank))), alpha)
    for o, i, rank, alpha in ((3, 3, 1, 2.0), (4, 6, 2, 16.0), (7, 5, 3, 1.5))
]


@exercise("8.2", "merge", "easy", 5, MERGED)
def merge(w, a, b, alpha):
    """Add up outer products: column r of B with row r of A."""
    rank = len(a)
    change = sum(np.outer(b[:, r], a[r]) for r in range(rank))
    stabilised = "that is rank-stabilised LoRA; here the scale is alpha / R"
    return w + alpha / rank * change, {
        "the product is scaled by alpha / R": w + change,
        "the scale is alpha / R; R is the number of rows of A": w + alpha * change,
        stabilised: w + alpha / math.sqrt(rank) * change,
        "this is only what is added: W0 is missing": alpha / rank * change,
    }


BACKWARD = [
    (*map(RNG.standard_normal, ((rank, i), (n, i), (n, o))), scale)
    for n, o, i, rank, scale in ((1, 2, 3, 1, 1.0), (5, 4, 6, 2, 0.5), (7, 3, 3, 3, 2.0))
]


@exercise("8.3", "the gradient of B", "medium", 15, BACKWARD)
def gradient_of_b(a, x, g, scale):
    """Differentiate entry by entry: y is linear in B, so a step of one gives the slope."""
    expected = np.zeros((g.shape[1], len(a)))
    for o, r in np.ndindex(expected.shape):
        step = np.zeros_like(expected)
        step[o, r] = 1.0
        expected[o, r] = (g * (scale * x @ a.T @ step.T)).sum()
    turned = "this is [R, out]; a gradient has the shape of what it belongs to, B: [out, R]"
    averaged = "the loss's gradient g already says how rows are averaged: sum over them"
    return expected, {
        "the scale multiplies B A x, so it multiplies the gradient too": expected / scale,
        turned: expected.T,
        averaged: expected / len(x),
    }


SPECTRA = arrays(
    ([4.0, 3.0, 1.0, 0.5], 0.5),
    ([5.0, 0.1, 0.1], 0.05),
    ([2.0, 2.0, 2.0, 2.0, 1.0], 0.6),
)


@exercise("8.4", "how large a rank?", "medium", 10, SPECTRA)
def rank_needed(singular_values, tolerance):
    """Build a matrix with these singular values, cut it to each rank, see what is left."""
    s = singular_values

    def error(rank):
        left = np.diag(s)[rank:]
        return np.linalg.norm(left) / np.linalg.norm(s)

    def by_share(of):
        return int(np.searchsorted(np.cumsum(of) / of.sum(), 1 - tolerance) + 1)

    return next(r for r in range(len(s) + 1) if error(r) <= tolerance), {
        "the error is the root of the sum of SQUARES left out": by_share(s),
        "all that is left out counts together, not the next value alone": int(
            np.argmax(s <= tolerance * s[0])
        ),
        "the tolerance is for the norm; the share of squares that may be left out is its square": by_share(
            s**2
        ),
    }


REQUESTS = (
    ([*"abab"], {"a": 2, "b": 3}, 5),
    ([*"abcabc"], {"a": 1, "b": 1, "c": 1}, 2),
    ([*"aabacabdacb"], {"a": 2, "b": 1, "c": 3, "d": 2}, 5),
    ([*"abcdbaecbdaeabba"], dict.fromkeys("abcde", 1), 3),
)


@exercise("8.5", "how often is the disk read?", "hard", 20, REQUESTS)
def loads(requests, sizes, budget):
    """Keep the time of each adapter's last use, and throw out the oldest."""
    expected = _loads(requests, sizes, budget)
    first_in = _loads(requests, sizes, budget, refresh=False)
    return expected, {
        "a hit makes an adapter the most recently used; you throw out the one that was loaded first": first_in,
        "an adapter that was thrown out must be read again": len(set(requests)),
        "an adapter that is still in memory is not read again": len(requests),
        "these are the hits; the loads are asked": len(requests) - expected,
    }


def _loads(requests, sizes, budget, refresh=True):
    used, count = {}, 0
    for time, name in enumerate(requests):
        hit = name in used
        if not hit:
            count += 1
            while sum(sizes[n] for n in used) + sizes[name] > budget:
                del used[min(used, key=used.get)]
        if refresh or not hit:
            used[name] = time
    return count

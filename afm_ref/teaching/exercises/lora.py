"""Chapter 8's exercises: a rank that fits, the rank needed, two adapters as one, a cache."""

from functools import partial

import numpy as np

from .registry import Case, arrays, exercise

RNG = np.random.default_rng(5)

FITTING = (
    ([(6, 4)], 200, 4),
    ([(3072, 3072), (1024, 3072)], 700_000, 2),
    ([(8, 8), (24, 8)], 96, 2),
)


@exercise("8.1", "the rank that fits", "easy", 5, FITTING)
def largest_rank(shapes, n_bytes, bytes_per_value):
    """Make the two matrices of every weight at rank 1, 2, ..., until they do not fit."""

    def largest(size):
        return next(r for r in range(10**6) if size(r + 1) > n_bytes)

    width = bytes_per_value

    def beside(rank):
        return width * sum(
            np.empty((rank, i)).size + np.empty((o, rank)).size for o, i in shapes
        )

    return largest(beside), {
        "the budget is in bytes, and each number takes bytes_per_value of them": largest(
            lambda r: beside(r) / width
        ),
        "round down: one rank more does not fit": largest(beside) + 1,
        "A and B lie beside each other: R in + R out, not R in out": largest(
            lambda r: width * r * sum(o * i for o, i in shapes)
        ),
        "A has R rows of `in` numbers, and B has `out` rows of R": largest(
            lambda r: width * r * sum(i for _, i in shapes)
        ),
    }


SPECTRA = arrays(
    ([4.0, 3.0, 1.0, 0.5], 0.5),
    ([5.0, 0.1, 0.1], 0.05),
    ([2.0, 2.0, 2.0, 2.0, 1.0], 0.6),
)


@exercise("8.2", "how large a rank?", "medium", 10, SPECTRA)
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


PAIRS = [
    (*map(RNG.standard_normal, ((p, i), (o, p), (q, i), (o, q))), alpha)
    for o, i, p, q, alpha in ((3, 4, 1, 1, 2.0), (4, 6, 2, 1, 16.0), (5, 5, 1, 3, 8.0))
]


@exercise("8.3", "two adapters as one", "medium", 15)
def combine():
    """Add up what both add, outer product by outer product; any one adapter of the sum of
    the ranks that adds the same is right.
    """
    for a1, b1, a2, b2, alpha in PAIRS:
        added = [alpha / len(a) * _product(a, b) for a, b in ((a1, b1), (a2, b2))]
        arguments = dict(a1=a1, b1=b1, a2=a2, b2=b2, alpha=alpha)
        rank = len(a1) + len(a2)
        judge = partial(_adds, sum(added), rank, alpha)
        plain = _stack(np.concatenate([a1, a2]), np.concatenate([b1, b2], axis=1))
        mistake = (
            "with the ranks added, alpha / R is another scale for both: make up for it"
        )
        yield Case(arguments, plain, {mistake: plain}, judge)


def _product(a, b):
    return sum(np.outer(b[:, r], a[r]) for r in range(len(a)))


def _stack(a, b):
    return np.concatenate([a, b.T], axis=1)


def _adds(wanted, rank, alpha, got):
    """Return what is wrong with [R, in + out] as an adapter that adds `wanted` [out, in]."""
    shape, in_dim = (rank, sum(wanted.shape)), wanted.shape[1]
    if got.shape != shape:
        return (
            f"    expected an array of shape {shape}\n    got      one of shape {got.shape}"
        )
    off = np.abs(alpha / rank * _product(got[:, :in_dim], got[:, in_dim:].T) - wanted).max()
    if off <= 1e-9 * np.abs(wanted).max():
        return ""
    return f"    expected one that adds what both add\n    got      one that is off by up to {off:.3g}"


REQUESTS = (
    ([*"abab"], {"a": 2, "b": 3}, 5),
    ([*"abcabc"], {"a": 1, "b": 1, "c": 1}, 2),
    ([*"aabacabdacb"], {"a": 2, "b": 1, "c": 3, "d": 2}, 5),
    ([*"abcdbaecbdaeabba"], dict.fromkeys("abcde", 1), 3),
)


@exercise("8.4", "how often is the disk read?", "hard", 20, REQUESTS)
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

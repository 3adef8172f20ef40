"""Bands: which pairs of signatures are looked at, without looking at all pairs, and how many are missed.

A signature is cut into b bands of r entries. Two documents are candidates if all entries of at least one band are
equal: then they share a key, and a table of keys finds them. A candidate counts as a near-duplicate if the sketches of
the two signatures also say so.
"""

import functools
import math

import numpy as np

from .signatures import mixed


def band_keys(signatures: np.ndarray, bands: int, rows: int) -> np.ndarray:
    """Return a 64-bit key of each band of `rows` entries: uint64 [..., bands] of signatures [..., permutations].

    Two documents are candidates if they share a key. The band's number is part of the key, so that one table holds all
    bands. The entries beyond bands x rows are not used. Raises ValueError if there are fewer.

    Source: banding, as in Leskovec et al., Mining of Massive Datasets, section 3.4 [standard].
    Test: tests/curation/test_index.py::test_candidates_are_those_of_datasketch
    """
    *several, n = signatures.shape
    if bands < 1 or rows < 1 or bands * rows > n:
        raise ValueError(f"{bands} bands of {rows} rows need {bands * rows} entries, a signature has {n}")
    table = signatures[..., : bands * rows].reshape(*several, bands, rows).astype(np.uint64)
    keys = np.broadcast_to(np.arange(bands, dtype=np.uint64), (*several, bands))
    for row in range(rows):
        keys = mixed(keys ^ table[..., row])
    return keys


def candidate_probability(s, bands: int, rows: int):
    """Return the probability that two documents of Jaccard similarity s share a band; s: a number or an array.

        P(candidate | s) = 1 - (1 - s^r)^b                 the S-curve; its middle is near s = (1/b)^(1/r)

    Source: Leskovec et al., Mining of Massive Datasets, section 3.4.2 [standard].
    Test: tests/curation/test_signatures.py::test_s_curve_equals_what_random_signatures_do
    """
    return 1 - (1 - np.asarray(s, np.float64) ** rows) ** bands


def removal_probability(s, bands: int, rows: int, permutations: int, least: int):
    """Return the probability that a pair of similarity s is a candidate and at least `least` bytes of sketches agree.

        q = s + (1 - s) / 256                              bytes agree
        P = P(count >= least) - sum_{k >= least} [z^k] ((1-q + q z)^r - s^r z^r)^b (1-q + q z)^(n - b r)

    The sum is over pairs none of whose bands agree. Exact for entries that agree independently of each other.

    Source: counting [ours].
    Test: tests/curation/test_signatures.py::test_s_curve_equals_what_random_signatures_do
    """
    return np.vectorize(lambda each: _removal(float(each), bands, rows, permutations, least), otypes=[float])(s)


def _removal(s, bands, rows, permutations, least):
    q = s + (1 - s) / 256
    band, entry = np.ones(1), np.array([1 - q, q])
    for _ in range(rows):
        band = np.convolve(band, entry)
    without = band.copy()
    without[-1] -= s**rows
    every, none = np.ones(1), np.ones(1)
    for _ in range(bands):
        every, none = np.convolve(every, band), np.convolve(none, without)
    for _ in range(permutations - bands * rows):
        every, none = np.convolve(every, entry), np.convolve(none, entry)
    return every[least:].sum() - none[least:].sum()


def least_agreeing(threshold: float, permutations: int) -> int:
    """Return how many bytes of two sketches must agree for an estimated similarity of at least the threshold.

    Source: as for `signatures.estimated_jaccard` [ours].
    Test: tests/curation/test_signatures.py::test_the_least_count_is_where_the_estimate_passes
    """
    return math.ceil(permutations * (1 / 256 + threshold * (1 - 1 / 256)) - 1e-9)


def areas(bands: int, rows: int, threshold: float) -> tuple[float, float]:
    """Return the two errors of an S-curve: the area under it below the threshold, and that above it beyond.

        false positives = int_0^t P ds        false negatives = int_t^1 (1 - P) ds

    Exact: P is a polynomial of degree b r, which Gauss-Legendre integrates with b r / 2 + 1 nodes.

    Source: as datasketch.MinHashLSH measures them [standard].
    Test: tests/curation/test_signatures.py::test_bands_are_those_of_datasketch
    """
    nodes, weights = _gauss(bands * rows // 2 + 1)  # on [-1, 1]
    below, above = threshold * (nodes + 1) / 2, threshold + (1 - threshold) * (nodes + 1) / 2
    positive = threshold / 2 * weights @ candidate_probability(below, bands, rows)
    negative = (1 - threshold) / 2 * weights @ (1 - candidate_probability(above, bands, rows))
    return float(positive), float(negative)


@functools.cache
def _gauss(n):
    return np.polynomial.legendre.leggauss(n)


def choose(threshold: float, permutations: int, false_negative_weight: float = 0.5) -> tuple[int, int]:
    """Return the (bands, rows) of the least weighted error that fit into a signature.

        (1 - w) false positives + w false negatives,       b r <= permutations

    Where candidates are verified, a false positive costs a comparison and a false negative stays in the corpus: weigh
    the latter more. Raises ValueError for a threshold or weight outside (0, 1) and for no permutations.

    Source: datasketch.MinHashLSH at w = 0.5 [standard]; other weights [ours].
    Test: tests/curation/test_signatures.py::test_bands_are_those_of_datasketch
    """
    for name, value in (("threshold", threshold), ("false_negative_weight", false_negative_weight)):
        if not 0 < value < 1:
            raise ValueError(f"{name} must be between 0 and 1, got {value}")
    if permutations < 1:
        raise ValueError(f"a signature has at least 1 entry, got permutations = {permutations}")
    fits = [(b, r) for b in range(1, permutations + 1) for r in range(1, permutations // b + 1)]

    def error(shape):
        positive, negative = areas(*shape, threshold)
        return (1 - false_negative_weight) * positive + false_negative_weight * negative

    return min(fits, key=error)

"""Near-duplicates: which of all pairs of documents are compared, how many are missed, and
who goes.

A signature of `minhash` is cut into b bands of r entries. Two documents are candidates if
all entries of at least one band are equal: then they share a key. A candidate counts as a
near-duplicate if the sketches of the two signatures also say so, and the earlier document
stays.
"""

import functools
import math
from collections.abc import Iterable

import numpy as np

from .minhash import mixed

# documents of one key that are compared: boilerplate must not make this quadratic
OWNERS = 8
MOST_PARTS = 256  # of the keys, however little memory there is


def band_keys(signatures: np.ndarray, bands: int, rows: int) -> np.ndarray:
    """Return a 64-bit key of each band of `rows` entries: [..., permutations] -> uint64
    [..., bands].

    Two documents are candidates if they share a key, of which the band's number is a part.
    Entries beyond bands x rows are not used. Raises ValueError if there are fewer.

    Source: banding, as in Leskovec et al., Mining of Massive Datasets, section 3.4
        [standard].
    Test: tests/curation/test_near_duplicates.py::test_candidates_are_those_of_datasketch
    """
    *several, n = signatures.shape
    if bands < 1 or rows < 1 or bands * rows > n:
        raise ValueError(
            f"{bands} bands of {rows} rows need {bands * rows} entries, a signature has {n}"
        )
    # [..., b, r]
    table = signatures[..., : bands * rows].reshape(*several, bands, rows).astype(np.uint64)
    keys = np.arange(bands, dtype=np.uint64)
    for row in range(rows):
        keys = mixed(keys ^ table[..., row])
    return keys


def candidate_probability(s, bands: int, rows: int):
    """Return the probability that two documents of Jaccard similarity s share a band; s:
    any shape.

        P(candidate | s) = 1 - (1 - s^r)^b                 the S-curve; its middle is near s = (1/b)^(1/r)

    Source: Leskovec et al., Mining of Massive Datasets, section 3.4.2 [standard].
    Test: tests/curation/test_near_duplicates.py::test_s_curve_equals_what_random_signatures_do
    """
    return 1 - (1 - np.asarray(s, np.float64) ** rows) ** bands


def removal_probability(s, bands: int, rows: int, permutations: int, least: int):
    """Return the probability that a pair of similarity s is a candidate whose sketches
    agree as well.

        q = s + (1 - s) / 256                              bytes agree; at least `least` of them must
        P = P(count >= least) - sum_{k >= least} [z^k] ((1-q + q z)^r - s^r z^r)^b (1-q + q z)^(n - b r)

    The sum is over pairs none of whose bands agree. Exact for entries that agree
    independently.
    """
    return np.vectorize(_removal, otypes=[float])(s, bands, rows, permutations, least)


def _removal(s, bands, rows, permutations, least):
    power = np.polynomial.polynomial.polypow
    q = s + (1 - s) / 256
    entry = [1 - q, q]
    band = power(entry, rows)
    band[rows] -= s**rows  # no band whose entries are all equal
    none = np.convolve(power(band, bands), power(entry, permutations - bands * rows))
    return power(entry, permutations)[least:].sum() - none[least:].sum()


def least_agreeing(threshold: float, permutations: int) -> int:
    """Return how many bytes of two sketches must agree for an estimated J of at least the
    threshold.

        J = (m - 1/256) / (1 - 1/256)    m the share of equal bytes, of others 1/256 being so by chance

    A sketch is the low byte of each entry of a signature.

    Source: b-bit minwise hashing (Li and Koenig 2010), b = 8 [standard].
    Test: tests/curation/test_near_duplicates.py::test_the_least_count_is_where_the_estimate_passes
    """
    return math.ceil(permutations * (1 / 256 + threshold * (1 - 1 / 256)) - 1e-9)


def areas(bands: int, rows: int, threshold: float) -> tuple[float, float]:
    """Return the two errors of an S-curve: the area under it below the threshold, and that
    above it beyond.

        false positives = int_0^t P ds        false negatives = int_t^1 (1 - P) ds

    Exact: P is a polynomial of degree b r, which Gauss-Legendre integrates with b r / 2 + 1
    nodes.

    Source: as datasketch.MinHashLSH measures them [standard].
    Test: tests/curation/test_near_duplicates.py::test_bands_are_those_of_datasketch
    """
    nodes, weights = _gauss(bands * rows // 2 + 1)  # on [0, 1]
    below, above = threshold * nodes, threshold + (1 - threshold) * nodes
    positive = threshold * weights @ candidate_probability(below, bands, rows)
    missed = 1 - candidate_probability(above, bands, rows)
    return positive, (1 - threshold) * weights @ missed


@functools.cache
def _gauss(n):
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return (nodes + 1) / 2, weights / 2


def choose_bands(
    threshold: float, permutations: int, false_negative_weight: float = 0.5
) -> tuple[int, int]:
    """Return the (bands, rows) of the least weighted error that fit into a signature.

        (1 - w) false positives + w false negatives,       b r <= permutations

    Where candidates are verified, a false positive costs a comparison and a false negative
    stays in the corpus: weigh the latter more. Raises ValueError for a threshold or weight
    outside (0, 1) and for no permutations.

    Source: datasketch.MinHashLSH at w = 0.5 [standard]; other weights [ours].
    Test: tests/curation/test_near_duplicates.py::test_bands_are_those_of_datasketch
    """
    weight = false_negative_weight
    for name, value in {"threshold": threshold, "false_negative_weight": weight}.items():
        if not 0 < value < 1:
            raise ValueError(f"{name} must be between 0 and 1, got {value}")
    if permutations < 1:
        raise ValueError(
            f"a signature has at least 1 entry, got permutations = {permutations}"
        )
    sizes = range(1, permutations + 1)
    fits = ((b, r) for b in sizes for r in sizes if b * r <= permutations)
    return min(fits, key=lambda fit: np.dot(areas(*fit, threshold), (1 - weight, weight)))


def entries(signatures: np.ndarray, bands: int, rows: int) -> np.ndarray:
    """Return what is kept of signatures [N, permutations], as an array [N] with two fields.

    keys: uint64 [bands], see `band_keys`; sketch: uint8 [permutations], the low byte of
    each entry.
    """
    fields = [("keys", np.uint64, (bands,)), ("sketch", np.uint8, signatures.shape[1:])]
    kept = np.empty(len(signatures), fields)
    kept["keys"] = band_keys(signatures, bands, rows)
    kept["sketch"] = signatures.astype(np.uint8)
    return kept


def originals(
    batches: Iterable[np.ndarray], least: int, memory_bytes: int = 2**28
) -> list[int | None]:
    """Return for each document the number of the one that it repeats, or None: it is new,
    and kept.

    batches: `entries` of documents 0, 1, ..., in order; they are gone through several
    times. A document repeats the first kept one of those with a key of its own, the first
    OWNERS of each key, whose sketch has at least `least` bytes like its own. A key that no
    other document has concerns nobody: those that occur twice are found with memory_bytes at
    a time. Held beyond that: 72 bytes for each of them, the sketches of kept documents that
    have one, and a number for each document.

    Source: global fuzzy deduplication by locality-sensitive hashing, TR24 section 3.1
        [confirmed]; this way [ours].
    Test: tests/curation/test_near_duplicates.py::test_candidates_are_those_of_datasketch,
        tests/curation/test_near_duplicates.py::test_decisions_equal_brute_force
    """
    # an end to stop at
    shared = np.append(repeated_keys(batches, memory_bytes), 2**64 - 1)
    # kept documents with each key; -1: none yet
    owners = np.full((len(shared), OWNERS), -1)
    sketches = {}
    found = []
    for batch in batches:
        places = np.searchsorted(shared, batch["keys"])  # [N, bands]
        is_shared = shared[places] == batch["keys"]
        for at, sketch in zip(map(np.compress, is_shared, places), batch["sketch"]):
            alike = (
                i
                for i in np.unique(owners[at]).tolist()
                if i >= 0 and np.count_nonzero(sketches[i] == sketch) >= least
            )
            original = next(alike, None)
            if original is None and len(at):
                sketches[len(found)] = sketch.copy()
                # of these keys there is room for one more owner
                at = at[owners[at, -1] < 0]
                owners[at, (owners[at] < 0).argmax(axis=1)] = len(found)
            found.append(original)
    return found


def repeated_keys(batches: Iterable[np.ndarray], memory_bytes: int) -> np.ndarray:
    """Return the keys that occur in two documents or more, in order, uint64 [keys].

    What sorting takes in memory is bounded by memory_bytes: beyond it keys are looked at in
    as many parts as it takes (MOST_PARTS at most), by their remainder.
    """
    # themselves, and in order
    size_bytes = 2 * sum(batch["keys"].nbytes for batch in batches)
    parts = max(1, min(MOST_PARTS, math.ceil(size_bytes / max(1, memory_bytes))))
    found = []
    for part in range(parts):
        flat = (batch["keys"].reshape(-1) for batch in batches)
        keys = [np.zeros(0, np.uint64), *(some[some % parts == part] for some in flat)]
        keys = np.concatenate(keys)
        keys.sort()
        found.append(np.unique(keys[1:][keys[1:] == keys[:-1]]))
        del keys  # before the next part is read
    return np.sort(np.concatenate(found))

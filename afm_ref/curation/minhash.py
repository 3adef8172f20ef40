"""MinHash: 128 numbers of a document that are as equal to another's as the two texts.

A document is the set of its shingles, runs of n words. Two documents' resemblance is the
Jaccard similarity J of their sets. Under a random order of all shingles the first of A and
the first of B are the same with probability J: each shingle of the union is as likely the
first as any other, and it is in both sets in J of the cases. A signature is the first
shingle's number under `permutations` such orders; the share of equal entries estimates J.
"""

import functools

import numpy as np

from ..data import overlap
from ..data.overlap import WORD

# shingles at a time: 256 kB with 128 permutations, which stays in a core's cache
BLOCK = 512
MULTIPLIER = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
PIECE = 1 << 18  # characters that are hashed at a time: 2 MB for each table of powers
PLANE = 1 << 16  # code points that the tables hold; a text with others takes the slow way
SPACE = 32
# the capitals whose lower case is two characters, or depends on what follows: Turkish I,
# Sigma
UNEVEN = "\u0130\u03a3"


def shingles(text: str, n: int = 5) -> np.ndarray:
    """Return a 32-bit hash of each run of n words, in order: uint32 [words - n + 1].

        h(w_i ... w_i+n-1) = top 32 bits of mix( sum_j r(c_j) m^j  mod 2^64 )

    over the characters c_j of the words (`overlap.words`), joined by single spaces, with
    random numbers r(c) and an odd m. A text of fewer than n words is one run; one without
    words has none. Raises ValueError for n below 1.

    Source: n-gram hashing for global fuzzy deduplication, TR24 section 3.1 [confirmed];
        words, n = 5 [ours].
    Test: tests/curation/test_near_duplicates.py::test_equal_runs_and_only_those_get_equal_hashes
    """
    if n < 1:
        raise ValueError(f"shingles have at least 1 word, got n = {n}")
    codes = _joined_words(text)
    if not len(codes):
        return np.zeros(0, np.uint32)
    spaces = np.flatnonzero(codes == SPACE)
    starts = np.append(0, spaces + 1)
    ends = np.append(spaces, len(codes))
    starts, ends = starts[: max(1, len(starts) - n + 1)], ends[min(n, len(ends)) - 1 :]
    return _hash_spans(codes, starts, ends)


def _joined_words(text):
    """Return the code points of a text's words, lower-cased and with one space between two."""
    text = overlap.normal(text)
    codes = _codes(text)
    if any(letter in text for letter in UNEVEN) or codes.max(initial=0) >= PLANE:
        return _codes(" ".join(WORD.findall(text)).lower())
    codes = _lower_table()[codes]  # what belongs to no word is a space
    kept = codes != SPACE
    kept[1:] |= kept[:-1]  # and so is the first space after each word
    codes = codes[kept]
    return codes[:-1] if len(codes) and codes[-1] == SPACE else codes


def _codes(text):
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


@functools.cache
def _lower_table():
    """Return the lower case of each code point of the first plane that may be in a word, a
    space for the others.
    """
    letters = map(chr, range(PLANE))
    return np.array(
        [ord(c.lower()) if WORD.match(c) and c not in UNEVEN else SPACE for c in letters],
        np.uint16,
    )


def _hash_spans(codes, starts, ends):
    """Return a 32-bit hash of each codes[start:end]: all are differences of one running
    sum.

    In pieces, so that the table of powers stays small.
    """
    if len(codes) <= PIECE:
        values, powers, inverses = _tables()
        is_tabled = codes.dtype == np.uint16
        terms = values[codes] if is_tabled else mixed(codes.astype(np.uint64))
        sums = np.append(np.uint64(0), np.cumsum(terms * powers[: len(codes)]))
        hashes = mixed((sums[ends] - sums[starts]) * inverses[starts])
        return (hashes >> 32).astype(np.uint32)
    if len(starts) == 1:  # a single run of enormous words: its beginning must do
        return _hash_spans(codes[starts[0] :][:PIECE], starts * 0, np.array([PIECE]))
    parts = zip(np.array_split(starts, 2), np.array_split(ends, 2))
    return np.concatenate(
        [_hash_spans(codes[s[0] : e[-1]], s - s[0], e - s[0]) for s, e in parts]
    )


@functools.cache
def _tables():
    """Return r of each code point of the first plane, the powers of m and of 1 / m modulo
    2^64.
    """
    factors = np.full((2, PIECE), MULTIPLIER, np.uint64)
    factors[1] = pow(MULTIPLIER, -1, 2**64)
    factors[:, 0] = 1
    return mixed(np.arange(PLANE, dtype=np.uint64)), *np.cumprod(factors, axis=1)


def mixed(x):
    """Return numbers that look random, different for different x: splitmix64's finalizer."""
    x = x + MULTIPLIER
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB
    return x ^ (x >> 31)


def signature(hashes: np.ndarray, permutations: int = 128) -> np.ndarray:
    """Return the MinHash signature of a set of 32-bit hashes: uint32 [permutations].

        s_k = min over h of (a_k fmix32(h) + b_k  mod 2^32)

    with odd a_k: each k is a bijection of the 32-bit numbers, which stands for a random
    order. They are those of `datasketch.MinHash` (scheme affine32) to the bit, so its tools
    can read them. Repeated hashes change nothing. Raises ValueError for no hashes: an empty
    set resembles nothing.

    Source: Broder 1997, as in datasketch.MinHash [standard].
    Test: tests/curation/test_near_duplicates.py::test_signatures_are_datasketchs
    """
    if not len(hashes):
        raise ValueError("a document without words has no signature")
    a, b = _permutations(permutations)
    mixed = _fmix32(hashes)[:, None]  # [shingles, 1]
    least = np.full(permutations, 2**32 - 1, np.uint32)
    for start in range(0, len(mixed), BLOCK):
        block = mixed[start : start + BLOCK] * a  # [shingles, permutations]
        block += b
        np.minimum(least, block.min(axis=0), out=least)
    return least


@functools.cache
def _permutations(n):
    """Return a and b of each permutation, drawn as datasketch draws them."""
    draw = np.random.RandomState(1)  # importing datasketch takes a second, for SciPy
    a = draw.randint(0, 2**31, n, dtype=np.uint32) * 2 + 1
    return a, draw.randint(0, 2**32, n, dtype=np.uint32)


def _fmix32(h):
    """Return MurmurHash3's finalizer of 32-bit numbers, as datasketch has it before its
    orders.
    """
    h = (h ^ (h >> 16)) * 0x85EBCA6B
    h = (h ^ (h >> 13)) * 0xC2B2AE35
    return h ^ (h >> 16)


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Return |A and B| / |A or B| of two sets of hashes, as arrays that may repeat; 0 of
    none.

    Source: the Jaccard index [standard].
    Test: tests/curation/test_near_duplicates.py::test_jaccard_equals_that_of_sets_of_words
    """
    return len(np.intersect1d(a, b)) / max(1, len(np.union1d(a, b)))

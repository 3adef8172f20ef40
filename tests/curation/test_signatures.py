"""Signatures and bands: against sets of words, datasketch, enumeration and random signatures."""

import unicodedata

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from afm_ref.curation import banding, signatures
from afm_ref.curation.settings import Settings
from afm_ref.data import overlap

WORDS = st.text(st.sampled_from("aB é_9,.\n\u0130\u03a3\U0001f600\U00010400\u4e2d"), max_size=40)


def runs(text, n):
    words = overlap.words(text)
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)] or ([tuple(words)] if words else [])


@given(st.lists(WORDS, min_size=1, max_size=6), st.integers(1, 4))
@example(["a b c", "A, b - C", "ab c", "a bc"], 2)
@example(["\u0130 a", "i a", "\u03a3\u0391\u03a3", "σας", "x \U00010400 y", "x \U00010428 y"], 1)
def test_equal_runs_and_only_those_get_equal_hashes(texts, n):
    """In order, over all texts together: the hash of a run is a name for it. (A collision has chance 2^-32 a pair.)"""
    pairs = {}
    for text in texts:
        hashes = signatures.shingles(text, n).tolist()
        assert len(hashes) == len(runs(text, n))
        for run, number in zip(runs(text, n), hashes, strict=True):
            assert pairs.setdefault(run, number) == number
    assert len(set(pairs.values())) == len(pairs)


def test_long_texts_are_hashed_in_pieces(monkeypatch):
    """Pieces change nothing, as long as one run fits into a piece."""
    text = " ".join(f"w{i * i % 97}" for i in range(3000))
    whole = signatures.shingles(text)
    monkeypatch.setattr(signatures, "PIECE", 1000)
    signatures._tables.cache_clear()
    pieces = signatures.shingles(text)
    assert (whole == pieces).all() and len(signatures.shingles("x" * 5000)) == 1
    signatures._tables.cache_clear()


def test_hashes_spread():
    """In 64 equal bins of the range, 20,000 hashes of similar runs are as even as chance: chi^2 of 63, sd 11.2."""
    hashes = signatures.shingles(" ".join(map(str, range(20_004))))
    counts = np.bincount(hashes >> np.uint32(26), minlength=64)
    assert len(np.unique(hashes)) >= len(hashes) - 3  # 0.05 collisions are expected
    assert 63 - 4 * 11.2 < ((counts - 312.5) ** 2 / 312.5).sum() < 63 + 4 * 11.2


@pytest.mark.parametrize("n", [1, 511, 513, 1500])
def test_signatures_are_datasketchs(n):
    from datasketch import MinHash

    hashes = np.random.default_rng(n).integers(0, 2**32, n, np.uint32)
    theirs = MinHash(128, hashfunc=int, scheme="affine32")
    theirs.update_batch(hashes.tolist())
    ours = signatures.signature(hashes)
    assert (ours == theirs.digest()).all() and (ours == signatures.signature(np.tile(hashes, 2)[::-1])).all()


@pytest.mark.parametrize(("both", "a", "b"), [(2, 2, 1), (1, 1, 1), (9, 1, 0), (40, 30, 30)])
def test_the_chance_of_equal_minima_is_the_similarity(both, a, b):
    """The equal entries of 400 pairs are Binomial(128, J): mean 128 J, variance 128 J (1 - J), each within 4 errors.

    The variance is that of independent orders. A variance of n draws has the relative error sqrt(2 / n), for binomial
    draws this near to normal.
    """
    rng, pairs, J = np.random.default_rng(0), 400, both / (both + a + b)
    equal = []
    for _ in range(pairs):
        pool = rng.integers(0, 2**32, both + a + b, np.uint32)
        sides = pool[: both + a], np.concatenate([pool[:both], pool[both + a :]])
        equal.append(np.equal(*map(signatures.signature, sides)).sum())
    variance = 128 * J * (1 - J)
    assert abs(np.mean(equal) - 128 * J) < 4 * np.sqrt(variance / pairs)
    assert abs(np.var(equal, ddof=1) / variance - 1) < 4 * np.sqrt(2 / pairs)


def test_estimates_are_unbiased():
    """The mean of 300 estimates at J = 1/3, 0.6 and 0 is within 4 standard errors of J; sketches of 128 bytes."""
    rng = np.random.default_rng(0)
    for both, each in ((100, 100), (150, 50), (0, 100)):
        J = both / (both + 2 * each)
        found = []
        for _ in range(300):
            pool = rng.integers(0, 2**32, both + 2 * each, np.uint32)
            sides = pool[: both + each], np.concatenate([pool[:both], pool[both + each :]])
            found.append(signatures.estimated_jaccard(*(signatures.sketch(signatures.signature(s)) for s in sides)))
        q = J + (1 - J) / 256
        assert abs(np.mean(found) - J) < 4 * np.sqrt(q * (1 - q) / 128 / 300) * 256 / 255


def test_jaccard_equals_that_of_sets_of_words():
    a, b = "the cat sat on the mat and ran", "the cat sat on the mat and slept. The cat sat on the mat"
    one, two = set(runs(a, 5)), set(runs(b, 5))
    got = signatures.jaccard(signatures.shingles(a), signatures.shingles(b))
    assert got == len(one & two) / len(one | two) and 0 < got < 1
    assert signatures.jaccard(signatures.EMPTY, signatures.EMPTY) == 0


@pytest.mark.parametrize("more", ["", " \U0001f600 ends it"], ids=["table", "slow way"])
def test_a_copy_in_another_form_of_unicode_has_the_same_shingles(more):
    """Accents as characters of their own, as files from a Mac have them; ligatures, as text of a PDF has them; and
    what is not seen at all: soft hyphens, places where a line may end, marks of joined files.
    """
    text = "Über größere Hügel führte die schöne Straße, vorbei an offenen Gärten und Häusern, bis zum Fluß" + more
    unseen = text.replace("gr", "g\u00adr").replace("ch", "c\u200bh").replace("rt", "r\u2060t")
    for other in (
        unicodedata.normalize("NFD", text), text.replace("ff", "\ufb00"), text.replace(" ", "\xa0"), unseen,
        "\ufeff" + text.replace("ö", "ö\ufeff"),
    ):  # fmt: skip
        assert other != text
        assert signatures.shingles(other).tolist() == signatures.shingles(text).tolist()
    assert signatures.jaccard(signatures.shingles(text), signatures.shingles(text.replace("Ü", "U"))) < 1


def test_s_curve_equals_what_random_signatures_do():
    """Signatures whose 20 entries agree with chance s, 20,000 times: within 4 standard errors of both closed forms."""
    bands, rows, n, least, trials = 6, 3, 20, 15, 20_000
    rng = np.random.default_rng(0)
    for s in (0.5, 0.7, 0.9):
        equal = rng.random((trials, n)) < s
        bytes_equal = equal | (rng.random((trials, n)) < 1 / 256)
        candidate = equal[:, : bands * rows].reshape(trials, bands, rows).all(axis=2).any(axis=1)
        removed = candidate & (bytes_equal.sum(axis=1) >= least)
        for found, expected in (
            (candidate, banding.candidate_probability(s, bands, rows)),
            (removed, banding.removal_probability(s, bands, rows, n, least)),
        ):
            assert abs(found.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / trials)
    ends = banding.removal_probability(np.array([0.0, 1.0]), bands, rows, n, least)
    np.testing.assert_allclose(ends, [0, 1], atol=1e-12)


def test_s_curve_by_hand():
    """Two bands of one: 1 - (1-s)^2. One band of two: s^2."""
    s = np.linspace(0, 1, 11)
    np.testing.assert_allclose(banding.candidate_probability(s, 2, 1), 2 * s - s * s, atol=1e-15)
    np.testing.assert_allclose(banding.candidate_probability(s, 1, 2), s * s)
    np.testing.assert_allclose(banding.areas(1, 2, 0.5), [1 / 24, 0.5 - 7 / 24])


def test_the_least_count_is_where_the_estimate_passes():
    for threshold, n in ((0.75, 128), (0.5, 128), (0.8, 20), (0.0, 64), (1.0, 64)):
        least = banding.least_agreeing(threshold, n)
        estimates = [signatures.estimated_jaccard(np.arange(n) < k, np.ones(n, bool)) for k in range(n + 1)]
        assert least == next(k for k, e in enumerate(estimates) if e >= threshold - 1e-12)


@pytest.mark.parametrize(("threshold", "n", "weight"), [(0.5, 64, 0.5), (0.8, 48, 0.5), (0.7, 32, 0.9)])
def test_bands_are_those_of_datasketch(threshold, n, weight):
    from datasketch import MinHashLSH

    theirs = MinHashLSH(threshold, n, weights=(1 - weight, weight))
    assert banding.choose(threshold, n, weight) == (theirs.b, theirs.r)


def test_the_defaults_are_what_is_chosen():
    s = Settings()
    assert (s.bands, s.rows) == banding.choose(s.threshold, s.permutations, 0.9)


def test_bad_input_is_refused():
    for call, message in (
        (lambda: signatures.shingles("a", 0), "n = 0"),
        (lambda: signatures.signature(signatures.EMPTY), "without words"),
        (lambda: banding.band_keys(np.zeros(8, np.uint32), 3, 3), "need 9 entries"),
        (lambda: banding.choose(1.0, 8), "threshold must be between"),
        (lambda: banding.choose(0.5, 0), "at least 1 entry"),
    ):
        with pytest.raises(ValueError, match=message):
            call()

"""Shingles and signatures: against sets of words and datasketch."""

import unicodedata

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from afm_ref.curation import minhash
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
        hashes = minhash.shingles(text, n).tolist()
        for run, number in zip(runs(text, n), hashes, strict=True):
            assert pairs.setdefault(run, number) == number
    assert len(set(pairs.values())) == len(pairs)


def test_long_texts_are_hashed_in_pieces(monkeypatch):
    """Pieces change nothing, as long as one run fits into a piece."""
    text = " ".join(f"w{i * i % 97}" for i in range(3000))
    whole = minhash.shingles(text)
    monkeypatch.setattr(minhash, "PIECE", 1000)
    minhash._tables.cache_clear()
    pieces = minhash.shingles(text)
    assert (whole == pieces).all() and len(minhash.shingles("x" * 5000)) == 1
    minhash._tables.cache_clear()


def test_hashes_spread():
    """In 64 equal bins of the range, 20,000 hashes of similar runs are as even as chance: chi^2 of 63, sd 11.2."""
    hashes = minhash.shingles(" ".join(map(str, range(20_004))))
    counts = np.bincount(hashes >> np.uint32(26), minlength=64)
    assert 63 - 4 * 11.2 < ((counts - 312.5) ** 2 / 312.5).sum() < 63 + 4 * 11.2


def test_signatures_are_datasketchs():
    from datasketch import MinHash

    for n in (1, 511, 513, 1500):
        hashes = np.random.default_rng(n).integers(0, 2**32, n, np.uint32)
        theirs = MinHash(128, hashfunc=int, scheme="affine32")
        theirs.update_batch(hashes.tolist())
        ours = minhash.signature(hashes)
        assert (ours == theirs.digest()).all() and (ours == minhash.signature(np.tile(hashes, 2)[::-1])).all()


@pytest.mark.parametrize(("both", "a", "b"), [(2, 2, 1), (1, 1, 1), (9, 1, 0), (40, 30, 30)])
def test_the_chance_of_equal_minima_is_the_similarity(both, a, b):
    """The equal entries of 400 pairs are Binomial(128, J), as of independent orders: mean and variance to 4 errors."""
    rng, pairs, J = np.random.default_rng(0), 400, both / (both + a + b)
    equal = []
    for _ in range(pairs):
        pool = rng.integers(0, 2**32, both + a + b, np.uint32)
        sides = pool[: both + a], np.concatenate([pool[:both], pool[both + a :]])
        equal.append(np.equal(*map(minhash.signature, sides)).sum())
    variance = 128 * J * (1 - J)
    assert abs(np.mean(equal) - 128 * J) < 4 * np.sqrt(variance / pairs)
    assert abs(np.var(equal, ddof=1) / variance - 1) < 4 * np.sqrt(2 / pairs)  # as of draws near to normal


def test_jaccard_equals_that_of_sets_of_words():
    a, b = "the cat sat on the mat and ran", "the cat sat on the mat and slept. The cat sat on the mat"
    one, two = set(runs(a, 5)), set(runs(b, 5))
    got = minhash.jaccard(minhash.shingles(a), minhash.shingles(b))
    assert got == len(one & two) / len(one | two) and 0 < got < 1
    assert minhash.jaccard(np.array([], np.uint32), np.array([], np.uint32)) == 0


@pytest.mark.parametrize("more", ["", " \U0001f600 ends it"], ids=["table", "slow way"])
def test_a_copy_in_another_form_of_unicode_has_the_same_shingles(more):
    """Accents as a Mac writes them, a PDF's ligatures, and what is not seen: soft hyphens, marks of joined files."""
    text = "Über größere Hügel führte die schöne Straße, vorbei an offenen Gärten und Häusern, bis zum Fluß" + more
    for other in (
        unicodedata.normalize("NFD", text), text.replace("ff", "\ufb00"), text.replace(" ", "\xa0"),
        text.replace("gr", "g\u00adr").replace("ch", "c\u200bh").replace("rt", "r\u2060t"),
        "\ufeff" + text.replace("ö", "ö\ufeff"),
    ):  # fmt: skip
        assert other != text and minhash.shingles(other).tolist() == minhash.shingles(text).tolist()
    assert minhash.shingles(text.replace("Ü", "U")).tolist() != minhash.shingles(text).tolist()

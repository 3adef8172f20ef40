"""Near-duplicates against datasketch, sets of words, enumeration, random signatures and brute force."""

import unicodedata

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from afm_ref.curation import minhash, near_duplicates
from afm_ref.curation.recipe import Recipe
from afm_ref.data import overlap

WORDS = st.text(st.sampled_from("aB é_9,.\n\u0130\u03a3\U0001f600\U00010400\u4e2d"), max_size=40)
BANDS, ROWS, N = 8, 4, 32


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


def families(seed, count=60, copies=3, size=40):
    """Return signatures of sets that come in families of similar ones, in a random order."""
    rng, sets = np.random.default_rng(seed), []
    for _ in range(count):
        base = rng.integers(0, 2**32, size, np.uint32)
        for _ in range(copies):
            changed = base.copy()
            changed[: rng.integers(0, size // 2)] = rng.integers(0, 2**32)
            sets.append(changed)
    return np.array([minhash.signature(sets[i], N) for i in rng.permutation(len(sets))])


def find(signed, least=0, at_once=25, memory_bytes=2**28):
    """Return the number of each signature's original, of entries that come so many at once."""
    kept = near_duplicates.entries(signed, BANDS, ROWS)
    batches = [kept[i : i + at_once] for i in range(0, len(kept), at_once)]
    return near_duplicates.originals(batches, least, memory_bytes)


def test_candidates_are_those_of_datasketch():
    """Without a check of the sketches a document is new if and only if a MinHashLSH of the kept ones finds none."""
    from datasketch import MinHash, MinHashLSH

    signed = families(1)
    theirs, expected = MinHashLSH(num_perm=N, params=(BANDS, ROWS)), []
    for i, values in enumerate(signed):
        sketch = MinHash(hashvalues=values, scheme="affine32")
        hits = theirs.query(sketch)
        expected.append(min(hits) if hits else None)
        if not hits:
            theirs.insert(i, sketch)
    found = find(signed)
    assert found == expected and 20 < found.count(None) < len(found) - 20


def test_decisions_equal_brute_force():
    """The first kept document that shares a key and has enough equal bytes; however they are cut and looked at."""
    signed = families(2)
    keys, sketches = near_duplicates.band_keys(signed, BANDS, ROWS), signed.astype(np.uint8)
    for least in (18, 24, 30):
        kept, expected = [], []
        for i in range(len(signed)):
            near = [j for j in kept if (keys[i] == keys[j]).any() and (sketches[i] == sketches[j]).sum() >= least]
            expected.append(near[0] if near else None)
            if not near:
                kept.append(i)
        assert expected == find(signed, least) == find(signed, least, 7) == find(signed, least, 1000, 0)
        assert expected == find(signed, least, 1000, 2 * 8 * BANDS * 50)  # in some parts
    assert near_duplicates.originals([], 0) == []


def test_only_the_first_owners_of_a_key_are_compared():
    """Documents with one band in common and sketches that differ: all are kept, and a copy of the last is not found."""
    rng, n = np.random.default_rng(5), near_duplicates.OWNERS + 2
    batch = np.empty(n + 2, [("keys", np.uint64, (BANDS,)), ("sketch", np.uint8, (N,))])
    batch["keys"] = rng.integers(0, 2**63, BANDS)
    batch["sketch"] = rng.integers(0, 256, (n + 2, N))
    batch["sketch"][n:] = batch["sketch"][[3, n - 1]]
    assert near_duplicates.originals([batch], 24) == [None] * n + [3, None]


def test_a_key_belongs_to_its_band():
    """Equal entries in another band are no match: keys of one signature differ though all its entries are equal."""
    keys = near_duplicates.band_keys(np.full((2, N), 7, np.uint32), BANDS, ROWS)
    assert (keys[0] == keys[1]).all() and len(np.unique(keys[0])) == BANDS


def test_estimates_are_unbiased():
    """The mean of 300 estimates at J = 150 / 250, from the bytes of real sketches, is within 4 standard errors of J."""
    rng, J, found = np.random.default_rng(0), 0.6, []
    for _ in range(300):
        pool = rng.integers(0, 2**32, 250, np.uint32)
        signed = np.array([minhash.signature(side) for side in (pool[:200], np.delete(pool, slice(150, 200)))])
        a, b = near_duplicates.entries(signed, 16, 8)["sketch"]
        found.append((np.mean(a == b) - 1 / 256) / (1 - 1 / 256))
    q = J + (1 - J) / 256  # the chance that two bytes are equal
    assert abs(np.mean(found) - J) < 4 * np.sqrt(q * (1 - q) / 128 / 300) * 256 / 255


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
            (candidate, near_duplicates.candidate_probability(s, bands, rows)),
            (removed, near_duplicates.removal_probability(s, bands, rows, n, least)),
        ):
            assert abs(found.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / trials)
    ends = near_duplicates.removal_probability(np.array([0.0, 1.0]), bands, rows, n, least)
    np.testing.assert_allclose(ends, [0, 1], atol=1e-12)


def test_the_least_count_is_where_the_estimate_passes():
    for threshold, n in ((0.75, 128), (0.5, 128), (0.8, 20), (0.0, 64), (1.0, 64)):
        estimates = [(k / n - 1 / 256) / (1 - 1 / 256) for k in range(n + 1)]
        expected = next(k for k, e in enumerate(estimates) if e >= threshold - 1e-12)
        assert near_duplicates.least_agreeing(threshold, n) == expected


def test_bands_are_those_of_datasketch():
    from datasketch import MinHashLSH

    for threshold, n, weight in ((0.5, 64, 0.5), (0.8, 48, 0.5), (0.7, 32, 0.9)):
        theirs = MinHashLSH(threshold, n, weights=(1 - weight, weight))
        assert near_duplicates.choose_bands(threshold, n, weight) == (theirs.b, theirs.r)
    np.testing.assert_allclose(near_duplicates.areas(1, 2, 0.5), [1 / 24, 0.5 - 7 / 24])  # of s^2
    s = Recipe()
    assert (s.bands, s.rows) == near_duplicates.choose_bands(s.threshold, s.permutations, 0.9)


def test_bad_input_is_refused():
    for call, message in (
        (lambda: minhash.shingles("a", 0), "n = 0"),
        (lambda: minhash.signature(np.array([], np.uint32)), "without words"),
        (lambda: near_duplicates.band_keys(np.zeros(8, np.uint32), 3, 3), "need 9 entries"),
        (lambda: near_duplicates.choose_bands(1.0, 8), "threshold must be between"),
        (lambda: near_duplicates.choose_bands(0.5, 0), "at least 1 entry"),
    ):
        with pytest.raises(ValueError, match=message):
            call()

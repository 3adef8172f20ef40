"""The index: its candidates are datasketch's, its decisions brute force's, wherever the entries lie."""

import sqlite3

import numpy as np
import pytest

from afm_ref.curation import banding, index, signatures

BANDS, ROWS, N = 8, 4, 32


def families(seed, count=60, copies=3, size=40):
    """Return signatures of sets that come in families of similar ones, in a random order."""
    rng, sets = np.random.default_rng(seed), []
    for _ in range(count):
        base = rng.integers(0, 2**32, size, np.uint32)
        for _ in range(copies):
            changed = base.copy()
            changed[: rng.integers(0, size // 2)] = rng.integers(0, 2**32)
            sets.append(changed)
    return np.array([signatures.signature(sets[i], N) for i in rng.permutation(len(sets))])


def parts(signed):
    return banding.band_keys(signed, BANDS, ROWS), signatures.sketch(signed)


def add_all(table, signed, at_once=25):
    found, names = [], [f"d{i}" for i in range(len(signed))]
    keys, sketches = parts(signed)
    for i in range(0, len(signed), at_once):
        found += table.add(names[i : i + at_once], keys[i : i + at_once], sketches[i : i + at_once])
    return found


def fresh(least=0, memory_bytes=2**28, path=":memory:"):
    return index.Index(sqlite3.connect(path), BANDS, least, memory_bytes)


@pytest.mark.parametrize("memory_bytes", [2**28, 0])
def test_candidates_are_those_of_datasketch(memory_bytes):
    """Without a check of the sketches a document is new if and only if a MinHashLSH of the kept ones finds none."""
    from datasketch import MinHash, MinHashLSH

    signed = families(1)
    theirs, expected = MinHashLSH(num_perm=N, params=(BANDS, ROWS)), []
    for i, values in enumerate(signed):
        sketch = MinHash(hashvalues=values, scheme="affine32")
        hits = theirs.query(sketch)
        expected.append(min(hits, key=lambda name: int(name[1:])) if hits else None)
        if not hits:
            theirs.insert(f"d{i}", sketch)
    found = add_all(fresh(memory_bytes=memory_bytes), signed)
    assert found == expected and 20 < sum(f is None for f in found) < len(found) - 20


@pytest.mark.parametrize("least", [18, 24, 30])
def test_decisions_equal_brute_force(least):
    """The first kept document that shares a key and has enough equal bytes."""
    signed = families(2)
    keys, sketches = parts(signed)
    kept, expected = [], []
    for i in range(len(signed)):
        near = [j for j in kept if (keys[i] == keys[j]).any() and (sketches[i] == sketches[j]).sum() >= least]
        expected.append(f"d{near[0]}" if near else None)
        if not near:
            kept.append(i)
    assert add_all(fresh(least), signed) == expected and add_all(fresh(least), signed, 7) == expected


@pytest.mark.parametrize("memory_bytes", [0, 2 * 12 * BANDS * 30, 2 * 12 * BANDS * 77])
def test_the_bound_changes_nothing_but_where_it_lies(memory_bytes):
    signed = families(3)
    table, spilling = fresh(24), fresh(24, memory_bytes)
    assert add_all(spilling, signed) == add_all(table, signed)
    assert table.spilled == 0 < spilling.spilled <= spilling.documents == table.documents
    assert 2 * spilling.size_bytes <= memory_bytes
    assert table.size_bytes == 12 * BANDS * table.documents


@pytest.mark.parametrize("memory_bytes", [2**28, 2 * 12 * BANDS * 30])
def test_it_goes_on_from_what_was_committed(tmp_path, memory_bytes):
    signed = families(4)
    whole = add_all(fresh(24, memory_bytes), signed)
    keys, sketches = parts(signed)
    names, found = [f"d{i}" for i in range(len(signed))], []
    for i in range(0, len(signed), 50):
        database = sqlite3.connect(tmp_path / "index.sqlite")
        table = index.Index(database, BANDS, 24, memory_bytes)
        found += table.add(names[i : i + 50], keys[i : i + 50], sketches[i : i + 50])
        database.commit()
        table.add(["lost"], keys[:1] + np.uint64(1), sketches[:1])  # and is killed before the commit
        database.close()
    assert found == whole


def test_only_the_first_owners_of_a_key_are_compared():
    """Documents with one band in common and sketches that differ: all are kept, and a copy of the last is not found."""
    rng = np.random.default_rng(5)
    n = index.OWNERS + 2
    keys = np.repeat(rng.integers(0, 2**63, (1, BANDS)).astype(np.uint64), n, axis=0)
    sketches = rng.integers(0, 256, (n, N)).astype(np.uint8)
    for bound in (2**28, 0):
        table = fresh(24, bound)
        assert table.add([str(i) for i in range(n)], keys, sketches) == [None] * n
        assert table.add(["x", "y"], keys[[3, n - 1]], sketches[[3, n - 1]]) == ["3", None]


def test_a_key_belongs_to_its_band():
    """Equal entries in another band are no match: keys of one signature differ though all its entries are equal."""
    keys = banding.band_keys(np.full((2, N), 7, np.uint32), BANDS, ROWS)
    assert (keys[0] == keys[1]).all() and len(np.unique(keys[0])) == BANDS


def test_runs_find_all_entries():
    """Against a plain list, with equal keys, after many additions."""
    rng, runs, entries = np.random.default_rng(6), index.Runs(), []
    for step in range(40):
        keys = rng.integers(0, 60, rng.integers(0, 9)).astype(np.uint64)
        runs.add(keys, np.full(len(keys), step))
        entries += [(key, step) for key in keys.tolist()]
        sizes = [len(held) for held, _ in runs.runs]
        assert all(a >= 2 * b for a, b in zip(sizes, sizes[1:])) and len(runs) == len(entries)
    for key in range(60):
        numbers = [number for _, number in runs.find(np.array([key], np.uint64))]
        assert sorted(numbers) == numbers
        first = [step for k, step in entries if k == key]
        assert numbers[: index.OWNERS] == first[: index.OWNERS]

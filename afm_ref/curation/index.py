"""Which documents have been there before: a table of band keys that stays within a bound of memory.

An entry is a key of 8 bytes and a document's number of 4: with 16 bands 192 bytes a document. They are held in a few
sorted arrays, each at least twice as long as the next; what is added is merged from the end, so that an entry is moved
a logarithmic number of times. When the arrays reach half of the bound (merging needs as much again), all entries go
into a table of SQLite, whose own cache is bounded, and the arrays begin anew. What is found does not depend on when.

Keys and sketches of the documents that are kept are also written to SQLite, one row each: from there a run that was
interrupted makes its arrays again, and the sketches of candidates are read.
"""

import json
import sqlite3
from collections import defaultdict

import numpy as np

from . import banding

OWNERS = 8  # documents of one key that are compared: boilerplate must not make this quadratic
ENTRY_BYTES = 12
ROWS = 10_000  # rows that are moved at a time

TABLES = """
CREATE TABLE IF NOT EXISTS kept (number INTEGER PRIMARY KEY, name TEXT, keys BLOB, sketch BLOB);
CREATE TABLE IF NOT EXISTS bands (key INTEGER, number INTEGER, PRIMARY KEY (key, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spilled (number INTEGER);
"""
FIRST_OWNERS = f"""
SELECT b.key, b.number FROM json_each(?) AS asked JOIN bands AS b ON b.key = asked.value AND b.number <= coalesce(
    (SELECT c.number FROM bands AS c WHERE c.key = asked.value ORDER BY c.number LIMIT 1 OFFSET {OWNERS - 1}), 1 << 40)
ORDER BY b.key, b.number
"""


class Runs:
    """Sorted arrays of keys (uint64) with the numbers of their documents (uint32)."""

    def __init__(self):
        self.runs: list[tuple[np.ndarray, np.ndarray]] = []

    def __len__(self):
        return sum(len(keys) for keys, _ in self.runs)

    def add(self, keys: np.ndarray, numbers: np.ndarray) -> None:
        """Add entries whose numbers are above all that are there."""
        order = np.argsort(keys, kind="stable")
        self.runs.append((keys[order], numbers[order].astype(np.uint32)))
        while len(self.runs) > 1 and len(self.runs[-2][0]) < 2 * len(self.runs[-1][0]):
            self.runs[-2:] = [_merged(*self.runs[-2:])]

    def find(self, keys: np.ndarray):
        """Yield (place among the keys asked for, number), equal keys' numbers in order."""
        for held, numbers in self.runs:
            first, last = np.searchsorted(held, keys, "left"), np.searchsorted(held, keys, "right")
            for place in np.flatnonzero(last > first).tolist():
                for number in numbers[first[place] : min(last[place], first[place] + OWNERS)].tolist():
                    yield place, number


def _merged(older, newer):
    """Return two sorted runs as one; of equal keys the older run's come first."""
    places = np.searchsorted(older[0], newer[0], "right") + np.arange(len(newer[0]))
    is_newer = np.zeros(len(older[0]) + len(newer[0]), bool)
    is_newer[places] = True
    merged = []
    for old, new in zip(older, newer, strict=True):
        both = np.empty(len(is_newer), old.dtype)
        both[is_newer], both[~is_newer] = new, old
        merged.append(both)
    return tuple(merged)


class Index:
    """The documents kept so far, by the keys of their bands. Its rows become durable when the caller commits.

    A document is a near-duplicate if one of the kept documents, of those with a key of its own the first OWNERS a key,
    has a sketch with at least `least` equal bytes; the first of these is its original. It is then not added.

    Source: global fuzzy deduplication by locality-sensitive hashing, TR24 section 3.1 [confirmed]; this way [ours].
    Test: tests/curation/test_index.py::test_candidates_are_those_of_datasketch,
        tests/curation/test_index.py::test_the_bound_changes_nothing_but_where_it_lies
    """

    def __init__(self, database: sqlite3.Connection, bands: int, least: int, memory_bytes: int):
        self.database, self.bands, self.least, self.memory_bytes = database, bands, least, memory_bytes
        database.executescript(TABLES)
        self.documents = database.execute("SELECT coalesce(max(number) + 1, 0) FROM kept").fetchone()[0]
        self.spilled = database.execute("SELECT coalesce(max(number), 0) FROM spilled").fetchone()[0]
        self.runs = Runs()
        for start in range(self.spilled, self.documents, ROWS):
            rows = database.execute("SELECT keys FROM kept WHERE number >= ? AND number < ?", (start, start + ROWS))
            keys = np.array([np.frombuffer(row[0], np.uint64) for row in rows])
            self.runs.add(*_entries(keys, start))

    @property
    def size_bytes(self) -> int:
        """Return the bytes of the entries in memory."""
        return ENTRY_BYTES * len(self.runs)

    def add(self, names: list[str], keys: np.ndarray, sketches: np.ndarray) -> list[str | None]:
        """Add documents in turn; return for each the name of its original, or None if it is new and now kept.

        keys: uint64 [documents, bands]; sketches: uint8 [documents, permutations].
        """
        owners = self._owners(keys)
        old = self._sketches({number for of_document in owners for of_key in of_document for number in of_key})
        here, originals, first = defaultdict(list), [], self.documents
        for name, own_keys, sketch, older in zip(names, keys.tolist(), sketches, owners, strict=True):
            found = {n for key, old_of in zip(own_keys, older) for n in (old_of + here.get(key, []))[:OWNERS]}
            original = next((n for n in sorted(found) if np.count_nonzero(old[n][1] == sketch) >= self.least), None)
            originals.append(None if original is None else old[original][0])
            if original is None:
                old[self.documents] = (name, sketch)
                for key in own_keys:
                    here[key].append(self.documents)
                self.documents += 1
        self._keep(names, keys, sketches, originals, first)
        return originals

    def _keep(self, names, keys, sketches, originals, first):
        new = [i for i, original in enumerate(originals) if original is None]
        if self.documents > 2**32:
            raise ValueError("the index holds 2^32 documents at most: curate the rest apart")
        rows = ((first + j, names[i], keys[i].tobytes(), sketches[i].tobytes()) for j, i in enumerate(new))
        self.database.executemany("INSERT INTO kept VALUES (?, ?, ?, ?)", rows)
        self.runs.add(*_entries(keys[new], first))
        if 2 * self.size_bytes > self.memory_bytes:
            self._spill()

    def _spill(self):
        """Move all entries to the table on disk, in the order of their keys."""
        for keys, numbers in self.runs.runs:
            for i in range(0, len(keys), ROWS):
                rows = zip(keys[i : i + ROWS].view(np.int64).tolist(), numbers[i : i + ROWS].tolist(), strict=True)
                self.database.executemany("INSERT INTO bands VALUES (?, ?)", rows)
        self.database.execute("INSERT INTO spilled VALUES (?)", (self.documents,))
        self.runs, self.spilled = Runs(), self.documents

    def _owners(self, keys):
        """Return, for each document and band, the numbers of the kept documents with this key, in order."""
        owners = [[[] for _ in range(self.bands)] for _ in range(len(keys))]
        flat = keys.reshape(-1)
        for place, number in self._on_disk(flat):
            owners[place // self.bands][place % self.bands].append(number)
        for place, number in self.runs.find(flat):
            owners[place // self.bands][place % self.bands].append(number)
        return owners

    def _on_disk(self, keys):
        if not self.spilled or not len(keys):
            return
        places = defaultdict(list)
        for place, key in enumerate(keys.view(np.int64).tolist()):
            places[key].append(place)
        for key, number in self.database.execute(FIRST_OWNERS, (json.dumps(sorted(places)),)):
            for place in places[key]:
                yield place, number

    def _sketches(self, numbers):
        """Return {number: (name, sketch)} of kept documents."""
        query = "SELECT number, name, sketch FROM json_each(?) JOIN kept ON number = value"
        rows = self.database.execute(query, (json.dumps(sorted(numbers)),))
        return {number: (name, np.frombuffer(sketch, np.uint8)) for number, name, sketch in rows}


def _entries(keys, first):
    """Return the keys of documents first, first + 1, ... [documents, bands] as one array, and their numbers."""
    return keys.reshape(-1), np.repeat(np.arange(first, first + len(keys), dtype=np.uint32), keys.shape[-1])


def open_in_memory(bands: int = 16, threshold: float = 0.75, permutations: int = 128, memory_bytes: int = 2**28):
    """Return an index that is gone when it is closed: for experiments and lessons."""
    database = sqlite3.connect(":memory:")
    return Index(database, bands, banding.least_agreeing(threshold, permutations), memory_bytes)

"""What an unfinished run remembers: one SQLite file, in which a chunk is either wholly done or not at all.

A chunk is committed in two moves. Its shard is written beside its place and moved there (os.replace); then one
transaction adds its documents to the index, its hits to the counts, and its number, the place in the source behind it
and the report so far. A run that is killed before the transaction does the chunk again and writes the same shard over
the old one; killed after it, it goes on behind the chunk.
"""

import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from .report import Report
from .sources import Position

CACHE_KIB = 16 * 1024
OF_THE_DISK = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")  # the names of errors begin so
TABLES = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS chunks (number INTEGER PRIMARY KEY, documents INTEGER);
CREATE TABLE IF NOT EXISTS hits (run INTEGER PRIMARY KEY, documents INTEGER);
"""


class State:
    """The state of one run, in a file that no other process may use meanwhile; `with` lets go of it at the end.

    Raises ValueError if another process has it, if it is no such file, and if it is of another run: identity is what
    that run was, in words by name. Raises OSError, then and at the end of `with`, if the disk is full or fails.

    Source: none [ours].
    Test: tests/curation/test_pipeline.py::test_killed_anywhere_it_goes_on_to_the_same_bytes,
        tests/curation/test_pipeline.py::test_another_run_is_refused,
        tests/curation/test_pipeline.py::test_it_goes_on_after_a_full_disk
    """

    def __init__(self, path: Path, identity: dict[str, str]):
        self.path, self.database = path, None
        try:
            self.database = sqlite3.connect(path, timeout=0, isolation_level="IMMEDIATE")
            self.database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self.database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            self.database.executescript(TABLES)
            self._identify(path, identity)
        except sqlite3.DatabaseError as error:
            self.close()
            _check_disk(path, error)
            raise ValueError(f"{path}: {error}; another run may be using it, or it is no file of curation") from None
        except ValueError:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, _, error, __):
        self.close()
        _check_disk(self.path, error)

    def close(self):
        """Let go of the file."""
        if self.database is not None:
            self.database.close()

    def _identify(self, path, identity):
        known = self.get("identity") or identity
        for name, value in identity.items():
            if known.get(name) != value:
                raise ValueError(
                    f"{path.parent} holds an unfinished run with other {name}: give the same again to finish it, or "
                    "another --out, or remove the folder"
                )
        self.set("identity", identity)
        self.database.commit()

    def get(self, name: str, default=None):
        """Return a remembered value."""
        row = self.database.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        return default if row is None else json.loads(row[0])

    def set(self, name: str, value) -> None:
        """Remember a value with the next commit."""
        self.database.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, json.dumps(value)))

    def report(self, fresh: Report) -> Report:
        """Return the report so far, or the fresh one."""
        text = self.get("report")
        return fresh if text is None else Report.from_json(text)

    def position(self) -> tuple[int, Position | None]:
        """Return the number of the next chunk, and the place behind which it begins."""
        number, position = self.get("next", [0, None])
        return number, None if position is None else Position(*position)

    def commit_chunk(self, number: int, position: Position, documents: int, hits: Iterable[int], report: Report):
        """Make a chunk durable, with all that was written to this database since the last commit."""
        upsert = "INSERT INTO hits VALUES (?, 1) ON CONFLICT (run) DO UPDATE SET documents = documents + 1"
        self.database.executemany(upsert, ((_signed(run),) for run in hits))
        self.database.execute("INSERT INTO chunks VALUES (?, ?)", (number, documents))
        self.commit(report, next=[number + 1, position])

    def commit(self, report: Report, **values) -> None:
        """Make the report and some values durable, with all that was written since the last commit."""
        for name, value in {"report": report.to_json(), **values}.items():
            self.set(name, value)
        self.database.commit()

    def staged(self) -> dict[int, int]:
        """Return {number of a chunk: its documents that are left} where there are any."""
        return dict(self.database.execute("SELECT number, documents FROM chunks WHERE documents > 0"))

    def hits(self) -> dict[int, int]:
        """Return {run of words: how many documents hit it}."""
        return {run % 2**64: count for run, count in self.database.execute("SELECT run, documents FROM hits")}


def _check_disk(path, error):
    """Raise OSError if this is SQLite's word for a disk that is full or fails."""
    if getattr(error, "sqlite_errorname", "").startswith(OF_THE_DISK):
        raise OSError(f"{path}: {error}; the same call goes on once there is room on the disk") from None


def _signed(x):
    return x - 2**64 if x >= 2**63 else x

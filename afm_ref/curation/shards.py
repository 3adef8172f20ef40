"""Curated text on disk: part-00000.jsonl.gz, part-00001.jsonl.gz, ..., one document a line.

Beside them a run keeps staged/ until it is finished: as long as that is there and
report.json is not, some documents lack, and others may still turn out to be a benchmark's.
"""

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..data.corpora import Document
from ..disk import atomic

# of a run; the second is written when it is finished
STAGED, REPORT = "staged", "report.json"
SHARD = re.compile(r"part-(\d{5,})\.jsonl\.gz")
FIELDS = ("text", "source", "name")  # as `Document` has them
BUFFER_BYTES = 2**16


def path_of(folder, number: int, kind: str = "part") -> Path:
    """Return where a folder has its shard of this number, or what was "dropped" of a chunk."""
    return Path(folder) / f"{kind}-{number:05}.jsonl.gz"


def write(path, documents: Iterable[Document]) -> int:
    """Write documents as one shard, whole or not at all, and return how many there were.

    The same documents give the same bytes: no time and no file name is in the gzip header.
    Raises ValueError for no documents, and for text that UTF-8 cannot hold (half of a
    surrogate pair), by the document's name.
    """
    rows = ({"name": d.name, "source": d.source, "text": d.text} for d in documents)
    return write_lines(path, rows)


def write_lines(path, rows: Iterable[dict], level: int = 6) -> int:
    """Write rows as a gzip of JSON lines, packed tighter at a higher level; see `write`."""
    count = 0
    with atomic.replacing(path) as [temporary], temporary.open("wb") as file:
        packed = gzip.GzipFile("", "wb", compresslevel=level, fileobj=file, mtime=0)
        with packed, io.BufferedWriter(packed, BUFFER_BYTES) as lines:
            for row in rows:
                lines.write(_line(row))
                count += 1
        if not count:
            raise ValueError(
                f"nothing to write into {path}: a shard has at least one document"
            )
    return count


def read(folder) -> Iterator[Document]:
    """Yield the documents of a folder of shards, in order; one line is in memory at a time.

    Raises FileNotFoundError for a missing folder; ValueError, naming the file and where it
    makes sense the line, for a folder without shards or of an unfinished run, a missing
    number, a shard that is empty, cut off or no gzip, and a line that is no document.
    """
    check_finished(folder)
    there = numbers(folder)
    if missing := set(range(len(there))).difference(there):
        raise ValueError(
            f"{path_of(folder, min(missing))} is missing, others after it exist: copy the whole folder again"
        )
    if not there:
        raise ValueError(
            f"{folder} has no part-00000.jsonl.gz: make one with `python -m afm_ref curate`"
        )
    for path in (path_of(folder, number) for number in there):
        for number, row in read_gzip_lines(path):
            row = row if isinstance(row, dict) else {}
            fields = [row.get(name) for name in FIELDS]
            if not all(isinstance(text, str) for text in fields):
                raise ValueError(
                    f"{path}, line {number}: expected an object with the texts name, source, text"
                )
            yield Document(*fields)


def read_gzip_lines(path) -> Iterator[tuple[int, object]]:
    """Yield (line number from 1, JSON value) of a gzip of JSON lines; errors as of `read`."""
    number = 0
    try:
        with gzip.open(path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                yield number, json.loads(line)
    except ValueError as error:
        raise ValueError(f"{path}, line {number}: no JSON ({error})") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"{path}, after line {number}: cut off or no gzip ({error}); copy or make it again"
        ) from None
    if not number:
        raise ValueError(
            f"{path} is empty: a shard has at least one document; copy or make it again"
        )


def is_curated(folder) -> bool:
    """Return whether a folder holds shards (of any number), so that `read` is the way to
    read it.
    """
    return Path(folder).is_dir() and bool(numbers(folder))


def check_finished(folder) -> None:
    """Raise ValueError for a folder in which a run of `curate` was stopped before its end."""
    folder = Path(folder)
    if is_curated(folder / STAGED) and not (folder / REPORT).exists():
        raise ValueError(
            f"the curation in {folder} is unfinished: run the same curate again to finish it"
        )


def numbers(folder) -> list[int]:
    """Return the numbers of the shards that a folder has, in order."""
    if not Path(folder).is_dir():
        raise FileNotFoundError(
            f"no folder at {folder}; give one that `python -m afm_ref curate` has written"
        )
    names = (SHARD.fullmatch(path.name) for path in Path(folder).iterdir())
    return sorted(int(match[1]) for match in names if match)


def _line(row):
    try:
        return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{row.get('name')!r} holds what UTF-8 cannot ({error.reason}): decode it anew"
        ) from None

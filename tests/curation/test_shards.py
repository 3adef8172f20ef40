"""Shards: what is written is read, byte for byte the same, and what is broken is refused."""

import gzip
import json
from functools import partial

import pytest

from afm_ref.curation import shards
from afm_ref.data.corpora import Document

packed = partial(gzip.compress, mtime=0)  # the same bytes at any time
DOCUMENTS = [Document("One.\r\n\u2028 two\x00", "web", "a/b.html"), Document("", "text", "c.txt#3")]


def test_same_documents_same_bytes(tmp_path):
    """Whatever the file is called and whenever it was written; and any gzip reader reads them."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    first, second = shards.path_of(tmp_path / "one", 0), shards.path_of(tmp_path / "two", 123_456)
    shards.write(first, DOCUMENTS)
    shards.write(second, iter(DOCUMENTS))
    assert second.name == "part-123456.jsonl.gz" and first.read_bytes() == second.read_bytes()
    assert first.read_bytes()[4:8] == bytes(4)  # RFC 1952: the time
    assert list(shards.read(tmp_path / "one")) == DOCUMENTS and shards.is_curated(tmp_path / "one")
    rows = [json.loads(line) for line in gzip.decompress(first.read_bytes()).split(b"\n")[:-1]]
    assert rows == [{"name": d.name, "source": d.source, "text": d.text} for d in DOCUMENTS]


def test_reading_streams(tmp_path):
    """The first document comes before the broken end is met."""
    path = shards.path_of(tmp_path, 0)
    shards.write(path, [Document("x" * 9, "web", str(i)) for i in range(3_000)])
    path.write_bytes(path.read_bytes()[:-20])
    stream = shards.read(tmp_path)
    assert next(stream).name == "0"
    with pytest.raises(ValueError, match=r"part-00000.jsonl.gz, after line \d{3,}: cut off"):
        list(stream)


def test_a_failed_write_leaves_nothing(tmp_path):
    path = shards.path_of(tmp_path, 0)
    with pytest.raises(ValueError, match="at least one document"):
        shards.write(path, [])
    with pytest.raises(ValueError, match="'bad' holds what UTF-8 cannot"):
        shards.write(path, [Document("\ud800", "web", "bad")])
    assert not path.exists() and not shards.is_curated(tmp_path)


def test_bad_shards_are_refused_by_file_and_line(tmp_path):
    for raw, message in (
        (b"", "is empty"), (packed(b""), "is empty"), (b"plain text", "after line 0: cut off or no gzip"),
        (packed(b'{"name":"a","source":"b","text":"c"}\nnot json\n'), "line 2: no JSON"),
        (packed(b'{"name":"a","source":"b"}\n'), "line 1: expected an object with the texts"),
        (packed(b"[1]\n"), "line 1: expected an object"), (packed(b'"a"\n'), "line 1: expected an object"),
        (packed(b'{"name":"a","source":"b","text":"\xff"}\n'), "line 1: no JSON"),
    ):  # fmt: skip
        shards.path_of(tmp_path, 0).write_bytes(raw)
        with pytest.raises(ValueError, match=f"part-00000.jsonl.gz.*{message}"):
            list(shards.read(tmp_path))


def test_bad_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder at"):
        next(shards.read(tmp_path / "none"))
    with pytest.raises(ValueError, match=r"has no part-00000.jsonl.gz"):
        next(shards.read(tmp_path))
    assert not shards.is_curated(tmp_path) and not shards.is_curated(tmp_path / "none")
    for number in (0, 2):
        shards.write(shards.path_of(tmp_path, number), DOCUMENTS)
    with pytest.raises(ValueError, match=r"part-00001.jsonl.gz is missing"):
        next(shards.read(tmp_path))

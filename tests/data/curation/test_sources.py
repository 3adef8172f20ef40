"""Folders of files: what can be read is read in order, what cannot is named with its reason."""

import gzip
import json
import os

import pytest

from afm_ref.data.corpora import Document
from afm_ref.data.curation import sources
from afm_ref.data.curation.sources import Position, Raw, Unreadable

PROSE = "Prose about a river and its banks."


def lines(*rows):
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def fill(folder, **files):
    for name, raw in files.items():
        path = folder / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())


def test_each_kind_of_file_is_read(tmp_path):
    fill(
        tmp_path,
        a_DOT_html="<p>Caf\u00e9</p>".encode("latin-1"), b__c_DOT_py="x = 1\n", b__d_DOT_txt=PROSE,
        b_DOT_md="# " + PROSE, e_DOT_jsonl=lines({"text": PROSE}, {"text": "y = 2", "name": "z.py"}) + b"\n"
        + lines({"text": PROSE, "url": "q.html"}),
        f_DOT_JSONL_DOT_gz=gzip.compress(lines({"text": PROSE})),
    )  # fmt: skip
    found = list(sources.documents(tmp_path))
    assert found == [
        Document("<p>Caf\u00e9</p>", "web", "a.html"),
        Document("x = 1\n", "code", "b/c.py"),
        Document(PROSE, "text", "b/d.txt"),
        Document("# " + PROSE, "text", "b.md"),
        Document(PROSE, "text", "e.jsonl#0"),
        Document("y = 2", "code", "e.jsonl#1"),
        Document(PROSE, "text", "e.jsonl#3"),  # a line's text is text, whatever the page was called
        Document(PROSE, "text", "f.JSONL.gz#0"),
    ]


def test_what_cannot_be_used_is_named_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "LARGEST_BYTES", 200)
    whole = gzip.compress(lines(*({"text": f"{PROSE} {i * i}"} for i in range(50))))
    fill(
        tmp_path,
        a_DOT_png=b"\x89PNG", b_DOT_txt=b"a" * 201, c_DOT_html=b"<p>x\0\0\x01 y</p>", d_DOT_txt=b" \n",
        e_DOT_md="\ufffd" * 9 + " a b",
        f_DOT_jsonl=b"{\n[1]\n" + lines({"no": 1}, {"text": "\ud800 x"}, {"text": "x" * 300}, {"text": PROSE}),
        g_DOT_jsonl_DOT_gz=whole[:-30], h_DOT_jsonl_DOT_gz=b"plain",
    )  # fmt: skip
    (tmp_path / "i.txt").symlink_to("nowhere")
    os.mkfifo(tmp_path / "j.txt")
    found = list(sources.documents(tmp_path))
    named = {one.name: one.reason for one in found if isinstance(one, Unreadable)}
    cut = next(name for name in named if name.startswith("g."))
    assert named == {
        "a.png": sources.UNKNOWN, "b.txt": sources.LARGE, "c.html": sources.BINARY, "d.txt": sources.EMPTY,
        "e.md": sources.ENCODING, "f.jsonl#0": sources.NO_TEXT, "f.jsonl#1": sources.NO_TEXT,
        "f.jsonl#2": sources.NO_TEXT, "f.jsonl#3": sources.ENCODING, "f.jsonl#4": sources.LARGE,
        cut: sources.BROKEN, "h.jsonl.gz#0": sources.BROKEN, "i.txt": sources.UNREADABLE, "j.txt": sources.UNREADABLE,
    }  # fmt: skip
    good = [one for one in found if isinstance(one, Document)]
    assert good[0].name == "f.jsonl#5" and {d.name.split("#")[0] for d in good[1:]} <= {"g.jsonl.gz"}


def test_it_goes_on_behind_any_place(tmp_path):
    """Also where names sort otherwise than paths do: a-b, a/b, a.txt."""
    fill(
        tmp_path,
        a__b_DOT_txt=PROSE, a__c__d_DOT_txt=PROSE, a_DOT_txt=PROSE, b_DOT_jsonl=lines(*[{"text": PROSE}] * 3),
        c_DOT_bin=b"", d_DOT_txt=PROSE, z_DOT_jsonl_DOT_gz=gzip.compress(lines(*[{"text": PROSE}] * 2)),
    )  # fmt: skip
    (tmp_path / "a-b").mkdir()
    (tmp_path / "a-b" / "x.txt").write_text(PROSE)
    (tmp_path / os.fsdecode(b"b\xff.txt")).write_text(PROSE)
    whole = list(sources.stream(tmp_path))
    assert len(whole) == 12 and whole[0][0] == Position("a/b.txt")
    for i, (position, _) in enumerate(whole):
        assert list(sources.stream(tmp_path, position)) == whole[i + 1 :]


def test_any_change_of_the_folder_changes_the_digest(tmp_path):
    fill(tmp_path, a_DOT_txt=PROSE, b__c_DOT_py="x = 1", d_DOT_bin=b"0")
    first = sources.inventory(tmp_path)
    assert first[:2] == (2, len(PROSE) + 5) and sources.inventory(tmp_path) == first
    (tmp_path / "d.bin").unlink()
    assert sources.inventory(tmp_path) == first  # nothing that would be read
    digests = {first.digest}
    fill(tmp_path, a_DOT_txt=PROSE + "!")
    digests.add(sources.inventory(tmp_path).digest)
    (tmp_path / "a.txt").rename(tmp_path / "e.txt")
    digests.add(sources.inventory(tmp_path).digest)
    os.utime(tmp_path / "e.txt", ns=(1, 1))
    digests.add(sources.inventory(tmp_path).digest)
    assert len(digests) == 4


def test_folders_without_anything_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder at"):
        sources.inventory(tmp_path / "none")
    fill(tmp_path, a_DOT_png=b"x")
    with pytest.raises(ValueError, match="holds no file that can be used"):
        sources.inventory(tmp_path)


def test_parsing_never_raises():
    for data in (b"", b"\xff\xfe", b"[" * 100_000, b'{"text": "' + b"\\u" * 9, bytes(range(256)) * 20):
        for is_line in (False, True):
            assert isinstance(sources.parse(Raw("x.html", data, is_line)), Document | Unreadable)

"""Folders of files and of shards: what can be read is read in order, what cannot is named with its reason."""

import gzip
import io
import json
import os
from functools import partial

import pytest

from afm_ref.curation import pages, shards
from afm_ref.curation.pages import Position, Raw, Unreadable
from afm_ref.data.corpora import Document
from tests.curation import languages

PROSE = "Prose about a river and its banks."
packed = partial(gzip.compress, mtime=0)  # the same bytes at any time
DOCUMENTS = [Document("One.\r\n\u2028 two\x00", "web", "a/b.html"), Document("", "text", "c.txt#3")]


def lines(*rows):
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def read(folder):
    return (pages.parse(raw) for _, raw in pages.walk(folder))


def fill(folder, files):
    for name, raw in files.items():
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())


def test_each_kind_of_file_is_read(tmp_path):
    rows = lines({"text": PROSE}, {"text": "y = 2", "name": "z.py"}) + b"\n" + lines({"text": PROSE, "url": "q.html"})
    files = {
        "a.html": "<p>Caf\u00e9</p>".encode("latin-1"), "b/c.py": "x = 1\n", "b/d.txt": PROSE, "b.md": "# " + PROSE,
        "e.jsonl": rows, "f.JSONL.gz": gzip.compress(lines({"text": PROSE})),
    }  # fmt: skip
    fill(tmp_path, files)
    assert list(read(tmp_path)) == [
        ("<p>Caf\u00e9</p>", "web", "a.html", False), ("x = 1\n", "code", "b/c.py", False),
        (PROSE, "text", "b/d.txt", False), ("# " + PROSE, "text", "b.md", False),
        (PROSE, "text", "e.jsonl#0", False), ("y = 2", "code", "e.jsonl#1", False),
        (PROSE, "text", "e.jsonl#3", False),  # a line's text is text, whatever the page was called
        (PROSE, "text", "f.JSONL.gz#0", False),
    ]  # fmt: skip


def test_files_make_a_line_code_and_addresses_do_not():
    for row, kind in (
        ({"url": "https://forum.example.com/viewtopic.php"}, "text"), ({"url": "viewtopic.php"}, "text"),
        ({"name": "https://www.politika.rs"}, "text"), ({"path": "HTTP://www.example.cc"}, "text"),
        ({"id": "1.cc"}, "text"), ({"name": "a/b.CC"}, "code"), ({"path": "a/b.rs"}, "code"),
        ({"name": "https://example.com/b", "path": "b.py"}, "code"), ({"name": 1, "path": "b.md"}, "text"),
    ):  # fmt: skip
        raw = Raw("c.jsonl#0", json.dumps({"text": PROSE} | row).encode(), is_line=True)
        assert pages.parse(raw) == Document(PROSE, kind, "c.jsonl#0"), row


def test_one_character_in_a_hundred_may_be_undecodable():
    for bad, found in ((1, Document), (2, Unreadable)):
        text = "\ufffd" * bad + "word " * 19 + "words"[: 5 - bad]
        assert len(text) == 100 and isinstance(pages.parse(Raw("a.txt", text.encode())), found)


def test_a_bad_byte_in_a_line_is_one_character(tmp_path):
    """JSON is UTF-8, perhaps with a byte order mark: other encodings are refused by line, and not guessed."""
    good = "Die Straße führt über große Hügel. " * 6
    row = json.dumps({"text": good}, ensure_ascii=False)
    encoded = row.encode()
    files = {
        "a.jsonl": "\ufeff".encode() + encoded + b"\n" + encoded.replace(b"gel. ", b"gel\xa9 ", 1),
        "b.jsonl": row.encode("latin-1") + b"\n" + encoded, "c.jsonl": (row + "\n" + row).encode("utf-16"),
        "d.jsonl": json.dumps({"text": "a\u2028b\x85c"}, ensure_ascii=False),
    }  # fmt: skip
    fill(tmp_path, files)
    found = {one.name: one[0 if isinstance(one, Document) else 1] for one in read(tmp_path)}
    assert found == {
        "a.jsonl#0": good, "a.jsonl#1": good.replace("Hügel. ", "Hügel\ufffd ", 1),
        "b.jsonl#0": pages.ENCODING, "b.jsonl#1": good, "c.jsonl#0": pages.ENCODING, "c.jsonl#1": pages.ENCODING,
        "d.jsonl#0": "a\u2028b\x85c",
    }  # fmt: skip


def test_what_cannot_be_used_is_named_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "LARGEST_BYTES", 200)
    whole = gzip.compress(lines(*({"text": f"{PROSE} {i * i}"} for i in range(50))))
    files = {
        "a.png": b"\x89PNG", "b.txt": b"a" * 201, "c.html": b"<p>x\0\0\x01 y</p>", "d.txt": b" \n",
        "e.md": "\ufffd" * 9 + " a b", "g.jsonl.gz": whole[:-30], "h.jsonl.gz": b"plain",
        "f.jsonl": b"{\n[1]\n" + lines({"no": 1}, {"text": "\ud800 x"}, {"text": "x" * 300}, {"text": PROSE}),
    }  # fmt: skip
    fill(tmp_path, files)
    (tmp_path / "i.txt").symlink_to("nowhere")
    os.mkfifo(tmp_path / "j.txt")
    found = list(read(tmp_path))
    named = {one.name: one.reason for one in found if isinstance(one, Unreadable)}
    cut = next(name for name in named if name.startswith("g."))
    assert named == {
        "a.png": pages.UNKNOWN, "b.txt": pages.LARGE, "c.html": pages.BINARY, "d.txt": pages.EMPTY,
        "e.md": pages.ENCODING, "f.jsonl#0": pages.NO_TEXT, "f.jsonl#1": pages.NO_TEXT,
        "f.jsonl#2": pages.NO_TEXT, "f.jsonl#3": pages.ENCODING, "f.jsonl#4": pages.LARGE,
        cut: pages.BROKEN, "h.jsonl.gz#0": pages.BROKEN, "i.txt": pages.UNREADABLE, "j.txt": pages.UNREADABLE,
    }  # fmt: skip
    first, *others = (one.name for one in found if isinstance(one, Document))
    assert first == "f.jsonl#5" and {name.split("#")[0] for name in others} <= {"g.jsonl.gz"}


def test_it_goes_on_behind_any_place(tmp_path):
    """Also where names sort otherwise than paths do: a-b, a/b, a.txt."""
    names = ("a/b.txt", "a/c/d.txt", "a.txt", "a-b/x.txt", b"b\xff.txt", "d.txt")
    packed = gzip.compress(lines(*[{"text": PROSE}] * 2))
    fill(tmp_path, dict.fromkeys(names, PROSE) | {"c.bin": b"", "z.jsonl.gz": packed})
    fill(tmp_path, {"b.jsonl": lines(*[{"text": PROSE}] * 3)})
    os.mkfifo(tmp_path / "y.jsonl")
    whole = list(pages.walk(tmp_path))
    assert len(whole) == 13 and whole[0][0] == Position("a/b.txt")
    assert_it_goes_on(tmp_path, whole)


def assert_it_goes_on(folder, whole):
    """Behind each place comes what came behind it in the whole stream, and no place comes twice."""
    places = [position for position, _ in whole]
    assert len(set(places)) == len(places)
    for i, position in enumerate(places):
        assert list(pages.walk(folder, position)) == whole[i + 1 :]


def test_it_goes_on_behind_a_broken_gzip(tmp_path):
    """Cut off after any other byte, and with it spoilt."""
    good = gzip.compress(lines(*({"text": f"{PROSE} {i**9}"} for i in range(4))), mtime=0)
    fill(tmp_path, {"b.txt": PROSE})
    reached = set()
    for i in range(0, len(good), 2):
        for raw in (good[:i], good[:i] + bytes([good[i] ^ 255]) + good[i + 1 :]):
            fill(tmp_path, {"a.jsonl.gz": raw})
            whole = list(pages.walk(tmp_path))
            assert whole[-1][0] == Position("b.txt")
            assert_it_goes_on(tmp_path, whole)
            reached |= {position.line for position, one in whole if one[1:] == (pages.BROKEN,)}
    assert reached >= {0, 1, 2, 3}


class Failing(io.BytesIO):
    """A file whose readline raises OSError after so many calls, as a disk does."""

    good_calls = 0

    def readline(self, size):
        self.good_calls -= 1
        if self.good_calls < 0:
            raise OSError(5, "Input/output error")
        return super().readline(size)


def test_it_goes_on_behind_a_disk_that_fails(tmp_path, monkeypatch):
    """In any line, and in the midst of one that is too long: the line has the failure, and those before it stay."""
    monkeypatch.setattr(pages, "LARGEST_BYTES", 100)
    monkeypatch.setattr(pages, "open", lambda path, _: Failing(path.read_bytes()), raising=False)
    rows = lines({"text": PROSE}, {"text": PROSE}, {"text": "x" * 250}, {"text": PROSE})
    fill(tmp_path, {"a.jsonl": rows, "b.txt": PROSE})
    for good_calls, line in enumerate((0, 1, 2, 2, 2, 3, 4)):
        monkeypatch.setattr(Failing, "good_calls", good_calls)
        whole = list(pages.walk(tmp_path))
        assert [place for place, _ in whole] == [*(Position("a.jsonl", n) for n in range(line + 1)), Position("b.txt")]
        assert whole[-2][1] == Unreadable(f"a.jsonl#{line}", pages.UNREADABLE)
        assert_it_goes_on(tmp_path, whole)


def test_any_change_of_the_folder_changes_the_digest(tmp_path):
    fill(tmp_path, {"a.txt": PROSE, "b/c.py": "x = 1", "d.bin": b"0"})
    first = pages.inventory(tmp_path)
    assert first[:2] == (2, len(PROSE) + 5)
    (tmp_path / "d.bin").unlink()
    assert pages.inventory(tmp_path) == first  # nothing that would be read
    fill(tmp_path, {"a.txt": PROSE + "!"})
    digests = {first.digest, pages.inventory(tmp_path).digest}
    (tmp_path / "a.txt").rename(tmp_path / "e.txt")
    digests.add(pages.inventory(tmp_path).digest)
    os.utime(tmp_path / "e.txt", ns=(1, 1))
    assert len(digests | {pages.inventory(tmp_path).digest}) == 4


def test_folders_without_anything_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder at"):
        pages.inventory(tmp_path / "none")
    fill(tmp_path, {"a.png": b"x"})
    with pytest.raises(ValueError, match="holds no file that can be used"):
        pages.inventory(tmp_path)
    fill(tmp_path, {"staged/b.txt": PROSE})
    assert pages.inventory(tmp_path).files == 1  # pages may lie in a folder of any name: this is no stopped run


def test_parsing_never_raises():
    for data in (b"", b"\xff\xfe", b"[" * 100_000, b'{"text": "' + b"\\u" * 9, bytes(range(256)) * 20):
        for is_line in (False, True):
            assert isinstance(pages.parse(Raw("x.html", data, is_line)), Document | Unreadable)


def test_kinds_by_hand():
    sentences = "The cat sat on the mat and looked at the rain, which = sadness; it did so for 2 + 2 hours. " * 3
    for name, text, kind in (
        ("a/b.PY", sentences, "code"), ("x.tsx", "x² = 4", "code"), ("page.htm", "", "web"),
        ("page.html", "<p class='a' id='b'><math>x</math></p>", "web"),  # its text is still to be extracted
        ("notes.txt", sentences + "<math>x</math>", "maths"), ("notes.txt", "Let x = 2. Then x + 1 = 3.", "maths"),
        ("notes.txt", sentences + "\\begin{equation} a \\end{equation}", "maths"), ("notes.txt", sentences, "text"),
        ("noextension", sentences, "text"), ("notes.txt", "", "text"),
        # Greek letters are symbols where they stand alone; a clause without spaces is more than one word
        ("a.txt", languages.document("greek"), "text"), ("a.txt", "Εδώ το λ είναι 3, και 2πr = θ + λ.", "maths"),
        ("a.txt", languages.SENTENCES["japanese"][0] + "5+3=8", "text"),
    ):  # fmt: skip
        assert pages.kind_of(name, text) == kind
    assert pages.maths_density("x = 1 and \\frac{1}{2} ≥ y") == 3 / 7 and pages.maths_density("") == 0
    extensions = " ".join(pages.EXTENSIONS.values()).split()
    assert len(pages.EXTENSIONS) == 14 and len(extensions) == len(pages.CODE)  # no extension is of two languages


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

"""Folders of files: what can be read is read in order, what cannot is named with its reason."""

import gzip
import json
import os

import numpy as np
import pytest

from afm_ref.curation import pages
from afm_ref.curation.pages import Position, Raw, Unreadable
from afm_ref.data.corpora import Document
from experiments.crawl import planting
from tests.curation import languages

PROSE = "Prose about a river and its banks."


def lines(*rows):
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def read(folder):
    return (pages.parse(raw) for _, raw in pages.walk(folder))


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
    found = list(read(tmp_path))
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


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"url": "https://forum.example.com/viewtopic.php"}, "text"),
        ({"url": "https://bad.sh"}, "text"),
        ({"url": "viewtopic.php"}, "text"),
        ({"name": "https://www.politika.rs"}, "text"),
        ({"path": "HTTP://www.example.cc"}, "text"),
        ({"id": "1.cc"}, "text"),
        ({"name": "a/b.CC"}, "code"),
        ({"path": "a/b.rs"}, "code"),
        ({"url": "https://example.com/raw/b.py", "path": "b.py"}, "code"),
        ({"name": "https://example.com/b", "path": "b.py"}, "code"),
        ({"name": 1, "path": "b.md"}, "text"),
    ],
    ids=["php", "sh", "no scheme", "rs as a name", "cc as a path", "id", "name", "path", "both", "address", "neither"],
)
def test_files_make_a_line_code_and_addresses_do_not(row, kind):
    raw = Raw("c.jsonl#0", json.dumps({"text": PROSE} | row).encode(), is_line=True)
    assert pages.parse(raw) == Document(PROSE, kind, "c.jsonl#0")


def test_one_character_in_a_hundred_may_be_undecodable():
    for bad, found in ((1, Document), (2, Unreadable)):
        text = "\ufffd" * bad + "word " * 19 + "words"[: 5 - bad]
        assert len(text) == 100 and isinstance(pages.parse(Raw("a.txt", text.encode())), found)


def test_a_bad_byte_in_a_line_is_one_character(tmp_path):
    """JSON is UTF-8, perhaps with a byte order mark: other encodings are refused by line, and not guessed."""
    good = "Die Straße führt über große Hügel. " * 6
    row = json.dumps({"text": good}, ensure_ascii=False)
    fill(
        tmp_path,
        a_DOT_jsonl="\ufeff".encode() + row.encode() + b"\n" + row.encode().replace(b"gel. ", b"gel\xa9 ", 1),
        b_DOT_jsonl=row.encode("latin-1") + b"\n" + row.encode(), c_DOT_jsonl=(row + "\n" + row).encode("utf-16"),
        d_DOT_jsonl=json.dumps({"text": "a\u2028b\x85c"}, ensure_ascii=False),
    )  # fmt: skip
    found = {one.name: one[0 if isinstance(one, Document) else 1] for one in read(tmp_path)}
    assert found == {
        "a.jsonl#0": good, "a.jsonl#1": good.replace("Hügel. ", "Hügel\ufffd ", 1),
        "b.jsonl#0": pages.ENCODING, "b.jsonl#1": good, "c.jsonl#0": pages.ENCODING, "c.jsonl#1": pages.ENCODING,
        "d.jsonl#0": "a\u2028b\x85c",
    }  # fmt: skip


def test_what_cannot_be_used_is_named_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "LARGEST_BYTES", 200)
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
    found = list(read(tmp_path))
    named = {one.name: one.reason for one in found if isinstance(one, Unreadable)}
    cut = next(name for name in named if name.startswith("g."))
    assert named == {
        "a.png": pages.UNKNOWN, "b.txt": pages.LARGE, "c.html": pages.BINARY, "d.txt": pages.EMPTY,
        "e.md": pages.ENCODING, "f.jsonl#0": pages.NO_TEXT, "f.jsonl#1": pages.NO_TEXT,
        "f.jsonl#2": pages.NO_TEXT, "f.jsonl#3": pages.ENCODING, "f.jsonl#4": pages.LARGE,
        cut: pages.BROKEN, "h.jsonl.gz#0": pages.BROKEN, "i.txt": pages.UNREADABLE, "j.txt": pages.UNREADABLE,
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
    """Cut off after any byte, and with any byte spoilt."""
    good = gzip.compress(lines(*({"text": f"{PROSE} {i**9}"} for i in range(4))), mtime=0)
    fill(tmp_path, b_DOT_txt=PROSE)
    reached = set()
    for i in range(len(good)):
        for raw in (good[:i], good[:i] + bytes([good[i] ^ 255]) + good[i + 1 :]):
            fill(tmp_path, a_DOT_jsonl_DOT_gz=raw)
            whole = list(pages.walk(tmp_path))
            assert whole[-1][0] == Position("b.txt")
            assert_it_goes_on(tmp_path, whole)
            reached |= {position.line for position, one in whole if one[1:] == (pages.BROKEN,)}
    assert reached >= {0, 1, 2, 3}


class Failing:
    """A file whose readline raises OSError after so many calls, as a disk does."""

    def __init__(self, path, good_calls):
        self.file, self.calls = path.open("rb"), iter(range(good_calls))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def readline(self, size):
        if next(self.calls, None) is None:
            raise OSError(5, "Input/output error")
        return self.file.readline(size)


def test_it_goes_on_behind_a_disk_that_fails(tmp_path, monkeypatch):
    """In any line, and in the midst of one that is too long: the line has the failure, and those before it stay."""
    monkeypatch.setattr(pages, "LARGEST_BYTES", 100)
    rows = lines({"text": PROSE}, {"text": PROSE}, {"text": "x" * 250}, {"text": PROSE})
    fill(tmp_path, a_DOT_jsonl=rows, b_DOT_txt=PROSE)
    for good_calls, line in enumerate((0, 1, 2, 2, 2, 3, 4)):
        monkeypatch.setattr(pages, "open", lambda path, _, n=good_calls: Failing(path, n), raising=False)
        whole = list(pages.walk(tmp_path))
        assert [place for place, _ in whole] == [*(Position("a.jsonl", n) for n in range(line + 1)), Position("b.txt")]
        assert whole[-2][1] == Unreadable(f"a.jsonl#{line}", pages.UNREADABLE)
        assert_it_goes_on(tmp_path, whole)


def test_any_change_of_the_folder_changes_the_digest(tmp_path):
    fill(tmp_path, a_DOT_txt=PROSE, b__c_DOT_py="x = 1", d_DOT_bin=b"0")
    first = pages.inventory(tmp_path)
    assert first[:2] == (2, len(PROSE) + 5) and pages.inventory(tmp_path) == first
    (tmp_path / "d.bin").unlink()
    assert pages.inventory(tmp_path) == first  # nothing that would be read
    digests = {first.digest}
    fill(tmp_path, a_DOT_txt=PROSE + "!")
    digests.add(pages.inventory(tmp_path).digest)
    (tmp_path / "a.txt").rename(tmp_path / "e.txt")
    digests.add(pages.inventory(tmp_path).digest)
    os.utime(tmp_path / "e.txt", ns=(1, 1))
    digests.add(pages.inventory(tmp_path).digest)
    assert len(digests) == 4


def test_folders_without_anything_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder at"):
        pages.inventory(tmp_path / "none")
    fill(tmp_path, a_DOT_png=b"x")
    with pytest.raises(ValueError, match="holds no file that can be used"):
        pages.inventory(tmp_path)


def test_an_unfinished_run_is_no_source(tmp_path):
    """Its staged shards would be curated a second time."""
    fill(tmp_path, a_DOT_txt=PROSE, staged__b_DOT_txt=PROSE)
    assert pages.inventory(tmp_path).files == 2  # pages may lie in a folder of any name
    fill(tmp_path, staged__part_DOT_txt=PROSE)
    (tmp_path / "staged" / "part-00000.jsonl.gz").write_bytes(b"")
    with pytest.raises(ValueError, match="is unfinished: run the same curate again to finish it"):
        pages.inventory(tmp_path)


def test_parsing_never_raises():
    for data in (b"", b"\xff\xfe", b"[" * 100_000, b'{"text": "' + b"\\u" * 9, bytes(range(256)) * 20):
        for is_line in (False, True):
            assert isinstance(pages.parse(Raw("x.html", data, is_line)), Document | Unreadable)


SENTENCES = "The cat sat on the mat and looked at the rain, which = sadness; it did so for 2 + 2 hours. " * 3


@pytest.mark.parametrize(
    "name, text, kind",
    [
        ("a/b.PY", SENTENCES, "code"),
        ("x.tsx", "x² = 4", "code"),
        ("page.html", "<p class='a' id='b'>x = 1</p>", "web"),
        ("page.htm", "", "web"),
        ("page.html", "<p><math>x</math></p>", "web"),  # its text is still to be extracted
        ("notes.txt", SENTENCES + "<math>x</math>", "maths"),
        ("notes.txt", SENTENCES, "text"),
        ("notes.txt", "Let x = 2. Then x + 1 = 3.", "maths"),
        ("notes.txt", SENTENCES + "\\begin{equation} a \\end{equation}", "maths"),
        ("noextension", SENTENCES, "text"),
        ("notes.txt", "", "text"),
    ],
)
def test_kinds_by_hand(name, text, kind):
    assert pages.kind_of(name, text) == kind


def test_prose_of_other_scripts_is_no_maths():
    """Greek letters are symbols where they stand alone; a clause without spaces is more than one word."""
    assert pages.kind_of("a.txt", languages.document("greek")) == "text"
    assert pages.kind_of("a.txt", "Εδώ το λ είναι 3, και 2πr = θ + λ.") == "maths"
    assert pages.kind_of("a.txt", languages.SENTENCES["japanese"][0] + "5+3=8") == "text"


def test_there_are_14_languages():
    assert len(pages.EXTENSIONS) == 14
    assert len(pages.CODE) == sum(map(len, pages.EXTENSIONS.values()))  # no extension is of two


def test_density_by_hand():
    assert pages.maths_density("x = 1 and \\frac{1}{2} ≥ y") == 3 / 7
    assert pages.maths_density("") == 0


def test_generated_sums_are_maths():
    rng = np.random.default_rng(0)
    assert all(pages.kind_of("a.txt", planting.worked_sum(rng)) == "maths" for _ in range(60))

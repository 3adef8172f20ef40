"""The embedded corpus against what importing the modules shows, and the refusals of a user's folder."""

import inspect
import json
import textwrap

import pytest

from afm_ref.data import corpora
from afm_ref.data.corpora import Document


def parts(name, source, seen=()):
    return {d.source: d.text for d in corpora.module_documents(name, source, set(seen))}


def test_docstrings_are_those_that_inspect_finds():
    """`inspect` reads them from imported objects, the corpus from the syntax tree."""
    for module in (textwrap, json.decoder):
        found = parts(module.__name__, inspect.getsource(module))
        for name, member in inspect.getmembers(module):
            if inspect.isfunction(member) and member.__module__ == module.__name__ and member.__doc__:
                assert inspect.getdoc(member).strip() in found["docstrings"], name
                assert textwrap.dedent(member.__doc__).strip().splitlines()[0] not in found["code"]
        assert "def " in found["code"]


def test_what_is_taken_of_a_module():
    """Nothing is executed, a docstring is taken once, tables and broken files not at all."""
    text = "A module that must not run. " * 5
    source = f'"""{text}"""\nraise SystemExit("executed")\n' + "x = 'y'\n" * 20
    assert set(parts("danger", source)) == {"docstrings", "code"}
    assert set(parts("danger", source, [text.strip()])) == {"code"}
    assert not parts("table", "x = [" + "12345, " * 200 + "]")
    assert not parts("broken", "def f(:\n" * 40)


def test_embedded_corpus_has_three_parts(monkeypatch, tmp_path):
    """Without the library's tests and tables; a Python without sources is told so."""
    chosen = corpora.modules()
    names = [name for name, _ in chosen]
    assert len(names) > 100
    assert not [name for name in names if "test" in name.split(".") or name.startswith(("encodings.", "site-packages"))]
    with pytest.raises(ValueError, match="read_folder"):
        corpora.embedded(tmp_path, progress=False)
    chosen = chosen[:25]
    monkeypatch.setattr(corpora, "modules", lambda stdlib=None: chosen)
    documents = corpora.embedded(progress=False)
    assert {document.source for document in documents} == {"topics", "docstrings", "code"}
    assert len({(document.source, document.name) for document in documents}) == len(documents)
    assert all(len(document.text) > 50 for document in documents)


def test_held_out_share_and_sides():
    modules = [Document("", "docstrings", f"module{i}") for i in range(5_000)]
    held_out = [corpora.is_held_out(document) for document in modules]
    assert 0.045 < sum(held_out) / len(held_out) < 0.055
    assert held_out == [corpora.is_held_out(document._replace(source="code")) for document in modules]


def test_read_folder(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.TXT").write_text("zwei \u00fc\n", encoding="utf-8")
    (tmp_path / "a.md").write_bytes(b"\xef\xbb\xbf# one\r\n")
    (tmp_path / "ignored.bin").write_bytes(b"\0\0")
    (tmp_path / "blank.txt").write_text(" \n")
    found = [Document("# one\r\n", "folder", "a.md"), Document("zwei \u00fc\n", "folder", "b/two.TXT")]
    assert corpora.read_folder(tmp_path) == found


def test_unreadable_folders_are_refused_by_name(tmp_path):
    for raw, message in (
        ("a\nb\n".encode("utf-16-le"), r"bad.txt is a binary file or UTF-16 \(line 1 holds"),
        (b"tea\r\n\ncaf\xe9\n", "bad.txt is not UTF-8 at byte 9, in line 3"),
        (b"  \n", "empty corpus"),
    ):
        (tmp_path / "bad.txt").write_bytes(raw)
        with pytest.raises(ValueError, match=message):
            corpora.read_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        corpora.read_folder(tmp_path / "nowhere")


def test_docstrings_are_found_behind_form_feeds():
    """They are old authors' page breaks. What `ast` counts as lines has none at them."""
    code = "".join(f"{c}{d} = {d}\n" for c in "abcd" for d in "efghi")
    source = f'"""A module.{" Long enough." * 8}"""\n\f\n{code}\f\ndef f():\n    """Do it."""\n    return 1\n'
    docstrings, kept = corpora.module_documents("m", source, set())
    assert docstrings.text.endswith("Do it.\n") and kept.text == f"{code}\ndef f():\n    return 1\n"

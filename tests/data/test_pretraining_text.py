"""Training text: corpora against what importing shows, shared runs removed as by brute force, mixtures."""

import inspect
import json
import re
import textwrap
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref.data import corpora, overlap, pretraining_text
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


WORDS = st.sampled_from(["a", "B", "b", "c,", "d.", "e"])
PARAGRAPHS = st.lists(st.lists(WORDS, min_size=1, max_size=30).map(" ".join), min_size=1, max_size=6)
TEXTS = st.lists(PARAGRAPHS.map("\n\n".join), min_size=1, max_size=4)


def brute_force(train, held_out, n):
    """Shared runs, found by looking for ' w1 w2 ... ' in the normalised other text."""
    old, new = ([re.sub(r"[^\w]", " ", d.text.lower()).split() for d in side] for side in (train, held_out))
    runs = {f" {' '.join(words[i : i + n])} " for words in new for i in range(len(words) - n + 1)}
    return [run for run in runs if any(run in f" {' '.join(words)} " for words in old)]


def documents(texts):
    return [Document(text, "docstrings", str(i)) for i, text in enumerate(texts)]


@given(train=TEXTS, held_out=TEXTS, n=st.integers(4, 7))
@settings(max_examples=20)
def test_nothing_is_shared_after_removal(train, held_out, n):
    train, held_out = documents(train), documents(held_out)
    kept = overlap.remove_shared(train, held_out, n)
    assert not brute_force(kept, held_out, n)
    for document in kept:
        origin = train[int(document.name.split("#")[0])].text
        assert document.text.strip("\n") in origin


def test_only_the_paragraphs_that_share_are_removed():
    clean = [f"{word} " * 3 + " ".join(f"{word}{i}" for i in range(40)) for word in ("oak", "elm", "ash", "fir")]
    stolen = "words that the held out side has in exactly this order, and no others; all thirteen"
    train = documents(["\n\n".join([clean[0], clean[1], "so: " + stolen.upper(), clean[2], clean[3]]), clean[0]])
    kept = overlap.remove_shared(train, documents(["before\n" + stolen.replace(" ", "\n")]))
    assert [document.text for document in kept] == [*("\n\n".join(c) + "\n" for c in (clean[:2], clean[2:])), clean[0]]


def test_a_run_across_paragraphs_takes_both():
    """Twelve words may be shared, thirteen not; a conversation is dropped whole."""
    left, right = ([f"{side}{i}" for i in range(40)] for side in ("left", "right"))
    train = documents([" ".join(left) + "\n\n" + " ".join(right)])
    for words, kept in ((12, train), (13, [])):
        assert overlap.remove_shared(train, documents([" ".join(left[34:] + right[: words - 6])])) == kept
    chat = [Document("<|user|>" + "x " * 100 + "\n\n" + " ".join(left) + "<|end|>", "tasks", "t", markers=True)]
    assert overlap.remove_shared(chat, documents([" ".join(left)])) == []


FORMS = [  # (as it is usually written, the same text in other characters)
    ("Über größere Hügel führte die Straße né après Ñandú", "NFD"),
    ("강은 천천히 흘렀고 강가에는 나무들이 자랐다", "NFD"),
    ("the final office of Waffle", "the ﬁnal oﬃce of Waﬄe"),
    ("a soft hyphen ends no word", "a so\u00adft hy\u200bphen en\u2060ds no wo\ufeffrd"),
    ("Tokyo 2024 ガイド", "Ｔｏｋｙｏ\xa0２０２４ ｶﾞｲﾄﾞ"),
]


@pytest.mark.parametrize(("text", "other"), FORMS)
def test_forms_of_unicode_are_the_same_words(text, other):
    other = unicodedata.normalize("NFD", text) if other == "NFD" else other
    assert text != other and overlap.words(other) == overlap.words(text) == text.lower().split()


def test_a_copy_in_another_form_is_removed_and_what_stays_is_as_it_was():
    stolen = "Über größere Hügel führte die schöne Straße, vorbei an Häusern, Gärten, Büschen, Mühlen und Flüssen"
    others = [" ".join(f"grün{word}{i}" for i in range(30)) for word in ("a", "b")]
    train = unicodedata.normalize("NFD", "\n\n".join([others[0], stolen, others[1]]))
    kept = overlap.remove_shared(documents([train]), documents([stolen]))
    assert [d.text for d in kept] == [unicodedata.normalize("NFD", text) + "\n" for text in others]


SHARES = {"english": 0.4, "code": 0.2, "everyday": 0.25, "tasks": 0.15}


@pytest.fixture(scope="module")
def small():
    """Some modules of middle size, of both sides, and the beginning of every topic."""
    found = [(name, path) for name, path in corpora.modules() if 4000 < path.stat().st_size < 60_000]
    modules = found[::12] + [m for m in found if corpora.is_held_out(corpora.Document("", "code", m[0]))][:3]
    topics = [document._replace(text=document.text[:1000]) for document in corpora.topics()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpora, "modules", lambda stdlib=None: sorted(set(modules)))
        patch.setattr(corpora, "topics", lambda: list(topics))
        patch.setattr(pretraining_text, "HELD_OUT_GENERATED", 60)
        yield


@pytest.fixture(scope="module")
def mixed(small):
    return pretraining_text.pretraining_documents(seed=1, weights=SHARES, progress=False)


def test_shares_are_as_stated(mixed):
    train, held_out = mixed
    total = pretraining_text.size_bytes(train)
    for part, share in SHARES.items():
        sources = pretraining_text.ENGLISH if part == "english" else (part,)
        size = pretraining_text.size_bytes([document for document in train if document.source in sources])
        assert size / total == pytest.approx(share, abs=0.02), part
    assert {document.source for document in held_out} == {"topics", "docstrings", "code", "everyday", "tasks"}
    real = ("topics", "docstrings", "code")
    ours, other = ({re.split("[#@]", d.name)[0] for d in side if d.source in real} for side in mixed)
    assert ours and other and not ours & other  # no document is on both sides


def test_a_share_of_zero_leaves_a_part_out_and_the_seed_decides_all(small):
    weights = {"english": 1, "code": 1, "everyday": 0, "tasks": 0}
    train, held_out = found = pretraining_text.pretraining_documents(weights=weights, progress=False)
    assert {document.source for document in train} == {"topics", "docstrings", "code"}
    assert not {document.source for document in held_out} & {"everyday", "tasks"}
    assert pretraining_text.pretraining_documents(weights=weights, progress=False) == found


def test_mixture_shares_no_13_gram(mixed):
    """By brute force: every run of 13 words of every held-out text is looked for in one string of all training text."""
    train, held_out = mixed
    flat = " \n ".join(" ".join(re.findall(r"\w+", document.text.lower())) for document in train)
    looked_for = 0
    for document in held_out:
        found = re.findall(r"\w+", document.text.lower())
        for i in range(0, len(found) - 12, 5):  # a shared stretch of 17 words cannot slip through
            assert f" {' '.join(found[i : i + 13])} " not in flat, document.name
            looked_for += 1
    assert looked_for > 1000
    assert not overlap.ngrams(train) & overlap.ngrams(held_out)
    # chapter 0 scores the tiny model on these topics
    topics = {document.name for document in held_out if document.source == "topics"}
    assert topics == {document.name for document in corpora.topics() if corpora.is_held_out(document)}


@pytest.mark.parametrize("weights", [{"english": 1}, {**SHARES, "code": -1}, {**SHARES, "english": 0}])
def test_bad_weights_are_refused(weights):
    with pytest.raises(ValueError, match="weights need a share"):
        pretraining_text.pretraining_documents(weights=weights)


def test_folder_of_the_user(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(" ".join(f"{name}{i}" for i in range(200)))
    train, held_out = pretraining_text.folder_documents(tmp_path)
    assert sorted(document.name for document in train + held_out) == ["a.txt", "b.txt", "c.txt"] and held_out
    (tmp_path / "d").mkdir()
    for name, message in (("one", "at least two files"), ("two", "repeat each other")):
        (tmp_path / "d" / f"{name}.txt").write_text((tmp_path / "a.txt").read_text())
        with pytest.raises(ValueError, match=message):
            pretraining_text.folder_documents(tmp_path / "d")


def test_pieces_put_together_are_the_document():
    text = "\n\n".join(f"def f{i}():\n    return {i}" for i in range(2000)) + "\n"
    pieces = pretraining_text.pieces(corpora.Document(text, "code", "m"))
    assert len(pieces) > 3
    assert "\n".join(piece.text for piece in pieces) == text and all(p.text.startswith("def ") for p in pieces)

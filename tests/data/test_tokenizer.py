"""The tokenizer against a BPE in plain Python, the library's own decoder, and properties of any text."""

import itertools
import json
import re
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from afm_ref.data import tokenizer as tk

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
CODE_TEXT = st.text(st.sampled_from(" \t\n\rab_.(1é\u00a0\u2003\u200d😀中'<|>x"), max_size=40)
NASTY = " lead\n\n\tdef f():\r\n\n        return  '\U0001f468\u200d\U0001f469' <0x41> \x00\x0b\x85\u2028 end  \n"


@given(text=st.one_of(ANY_TEXT, CODE_TEXT))
@example(text=NASTY)
@example(text="e\u0301 vs \u00e9, \ufb01 vs fi")
@settings(max_examples=150)
def test_round_trip_of_any_text(tok, text):
    ids = tok.encode(text)
    assert ids.dtype == np.int32
    assert tok.decode(ids) == text
    assert tok.byte_lengths(ids).sum() == len(text.encode())
    assert not len(ids) or ids.min() >= len(tk.SPECIAL_TOKENS)


def test_decode_agrees_with_the_library(tok, documents, tmp_path):
    from tokenizers import Tokenizer as Backend

    tok.save(tmp_path / "tokenizer.json")
    library = Backend.from_file(str(tmp_path / "tokenizer.json"))
    for text in [NASTY, *(document.text[:3000] for document in documents)]:
        assert library.decode(tok.encode(text).tolist()) == text


def plain_bpe(word, ranks):
    """Merge the pair of lowest rank again and again."""
    parts = list(word)
    while True:
        pairs = [(ranks.get((a, b), len(ranks)), i) for i, (a, b) in enumerate(itertools.pairwise(parts))]
        rank, i = min(pairs, default=(len(ranks), 0))
        if rank == len(ranks):
            return parts
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


def test_bpe_matches_a_plain_python_bpe(tok, documents, tmp_path):
    """On ASCII text, where Python's own re can split as the library does."""
    tok.save(tmp_path / "tokenizer.json")
    model = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    ranks = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}
    split = re.compile(tk.SPLIT.replace(r"[^\s\p{L}\p{N}]", r"[^\sA-Za-z0-9]").replace(r"[^\s\p{N}]", r"[^\s0-9]")
                       .replace(r"\p{L}", "[A-Za-z]").replace(r"\p{N}", "[0-9]"))  # fmt: skip
    text = "".join(c for document in documents[::4] for c in document.text if c.isascii())[:60_000]
    expected = [model["vocab"][part] for word in split.findall(text) for part in plain_bpe(word, ranks)]
    assert tok.encode(text).tolist() == expected


def test_digits_stay_single(documents):
    """Even where a number is the most frequent thing in the text."""
    tok = tk.train([document.text + "2024 2024" * 200 for document in documents], vocab_size=700)
    assert [tok.token(i) for i in tok.encode("x2024")] == ["x", "2", "0", "2", "4"]
    for token in map(tok.token, range(len(tk.SPECIAL_TOKENS) + 256, tok.vocab_size)):
        assert len(token) == 1 or not any(c.isdigit() for c in token)


@pytest.mark.parametrize("text", ["\u4e2d", "\U0001f600", "\x00", "\u0301"])
def test_unknown_characters_become_their_bytes(tok, text):
    assert tok.encode(text).tolist() == [len(tk.SPECIAL_TOKENS) + byte for byte in text.encode()]


def test_no_normalisation(tok):
    composed, decomposed = "\u00e9", "e\u0301"
    assert unicodedata.normalize("NFC", decomposed) == composed
    assert tok.encode(composed).tolist() != tok.encode(decomposed).tolist()


@pytest.mark.parametrize("marker", tk.SPECIAL_TOKENS)
def test_typed_markers_stay_text(tok, marker):
    text = f"ignore this{marker}{marker} and that"
    assert tok.encode(text).min() >= len(tk.SPECIAL_TOKENS)
    assert tok.decode(tok.encode(text)) == text
    marked = tok.encode(text, markers=True)
    assert (marked == tk.SPECIAL_TOKENS.index(marker)).sum() == 2
    assert tok.decode(marked) == "ignore this and that"
    assert tok.decode(marked, skip_special=False) == text
    assert tok.encode(text).min() >= len(tk.SPECIAL_TOKENS)  # also after a call with markers


def test_typed_byte_tokens_stay_text(tok):
    assert len(tok.encode("<0x41>")) > 1
    assert tok.decode(tok.encode("<0x41>")) == "<0x41>"


def test_indentation_is_cheap(tok):
    assert [tok.token(i) for i in tok.encode("\n        return")] == ["\n       ", " return"]
    assert tok.encode(" return")[0] == tok.encode("\n    return")[-1]


def test_training_is_deterministic(tok, documents, tmp_path):
    """Another process (other hash seeds, in Python and in the library) writes the same file."""
    (tmp_path / "texts.json").write_text(json.dumps([document.text for document in documents]))
    code = (
        "import json, sys; from afm_ref.data import tokenizer as t\n"
        "t.train(json.load(open(sys.argv[1])), vocab_size=800).save(sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "texts.json", tmp_path / "a.json"], check=True)
    tok.save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_markers_in_the_texts_teach_nothing(tok, documents):
    texts = [f"<|user|>{document.text}<|end|><|assistant|><|end|>" for document in documents]
    assert tk.train(texts, vocab_size=800)._json == tok._json


def test_what_is_saved_makes_the_same_tokenizer(tok, tmp_path):
    tok.save(tmp_path / "tokenizer.json")
    loaded = tk.Tokenizer((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert loaded.encode(NASTY).tolist() == tok.encode(NASTY).tolist()
    assert loaded.encode("<|eos|>").min() >= len(tk.SPECIAL_TOKENS)


def test_interrupted_save_leaves_the_old_file(tok, tmp_path, monkeypatch):
    path = tmp_path / "tokenizer.json"
    path.write_text("old")

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="no space"):
        tok.save(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def damaged(tok, change):
    spec = json.loads(tok._json)
    change(spec)
    return json.dumps(spec)


def test_corrupt_files_are_refused(tok):
    broken = {
        "cut short": tok._json[: len(tok._json) // 2],
        "another format": '{"model": {"type": "WordPiece"}}',
        "not a byte-fallback": damaged(tok, lambda s: s["model"].update(byte_fallback=False)),
        "ids 0..V-1": damaged(tok, lambda s: s["model"]["vocab"].update(extra=5000)),
        "no token": damaged(tok, lambda s: s["model"]["vocab"].update({"<0x00>": 7, "<0x01>": 6})),
        "cannot|not a tokenizer": damaged(tok, lambda s: s["model"].update(merges=[["zz", "qq"]])),
    }
    for message, text in broken.items():
        with pytest.raises(ValueError, match=message):
            tk.Tokenizer(text)


def test_bad_training_input_is_refused():
    with pytest.raises(ValueError, match="empty"):
        tk.train([])
    with pytest.raises(ValueError, match="empty"):
        tk.train(["", ""])
    with pytest.raises(ValueError, match="too small"):
        tk.train(["some text"], vocab_size=300)
    with pytest.raises(ValueError, match="give only"):
        tk.train(["some text"], vocab_size=2000)


def test_bad_text_and_ids_are_refused(tok):
    with pytest.raises(TypeError):
        tok.encode(b"bytes")
    with pytest.raises(ValueError, match="surrogate"):
        tok.encode("\ud800")
    for bad in (-1, tok.vocab_size):
        with pytest.raises(ValueError, match="outside"):
            tok.decode([bad])
        with pytest.raises(ValueError, match="outside"):
            tok.byte_lengths([bad])

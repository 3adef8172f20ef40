"""The tokenizer against a BPE in plain Python, the library's own decoder, and properties of any text."""

import itertools
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from afm_ref.data import tokenizer as tk

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
CODE_TEXT = st.text(st.sampled_from(" \t\n\rab_.(1é\u00a0\u2003\u200d😀中'<|>x"), max_size=40)
NASTY = " lead\n\n\tdef f():\r\n\n        return  '\U0001f468\u200d\U0001f469' <0x41> \x00\x0b\x85\u2028 end  \n"


@pytest.fixture(scope="module")
def library(tok, tmp_path_factory):
    """What the tokenizers library itself makes of the saved file."""
    from tokenizers import Tokenizer as Backend

    path = tmp_path_factory.mktemp("saved") / "tokenizer.json"
    tok.save(path)
    assert tk.Tokenizer(path.read_text(encoding="utf-8")).encode(NASTY).tolist() == tok.encode(NASTY).tolist()
    return Backend.from_file(str(path))


@given(text=st.one_of(ANY_TEXT, CODE_TEXT))
@example(text=NASTY)
@example(text="e\u0301 vs \u00e9, \ufb01 vs fi, <0x41>")
@settings(max_examples=100)
def test_round_trip_of_any_text(tok, library, text):
    """Characters put together otherwise stay so; the library decodes what was saved to the same text."""
    ids = tok.encode(text)
    assert library.decode(ids.tolist()) == tok.decode(ids) == text and ids.dtype == np.int32
    assert tok.byte_lengths(ids).sum() == len(text.encode())
    assert not len(ids) or ids.min() >= len(tk.SPECIAL_TOKENS)


def plain_bpe(word, ranks):
    """Merge the pair of lowest rank again and again."""
    parts = list(word)
    while True:
        pairs = [(ranks.get((a, b), len(ranks)), i) for i, (a, b) in enumerate(itertools.pairwise(parts))]
        rank, i = min(pairs, default=(len(ranks), 0))
        if rank == len(ranks):
            return parts
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


def test_bpe_matches_a_plain_python_bpe(tok, documents):
    """On ASCII text, where Python's own re can split as the library does."""
    model = json.loads(tok._json)["model"]
    ranks = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}
    split = re.compile(tk.SPLIT.replace(r"[^\s\p{L}\p{N}]", r"[^\sA-Za-z0-9]").replace(r"[^\s\p{N}]", r"[^\s0-9]")
                       .replace(r"\p{L}", "[A-Za-z]").replace(r"\p{N}", "[0-9]"))  # fmt: skip
    text = "".join(c for document in documents[::4] for c in document.text if c.isascii())[:20_000]
    expected = [model["vocab"][part] for word in split.findall(text) for part in plain_bpe(word, ranks)]
    assert tok.encode(text).tolist() == expected


def test_digits_stay_single(documents):
    """Even where a number is the most frequent thing in the text."""
    tok = tk.train([document.text + "2024 2024" * 200 for document in documents], vocab_size=700)
    assert [tok.decode([i]) for i in tok.encode("x2024")] == ["x", "2", "0", "2", "4"]
    for token in (tok.decode([i]) for i in range(len(tk.SPECIAL_TOKENS) + 256, tok.vocab_size)):
        assert len(token) == 1 or not any(c.isdigit() for c in token)


def test_unknown_characters_become_their_bytes_and_indentation_is_cheap(tok):
    for text in ("\u4e2d", "\U0001f600", "\x00", "\u0301"):
        assert tok.encode(text).tolist() == [len(tk.SPECIAL_TOKENS) + byte for byte in text.encode()]
    assert [tok.decode([i]) for i in tok.encode("\n        return")] == ["\n       ", " return"]
    assert tok.encode(" return")[0] == tok.encode("\n    return")[-1]


@pytest.mark.parametrize("marker", tk.SPECIAL_TOKENS)
def test_typed_markers_stay_text(tok, marker):
    text = f"ignore this{marker}{marker} and that"
    marked = tok.encode(text, markers=True)
    assert (marked == tk.SPECIAL_TOKENS.index(marker)).sum() == 2
    assert (tok.decode(marked), tok.decode(marked, skip_special=False)) == ("ignore this and that", text)
    plain = tok.encode(text)  # also after a call with markers
    assert plain.min() >= len(tk.SPECIAL_TOKENS) and tok.decode(plain) == text


def test_training_is_deterministic(tok, documents, tmp_path):
    """Another process (other hash seeds, in Python and in the library) writes the same file; markers teach nothing."""
    texts = [f"<|user|>{document.text}<|end|><|assistant|><|end|>" for document in documents]
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    code = "import json, sys; from afm_ref.data import tokenizer as t\n"
    code += "t.train(json.load(open(sys.argv[1])), vocab_size=800).save(sys.argv[2])"
    subprocess.run([sys.executable, "-c", code, tmp_path / "texts.json", tmp_path / "a.json"], check=True)
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == tok._json


def test_bad_text_and_ids_are_refused(tok):
    with pytest.raises(TypeError):
        tok.encode(b"bytes")
    with pytest.raises(ValueError, match="surrogate"):
        tok.encode("\ud800")
    for text, size, message in (("", 2048, "empty"), ("some text", 300, "too small"), ("some text", 2000, "give only")):
        with pytest.raises(ValueError, match=message):
            tk.train([text, ""], vocab_size=size)
    for bad, call in itertools.product((-1, tok.vocab_size), (tok.decode, tok.byte_lengths)):
        with pytest.raises(ValueError, match="outside"):
            call([bad])


def test_corrupt_files_are_refused(tok):
    for message, change in (
        ("another format", lambda spec: spec.pop("model")),
        ("not a byte-fallback", lambda spec: spec["model"].update(byte_fallback=False)),
        ("ids 0..V-1", lambda spec: spec["model"]["vocab"].update(extra=5000)),
        ("no token", lambda spec: spec["model"]["vocab"].update({"<0x00>": 7, "<0x01>": 6})),
        ("tokenizers library can read", lambda spec: spec["model"].update(merges=[["zz", "qq"]])),
    ):
        change(spec := json.loads(tok._json))
        with pytest.raises(ValueError, match=message):
            tk.Tokenizer(json.dumps(spec))
    with pytest.raises(ValueError, match="cut short"):
        tk.Tokenizer(tok._json[: len(tok._json) // 2])

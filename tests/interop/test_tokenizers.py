"""load_tokenizer: our own and other people's tokenizer.json."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref.data import tokenizer as own
from afm_ref.interop import hugging_face
from afm_ref.interop.foreign_tokenizer import ForeignTokenizer
from tests.interop.models import SMALL, random_params

# GPT-2's way to show bytes as printable characters, which Qwen and Llama 3 use: white space moves to U+0120 and on.
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
OTHERS = [byte for byte in range(256) if byte not in PRINTABLE]
AS_TEXT = {byte: chr(byte) for byte in PRINTABLE} | {byte: chr(256 + i) for i, byte in enumerate(OTHERS)}
BEGIN, END = 258, 259


def byte_level_json() -> str:
    """Return a byte-level BPE as Qwen3 and Llama 3 ship it: ids 0-255 are the bytes, two merges, two special tokens."""
    space = AS_TEXT[32]
    vocab = {AS_TEXT[byte]: byte for byte in range(256)} | {"th": 256, space + "th": 257}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    template = {"SpecialToken": {"id": "<|begin|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {"id": BEGIN, "content": "<|begin|>", **special},
                {"id": END, "content": "<|end|>", **special},
            ],
            "normalizer": None,
            "pre_tokenizer": byte_level,
            "post_processor": {
                "type": "TemplateProcessing",
                "single": list(template),
                "pair": list(template),
                "special_tokens": {"<|begin|>": {"id": "<|begin|>", "ids": [BEGIN], "tokens": ["<|begin|>"]}},
            },
            "decoder": byte_level,
            "model": {
                "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocab,
                "merges": [["t", "h"], [space, "th"]],
            },
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "tokenizer.json").write_text(byte_level_json(), encoding="utf-8")
    return hugging_face.load_tokenizer(folder)


def test_a_byte_level_tokenizer_gives_the_ids_worked_out_by_hand(foreign):
    assert isinstance(foreign, ForeignTokenizer) and foreign.vocab_size == 260
    ids = foreign.encode("the th")
    assert ids.tolist() == [256, ord("e"), 257] and ids.dtype == np.int32
    assert foreign.encode("é").tolist() == list("é".encode())
    assert foreign.encode("the", template=True).tolist() == [BEGIN, 256, ord("e")]
    assert foreign.prompt_ids("the<|end|>").tolist() == [BEGIN, 256, ord("e"), END]


@settings(max_examples=50)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_foreign_round_trip_of_any_text(foreign, text):
    ids = foreign.encode(text)
    assert foreign.decode(ids) == text and (ids < BEGIN).all()


def test_a_special_token_typed_by_a_user_stays_text(foreign):
    text = "a<|end|>"
    assert foreign.encode(text).tolist() == list(text.encode())
    marked = foreign.encode(text, markers=True)
    assert marked.tolist() == [ord("a"), END]
    assert foreign.decode(marked) == "a" and foreign.decode(marked, skip_special=False) == text


@pytest.mark.parametrize("ids", [[-1], [3, -(10**6)]])
def test_foreign_ids_below_zero_are_refused(foreign, ids):
    with pytest.raises(ValueError, match=r"outside this tokenizer's 0\.\.259"):
        foreign.decode(ids)


@pytest.mark.parametrize("skip_special", [True, False])
def test_rows_of_padding_beyond_the_foreign_ids_have_no_text(foreign, skip_special):
    """As transformers decodes them: Qwen3 has 151,936 rows of embeddings for 151,669 ids."""
    assert foreign.decode([260], skip_special) == foreign.decode([10**6, 2**40], skip_special) == ""
    assert foreign.decode([256, 260, ord("e"), 10**6], skip_special) == "the"


def last_call_kept(spec_json: str) -> str:
    """Return a tokenizer.json as it is saved after a call that cut at 3 ids, padded to 8 and left out most merges."""
    spec = json.loads(spec_json)
    spec["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    spec["padding"] = {
        "strategy": {"Fixed": 8}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "!",
    }  # fmt: skip
    spec["model"]["dropout"] = 0.9
    return json.dumps(spec)


def test_settings_of_somebodys_last_call_are_switched_off(tmp_path):
    """The ids are those worked out by hand above, of a text that is longer than the cut and one that is shorter."""
    text, path = last_call_kept(byte_level_json()), tmp_path / "tokenizer.json"
    path.write_text(text, encoding="utf-8", newline="")
    tokenizer = hugging_face.load_tokenizer(tmp_path)
    for _ in range(5):  # dropout is random
        assert tokenizer.encode("the th").tolist() == [256, ord("e"), 257]
        assert tokenizer.encode("e", template=True).tolist() == [BEGIN, ord("e")]
        assert tokenizer.encode("th" * 5 + "<|end|>", markers=True).tolist() == [256] * 5 + [END]
    tokenizer.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()  # what is switched off is not forgotten


def test_our_own_format_saved_after_a_call_is_read_the_same(tmp_path):
    ours = own.train(["the cat and the hat, the mat " * 20], vocab_size=370)
    ours.save(tmp_path / "tokenizer.json")
    text = last_call_kept((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8", newline="")
    again = hugging_face.load_tokenizer(tmp_path)
    assert isinstance(again, own.Tokenizer)
    for sentence in ("the", "the cat and the hat, the mat"):
        assert again.encode(sentence).tolist() == ours.encode(sentence).tolist()
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text(encoding="utf-8") == text


def test_lone_surrogates_are_refused(foreign):
    with pytest.raises(ValueError, match="lone surrogate"):
        foreign.encode("\ud800")


def test_both_kinds_travel_with_a_model(tmp_path, foreign):
    ours = own.train(["the cat and the hat, the mat " * 20], vocab_size=370)
    params = random_params(SMALL)
    big = SMALL.__class__(**(SMALL.to_dict() | {"vocab_size": 370}))
    for tokenizer in (ours, foreign):
        with pytest.raises(ValueError, match="vocab_size is 17"):
            hugging_face.save(tmp_path, params, SMALL, tokenizer=tokenizer)
        hugging_face.save(tmp_path, random_params(big), big, tokenizer=tokenizer)
        again = hugging_face.load_tokenizer(tmp_path)
        assert type(again) is type(tokenizer) and again.vocab_size == tokenizer.vocab_size
        assert again.encode("the hat").tolist() == tokenizer.encode("the hat").tolist()
        hugging_face.load(tmp_path)


def test_broken_tokenizer_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json does not exist"):
        hugging_face.load_tokenizer(tmp_path)
    path, text = tmp_path / "tokenizer.json", byte_level_json().encode()
    for broken in (b"", text[:-20], b"\xff\xfe", b"[]", b'{"model": {"vocab": {}}}'):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=str(path)):
            hugging_face.load_tokenizer(tmp_path)

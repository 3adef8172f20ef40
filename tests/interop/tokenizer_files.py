"""tokenizer.json files of two kinds that other people's models come with, and folders with one."""

import dataclasses
import json

from afm_ref.interop import hugging_face
from tests.interop.models import QWEN3, random_params

# GPT-2's way to show bytes as printable characters, which Qwen and Llama 3 use: white space moves to U+0120 and on.
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
OTHERS = [byte for byte in range(256) if byte not in PRINTABLE]
AS_TEXT = {byte: chr(byte) for byte in PRINTABLE} | {byte: chr(256 + i) for i, byte in enumerate(OTHERS)}
BEGIN, END = 258, 259


def tokenizer_json(special, model, first, **more) -> str:
    """Return a tokenizer.json of a BPE with these special tokens, {text: id}; its template puts `first` first."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    pieces = [{"SpecialToken": {"id": first, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    spec = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": None,
        "added_tokens": [{"id": i, "content": name, **flags} for name, i in special.items()],
        "post_processor": {
            "type": "TemplateProcessing", "single": pieces, "pair": pieces,
            "special_tokens": {first: {"id": first, "ids": [special[first]], "tokens": [first]}},
        },
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, **model,
        },
    }  # fmt: skip
    return json.dumps(spec | more)


def byte_level_json() -> str:
    """Return a byte-level BPE as Qwen3 and Llama 3 ship it: ids 0-255 are the bytes, two merges, two special tokens."""
    space = AS_TEXT[32]
    vocab = {AS_TEXT[byte]: byte for byte in range(256)} | {"th": 256, space + "th": 257}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"vocab": vocab, "merges": [["t", "h"], [space, "th"]]}
    special = {"<|begin|>": BEGIN, "<|end|>": END}
    return tokenizer_json(special, model, "<|begin|>", pre_tokenizer=byte_level, decoder=byte_level)


WORDS = ["the", "cat", "sat", "on", "mat", "a", "dog", "ran"]


def sentencepiece_json() -> str:
    """Return a tokenizer as Llama 2 ships it: a space is part of the word behind it, and one is put before a text.

    Ids: <unk> 0, <s> 1, </s> 2, the 256 bytes, words with their space, the space, letters, and what words are merged
    from, 307 in all. <s> begins a text.
    """
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *("▁" + word for word in WORDS)]
    pieces += ["▁", *"abcdefghijklmnopqrstuvwxyz"]
    merges = [["▁" + word[:i], word[i]] for word in WORDS for i in range(len(word))]
    pieces += [left + right for left, right in merges if left + right not in pieces]
    to_space = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    from_space = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    decoders = [to_space, {"type": "ByteFallback"}, {"type": "Fuse"}, strip]
    model = {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "ignore_merges": False, "merges": merges,
             "vocab": {piece: i for i, piece in enumerate(pieces)}}  # fmt: skip
    return tokenizer_json(
        {"<unk>": 0, "<s>": 1, "</s>": 2},
        model,
        "<s>",
        normalizer={"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, from_space]},
        decoder={"type": "Sequence", "decoders": decoders},
    )


def foreign_folder(folder, make=sentencepiece_json, rows: int = 307, **generation):
    """Write a random Qwen3 of one layer, its tokenizer and generation_config.json; return the folder."""
    cfg = dataclasses.replace(QWEN3, n_layers=1, vocab_size=rows)
    hugging_face.save(folder, random_params(cfg), cfg)
    (folder / "tokenizer.json").write_text(make(), encoding="utf-8")
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder

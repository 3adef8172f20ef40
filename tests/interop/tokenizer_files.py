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
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    template = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": i, "content": piece, **special} for i, piece in enumerate(pieces[:3])],
            "normalizer": {
                "type": "Sequence",
                "normalizers": [
                    {"type": "Prepend", "prepend": "▁"},
                    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
                ],
            },
            "pre_tokenizer": None,
            "post_processor": {
                "type": "TemplateProcessing", "single": template, "pair": template,
                "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
            },
            "decoder": {
                "type": "Sequence",
                "decoders": [
                    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                    {"type": "ByteFallback"}, {"type": "Fuse"},
                    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
                ],
            },
            "model": {
                "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                "vocab": {piece: i for i, piece in enumerate(pieces)}, "merges": merges,
            },
        }
    )  # fmt: skip


def foreign_folder(folder, make=sentencepiece_json, rows: int = 307, **generation):
    """Write a random Qwen3 of one layer, its tokenizer and generation_config.json; return the folder."""
    cfg = dataclasses.replace(QWEN3, n_layers=1, vocab_size=rows)
    hugging_face.save(folder, random_params(cfg), cfg)
    (folder / "tokenizer.json").write_text(make(), encoding="utf-8")
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder

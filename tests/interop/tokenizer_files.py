"""tokenizer.json files of two kinds that other people's models come with, and folders with one."""

import dataclasses
import json

from afm_ref.interop import hugging_face
from tests.interop.models import QWEN3, random_params
from tests.interop.test_tokenizers import BEGIN, END, byte_level_json

__all__ = ["BEGIN", "END", "byte_level_json", "foreign_folder", "sentencepiece_json"]

WORDS = ["the", "cat", "sat", "on", "mat", "a", "dog", "ran"]


def sentencepiece_json() -> str:
    """Return a tokenizer as Llama 2 ships it: a space is part of the word behind it, and one is put before a text.

    Ids: <unk> 0, <s> 1, </s> 2, the 256 bytes, then words with their space, then letters; <s> begins a text.
    """
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *("▁" + word for word in WORDS)]
    pieces += ["▁", *"abcdefghijklmnopqrstuvwxyz"]
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
            "pre_tokenizer": {"type": "Split", "pattern": {"String": "▁"}, "behavior": "MergedWithNext",
                              "invert": False},
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
                "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": True,
                "vocab": {piece: i for i, piece in enumerate(pieces)}, "merges": [],
            },
        }
    )  # fmt: skip


def foreign_folder(folder, make=sentencepiece_json, rows: int = 294, **generation):
    """Write a random Qwen3 with so many rows, its tokenizer and generation_config.json; return the folder."""
    cfg = dataclasses.replace(QWEN3, vocab_size=rows)
    hugging_face.save(folder, random_params(cfg), cfg)
    (folder / "tokenizer.json").write_text(make(), encoding="utf-8")
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder

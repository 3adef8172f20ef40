"""Other people's tokenizer.json (byte-level BPE and whatever else the tokenizers library reads)."""

import numpy as np

from afm_ref import atomic
from afm_ref._typing import Array, Int
from afm_ref.data.tokenizer import backends

from . import tokenizer_config


class ForeignTokenizer:
    """A tokenizer that came with someone else's model; `encode` and `decode` as in afm_ref.data.tokenizer."""

    def __init__(self, spec_json: str, settings: dict | None = None):
        """Build from the text of a tokenizer.json, and the fields that `tokenizer_config.read` returns."""
        self._plain, self._marked = backends(spec_json)
        for backend in (self._plain, self._marked):
            tokenizer_config.apply(backend, settings or {})
        self._json = spec_json
        self.vocab_size = max(self._plain.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        byte_ids = {self._plain.token_to_id(f"<0x{byte:02X}>") for byte in range(256)}
        self._open = byte_ids | {i for i, token in self._plain.get_added_tokens_decoder().items() if token.special}

    def __repr__(self):
        return f"ForeignTokenizer(vocab_size={self.vocab_size})"

    def encode(self, text: str, markers: bool = False, template: bool = False) -> Int[Array, " T"]:
        """Return the token ids of a text as int32.

        The names of special tokens are ordinary text unless `markers`. What the file's own template adds (Llama's
        beginning-of-text token) is added only with `template`.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"text holds a lone surrogate, which UTF-8 cannot express: {error}") from None
        backend = self._marked if markers else self._plain
        return np.array(backend.encode(text, add_special_tokens=template).ids, dtype=np.int32)

    def prompt_ids(self, text: str) -> Int[Array, " T"]:
        """Return the ids that a model of this tokenizer expects of a prompt.

        What the file's template adds is added, and the names of special tokens are read as such: transformers'
        tokenizer(text), where that reads tokenizer.json and does not build a class of its own instead (as it does for
        GPT2Tokenizer and Qwen2Tokenizer).
        """
        return self.encode(text, markers=True, template=True)

    def decode(self, ids, skip_special: bool = True) -> str:
        """Return the text of token ids, special tokens left out or, with `skip_special=False`, written by name.

        Ids beyond the tokenizer's have no text: embeddings are often padded to more rows (Qwen3's to 151,936 for
        151,669 ids), and a model may say such a row. Negative ids raise ValueError.
        """
        ids = [int(i) for i in ids]
        if ids and min(ids) < 0:
            raise ValueError(f"token id {min(ids)} is outside this tokenizer's 0..{self.vocab_size - 1}")
        return self._plain.decode([i for i in ids if i < self.vocab_size], skip_special_tokens=skip_special)

    def settled_ids(self, ids) -> list[int]:
        """Return the ids whose text no further id can change: all, or all but a run of bytes at the end.

        Where tokens <0x00> to <0xFF> stand for the bytes of rare characters, the library decodes a run of them
        together, over special tokens that it leaves out: one that makes it no UTF-8 turns each byte into U+FFFD.
        """
        end = len(ids)
        while end and (ids[end - 1] in self._open or ids[end - 1] >= self.vocab_size):
            end -= 1
        return list(ids[:end])

    def save(self, path):
        """Write tokenizer.json, the same text that was read, whole or not at all."""
        atomic.write(path, self._json)

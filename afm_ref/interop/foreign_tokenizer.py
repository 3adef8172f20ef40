"""Other people's tokenizer.json (byte-level BPE and whatever else the tokenizers library reads)."""

import numpy as np

from afm_ref import atomic
from afm_ref._typing import Array, Int


class ForeignTokenizer:
    """A tokenizer that came with someone else's model; `encode` and `decode` as in afm_ref.data.tokenizer."""

    def __init__(self, spec_json: str):
        """Build from the text of a tokenizer.json."""
        from tokenizers import Tokenizer as Backend

        try:
            self._plain, self._marked = Backend.from_str(spec_json), Backend.from_str(spec_json)
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"not a tokenizer.json that the tokenizers library can read: {error}") from None
        self._plain.encode_special_tokens = True
        self._json = spec_json
        self.vocab_size = max(self._plain.get_vocab(with_added_tokens=True).values(), default=-1) + 1

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

    def decode(self, ids, skip_special: bool = True) -> str:
        """Return the text of token ids, special tokens left out or, with `skip_special=False`, written by name."""
        ids = [int(i) for i in ids]
        wrong = [i for i in ids if not 0 <= i < self.vocab_size]
        if wrong:
            raise ValueError(f"token id {wrong[0]} is outside this tokenizer's 0..{self.vocab_size - 1}")
        return self._plain.decode(ids, skip_special_tokens=skip_special)

    def save(self, path):
        """Write tokenizer.json, the same text that was read, whole or not at all."""
        atomic.write(path, self._json)

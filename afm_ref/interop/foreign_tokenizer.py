"""Other people's tokenizers: tokenizer.json, and what transformers takes from
tokenizer_config.json for it.

add_bos_token and add_eos_token are not read, as there: the template of tokenizer.json says
what a text begins with.
"""

import re
from pathlib import Path

import numpy as np

from afm_ref._typing import Array, Int
from afm_ref.data.tokenizer import backends
from afm_ref.disk import atomic
from afm_ref.disk.text_files import read_json, read_text

from .folder_config import names

SPECIAL_TOKENS = names(
    "bos_token eos_token unk_token sep_token pad_token cls_token mask_token"
)
LLAMA = ("LlamaTokenizer", "LlamaTokenizerFast")
# where a folder names none
LLAMA_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
BYTE_LEVEL = re.compile(r'"type"\s*:\s*"ByteLevel"')


class ForeignTokenizer:
    """A tokenizer that came with someone else's model; `encode` and `decode` as in
    afm_ref.data.tokenizer.
    """

    def __init__(self, spec_json: str, settings: dict | None = None):
        """Build from the text of a tokenizer.json, and what `read_settings` returns."""
        self._plain, self._marked = backends(spec_json)
        for backend in (self._plain, self._marked):
            _apply(backend, settings or {})
        self._json = spec_json
        self.vocab_size = max(self._plain.get_vocab().values(), default=-1) + 1
        byte_ids = {self._plain.token_to_id(f"<0x{byte:02X}>") for byte in range(256)}
        self._open = byte_ids | {
            i
            for i, token in self._plain.get_added_tokens_decoder().items()
            if token.special
        }

    def __repr__(self):
        return f"ForeignTokenizer(vocab_size={self.vocab_size})"

    def encode(
        self, text: str, markers: bool = False, template: bool = False
    ) -> Int[Array, " T"]:
        """Return the token ids of a text as int32.

        The names of special tokens are ordinary text unless `markers`. What the file's own
        template adds (Llama's beginning-of-text token) is added only with `template`.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"text holds a lone surrogate, which UTF-8 cannot express: {error}"
            ) from None
        backend = self._marked if markers else self._plain
        return np.array(
            backend.encode(text, add_special_tokens=template).ids, dtype=np.int32
        )

    def prompt_ids(self, text: str) -> Int[Array, " T"]:
        """Return the ids that a model of this tokenizer expects of a prompt.

        What the file's template adds is added, and the names of special tokens are read as
        such: transformers' tokenizer(text), where that reads tokenizer.json and does not
        build a class of its own instead (as it does for GPT2Tokenizer and Qwen2Tokenizer).
        """
        return self.encode(text, markers=True, template=True)

    def decode(self, ids, skip_special: bool = True) -> str:
        """Return the text of token ids, special tokens left out or, with
        `skip_special=False`, written by name.

        Ids beyond the tokenizer's have no text: embeddings are often padded to more rows
        (Qwen3's to 151,936 for 151,669 ids), and a model may say such a row. Negative ids
        raise ValueError.
        """
        ids = [int(i) for i in ids]
        if ids and min(ids) < 0:
            raise ValueError(
                f"token id {min(ids)} is outside this tokenizer's 0..{self.vocab_size - 1}"
            )
        return self._plain.decode(
            [i for i in ids if i < self.vocab_size], skip_special_tokens=skip_special
        )

    def settled_ids(self, ids) -> list[int]:
        """Return the ids whose text no further id can change: all, or all but a run of
        bytes at the end.

        Where tokens <0x00> to <0xFF> stand for the bytes of rare characters, the library
        decodes a run of them together, over special tokens that it leaves out: one that
        makes it no UTF-8 turns each byte into U+FFFD.
        """
        end = len(ids)
        while end and (ids[end - 1] in self._open or ids[end - 1] >= self.vocab_size):
            end -= 1
        return list(ids[:end])

    def save(self, path):
        """Write tokenizer.json, the same text that was read, whole or not at all."""
        atomic.write(path, self._json)


def read_settings(folder: str | Path) -> dict:
    """Return the fields of a folder's tokenizer_config.json, {} without it; an older
    folder's special_tokens_map too.

    Special tokens stand as their text, {"bos_token": "<s>", ...}. Llama 3's folders name
    LlamaTokenizer, too, but are not read as such. ValueError names a file that is no JSON
    object.
    """
    path = Path(folder) / "tokenizer_config.json"
    older = path.with_name("special_tokens_map.json")
    fields = read_json(path) if path.is_file() else {}
    if "added_tokens_decoder" not in fields and older.is_file():
        fields |= read_json(older)
    if fields.get("tokenizer_class") in LLAMA:
        if BYTE_LEVEL.search(read_text(path.with_name("tokenizer.json"))):
            fields["tokenizer_class"] = None
        else:
            fields = LLAMA_TOKENS | fields
    return fields | {
        name: _text(value) for name, value in fields.items() if name.endswith("_token")
    }


def special_tokens(fields: dict) -> dict[str, str]:
    """Return the special tokens that have a name, as transformers gives them to chat
    templates.
    """
    return {
        name: fields[name] for name in SPECIAL_TOKENS if isinstance(fields.get(name), str)
    }


def _apply(backend, fields):
    """Change a tokenizer of the library as transformers does when it reads it with these
    fields.

    Tokens that are named as special become special, if tokenizer.json has them: they are
    read whole, and not shown. A LlamaTokenizer puts its space before a text as Metaspace
    does, whatever the file says.
    """
    if fields.get("tokenizer_class") in LLAMA:
        _read_spaces_as_llama(backend, fields)
    known = {
        token.content: token.special
        for token in backend.get_added_tokens_decoder().values()
    }
    try:
        new = dict.fromkeys(
            token
            for token in _special(fields, known)
            if backend.token_to_id(token) is not None and not known.get(token)
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"tokenizer_config.json beside it names special tokens in no known way ({error!r})"
        ) from None
    backend.add_special_tokens([*new])


def _special(fields, known):
    """Yield the tokens that are named as special, one way or another; a list of further
    ones tells only new ones.
    """
    for name, value in fields.items():
        if name.endswith("_token") and isinstance(value, str):
            yield value
    further = (
        fields.get("extra_special_tokens") or fields.get("additional_special_tokens") or []
    )
    if isinstance(further, dict):
        further, known = further.values(), {}
    for text in map(_text, further):
        if isinstance(text, str) and text not in known:
            yield text
    for token in (fields.get("added_tokens_decoder") or {}).values():
        if token.get("special"):
            yield token["content"]


def _read_spaces_as_llama(backend, fields):
    from tokenizers import decoders, pre_tokenizers

    parts = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    scheme = "never"
    if fields.get("add_prefix_space") is not False:
        parts.append(decoders.Strip(" ", 1))
        scheme = "always" if fields.get("legacy") else "first"
    backend.decoder = decoders.Sequence(parts)
    backend.normalizer = None
    backend.pre_tokenizer = pre_tokenizers.Metaspace(
        replacement="\u2581", prepend_scheme=scheme, split=False
    )


def _text(token):
    return token.get("content") if isinstance(token, dict) else token

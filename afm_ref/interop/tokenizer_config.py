"""tokenizer_config.json: what transformers takes from it for a tokenizer that is read from tokenizer.json.

Its add_bos_token and add_eos_token are not read, as there: the template of tokenizer.json says what a text begins with.
"""

import os
import re
from pathlib import Path

from afm_ref.text_files import read_json

SPECIAL_TOKENS = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
LLAMA = ("LlamaTokenizer", "LlamaTokenizerFast")
LLAMA_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}  # where a folder names none
BYTE_LEVEL = re.compile(r'"type"\s*:\s*"ByteLevel"')


def read(folder: str | os.PathLike) -> dict:
    """Return the fields of a folder's tokenizer_config.json, {} without it; an older folder's special_tokens_map too.

    Special tokens stand as their text, {"bos_token": "<s>", ...}. Llama 3's folders name LlamaTokenizer, too, but are
    not read as such. ValueError names a file that is no JSON object.
    """
    path, older = Path(folder) / "tokenizer_config.json", Path(folder) / "special_tokens_map.json"
    fields = read_json(path) if path.is_file() else {}
    if "added_tokens_decoder" not in fields and older.is_file():
        fields |= read_json(older)
    if fields.get("tokenizer_class") in LLAMA:
        spec = (Path(folder) / "tokenizer.json").read_text(encoding="utf-8")
        fields = fields | {"tokenizer_class": None} if BYTE_LEVEL.search(spec) else LLAMA_TOKENS | fields
    return fields | {name: _text(value) for name, value in fields.items() if name.endswith("_token")}


def special_tokens(fields: dict) -> dict[str, str]:
    """Return the special tokens that have a name, as transformers gives them to chat templates."""
    return {name: fields[name] for name in SPECIAL_TOKENS if isinstance(fields.get(name), str)}


def apply(backend, fields: dict) -> None:
    """Change a tokenizer of the library as transformers does when it reads it with these fields.

    Tokens that are named as special become special, if tokenizer.json has them: they are read whole, and not shown.
    A LlamaTokenizer puts its space before a text as Metaspace does, whatever the file says.
    """
    if fields.get("tokenizer_class") in LLAMA:
        _read_spaces_as_llama(backend, fields)
    known = {token.content: token.special for token in backend.get_added_tokens_decoder().values()}
    try:
        names = [token for token in _special(fields, known) if backend.token_to_id(token) is not None]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"tokenizer_config.json beside it names special tokens in no known way ({error!r})") from None
    backend.add_special_tokens([token for token in dict.fromkeys(names) if not known.get(token)])


def _special(fields, known):
    """Yield the tokens that are named as special, one way or another; a list of further ones tells only new ones."""
    yield from (value for name, value in fields.items() if name.endswith("_token") and isinstance(value, str))
    further = fields.get("extra_special_tokens") or fields.get("additional_special_tokens") or []
    texts = map(_text, further.values() if isinstance(further, dict) else further)
    yield from (text for text in texts if isinstance(text, str) and (isinstance(further, dict) or text not in known))
    added = (fields.get("added_tokens_decoder") or {}).values()
    yield from (token["content"] for token in added if token.get("special"))


def _read_spaces_as_llama(backend, fields):
    from tokenizers import decoders, pre_tokenizers

    prefix = fields.get("add_prefix_space") is not False
    scheme = "never" if not prefix else "always" if fields.get("legacy") else "first"
    parts = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1)] if prefix else parts)
    backend.normalizer = None
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme=scheme, split=False)


def _text(token):
    return token.get("content") if isinstance(token, dict) else token

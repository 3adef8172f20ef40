"""What a model folder says beside its numbers (token ids, longest context, tokenizer, chat
template), kept on writing.

The config that `load` returns is a `FolderConfig`: it carries this, and so does what
`dataclasses.replace` makes of it. Whatever is written with it says the same again
(`written`).
"""

import dataclasses
import json
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from afm_ref.config import AFMConfig
from afm_ref.data import tokenizer as own_tokenizer


def names(text: str) -> frozenset[str]:
    """Return the words of a text: names of files, or the keys of a settings file."""
    return frozenset(text.split())


TOKENIZER = "tokenizer.json"
# These speak of a tokenizer's ids, and go when another tokenizer comes.
OF_THE_TOKENIZER = names("""
    tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json
    tokenizer.model vocab.json merges.txt
    generation_config.json chat_template.jinja chat_template.json
    additional_chat_templates/*.jinja
""")
# so do the fields with "token" in their names, and these
FIELDS_OF_THE_TOKENIZER = names("bad_words_ids prefix task_specific_params")
OF_THE_MODEL = names("LICENSE LICENSE.txt LICENSE.md NOTICE NOTICE.txt")


class Source(NamedTuple):
    """A folder as it was when it was read."""

    folder: str
    model_type: str
    vocab_size: int
    fields: dict  # of config.json, those that leave the logits alone
    files: dict[str, bytes]

    @classmethod
    def read(cls, folder: Path, model_type: str, vocab_size: int, fields: dict) -> "Source":
        """Return it, with the files that are there."""
        files = {
            name: (folder / name).read_bytes()
            for name in _present(folder, OF_THE_TOKENIZER | OF_THE_MODEL)
        }
        return cls(str(folder), model_type, vocab_size, fields, files)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FolderConfig(AFMConfig):
    """An AFMConfig with the folder that it was read from; equal to, and shown as, the plain
    one of the same numbers.
    """

    source: Source | None = None

    def __eq__(self, other):
        return (
            self.to_dict() == other.to_dict()
            if isinstance(other, AFMConfig)
            else NotImplemented
        )

    __hash__ = AFMConfig.__hash__

    def __repr__(self):
        return repr(AFMConfig(**self.to_dict()))


def refuse_other_keys(
    fields: Mapping, known: Collection, neutral: Mapping, unset: tuple = (None,)
) -> None:
    """Refuse by name what could change a model's outputs: unknown keys, and neutral ones at
    other values.

    neutral: {key: the value at which it changes nothing, or a tuple of them}. What is
    `unset` is not there.
    """
    for key, allowed in sorted(neutral.items()):
        allowed = allowed if isinstance(allowed, tuple) else (allowed,)
        if (value := fields.get(key)) is not None and value not in allowed:
            raise ValueError(
                f"{key} = {value!r} is not supported, only {[*allowed, None]} is: it would change the outputs"
            )
    told = ", ".join(
        f"{key} = {value!r}"
        for key, value in sorted(fields.items())
        if key not in known and key not in neutral and value not in unset
    )
    if told:
        raise ValueError(
            f"{told}: not known here, and could change the outputs; remove from the file what does not"
        )


def written(folder: Path, cfg: AFMConfig, tokenizer=None) -> tuple[dict, dict]:
    """Return (fields for config.json, contents for `atomic.write_together`) of a folder
    with this config.

    They are the source's, if the config has one, unless `tokenizer` is another than the
    source's: then the ids and files of the old one stay behind. Raises ValueError for a
    tokenizer, or a source, with ids beyond cfg.vocab_size, and for a folder in which such
    files of another model would remain and be believed.
    """
    fields, files = _said(cfg, tokenizer)
    strangers = [name for name in _present(folder, OF_THE_TOKENIZER) if name not in files]
    if files and strangers:
        raise ValueError(
            f"{folder} holds {strangers[0]}, which does not belong to the model that is to be written there: choose "
            "another folder, or remove it"
        )
    return fields, files


def _present(folder, patterns):
    paths = sorted(path for pattern in patterns for path in folder.glob(pattern))
    return [path.relative_to(folder).as_posix() for path in paths if path.is_file()]


def _said(cfg, tokenizer):
    if tokenizer is not None and tokenizer.vocab_size > cfg.vocab_size:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} ids, but the model's vocab_size is {cfg.vocab_size}"
        )
    source = getattr(cfg, "source", None)
    own_files = _tokenizer_files(tokenizer)
    if source is None:
        return _token_ids(tokenizer), own_files
    files = source.files
    if tokenizer is None or _same(tokenizer, files.get(TOKENIZER)):
        if tokenizer is None and cfg.vocab_size < source.vocab_size:
            raise ValueError(
                f"vocab_size is {cfg.vocab_size}, but {source.folder}, which this config is from, has token ids up to "
                f"{source.vocab_size - 1}: give the tokenizer that belongs to the model"
            )
        return source.fields, files if TOKENIZER in files else files | own_files
    fields = {
        name: value
        for name, value in source.fields.items()
        if "token" not in name and name not in FIELDS_OF_THE_TOKENIZER
    }
    files = {name: data for name, data in files.items() if name in OF_THE_MODEL}
    return fields | _token_ids(tokenizer), files | own_files


def _token_ids(tokenizer):
    own = isinstance(tokenizer, own_tokenizer.Tokenizer)
    ids = {"bos": own_tokenizer.BOS, "eos": own_tokenizer.EOS, "pad": own_tokenizer.PAD}
    return {f"{name}_token_id": value if own else None for name, value in ids.items()}


def _tokenizer_files(tokenizer):
    if tokenizer is None:
        return {}
    # Without it transformers would rebuild the tokenizer by the model's type instead of
    # reading the file.
    about = json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}, indent=2) + "\n"
    return {TOKENIZER: tokenizer.save, "tokenizer_config.json": about}


def _same(tokenizer, data):
    """Return whether a tokenizer writes this tokenizer.json, spaces and settings of single
    calls apart.

    Where the source has none, another project's tokenizer is believed to be its own, in a
    format that is read here.
    """
    if data is None:
        return not isinstance(tokenizer, own_tokenizer.Tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder) / TOKENIZER)
        mine = (Path(folder) / TOKENIZER).read_bytes()
    return mine == data or _spec(mine) == _spec(data)


def _spec(data):
    """Return what a tokenizer.json says but for the settings of single calls; of what is no
    JSON object the bytes.
    """
    try:
        spec = json.loads(data.decode("utf-8-sig"))
    except ValueError:
        return data
    return spec | {"truncation": None, "padding": None} if isinstance(spec, dict) else data

"""What commands share: options, what is asked of them, and how Ctrl-C ends them."""

import contextlib
import math
import sys
from pathlib import Path

from ..config import AFM_TINY, AFMConfig
from ..curation.heuristics import ENGLISH, LANGUAGES
from ..data.mixing import checked_shares
from ..disk import text_files

EXAMPLE = "text=0.7,code=0.3"


def number(group, name, default, text, kind=int):
    """Add an option for a number, of its default's kind, which its help ends with, if any."""
    if default is not None:
        kind = type(default)
        text += f" (default: {default:.3g})" if kind is float else f" (default: {default})"
    group.add_argument(
        name, type=kind, default=default, metavar="N" if kind is int else "X", help=text
    )


def place(group, name, default, text, metavar="FOLDER"):
    """Add an option for a folder or a file; its help ends with the default, if any."""
    if default:
        text += " (default: %(default)s)"
    group.add_argument(
        name, type=Path, default=default and Path(default), metavar=metavar, help=text
    )


def of_training(group, steps, batch, seq_len, learning_rate="peak"):
    """Add the options that `train` and `pretrain` share; steps, ...: (default, help)."""
    number(group, "--steps", *steps)
    number(group, "--batch", *batch)
    number(group, "--seq-len", *seq_len)
    number(group, "--learning-rate", 0.006, learning_rate)
    number(group, "--seed", 0, "of the first weights and of the order of the rows")
    place(
        group,
        "--config",
        None,
        "JSON of AFMConfig's fields, in place of the default model",
        "FILE",
    )


def language(group):
    """Add --language, of the prose that curation keeps."""
    text = "of the prose that is kept; any: nothing is asked that only English answers (default: %(default)s)"
    group.add_argument("--language", choices=LANGUAGES, default=ENGLISH, help=text)


def check(args, at_least_1=(), at_least_0=(), above_0=()) -> None:
    """Raise ValueError, naming the option, for a number that is too small or not finite.

    None, which is an option that was not given, is not looked at.
    """
    for names, holds, what in (
        (at_least_1, lambda value: value >= 1, "at least 1"),
        (at_least_0, lambda value: value >= 0, "at least 0"),
        (above_0, lambda value: value > 0, "a number above 0"),
    ):
        for name in names:
            value = getattr(args, name)
            if value is not None and not (math.isfinite(value) and holds(value)):
                raise ValueError(f"--{name.replace('_', '-')} is {value}: give {what}")


@contextlib.contextmanager
def resumable(folder, tell=True):
    """Say where the same command continues if Ctrl-C ends the block."""
    try:
        yield
    except KeyboardInterrupt:
        if tell:
            print(
                f"\ninterrupted; the same command continues from {folder}", file=sys.stderr
            )
        raise


def weights(text, option):
    """Return {part: weight} of "text=0.7,code=0.3", None for None; ValueError names the
    option.
    """
    if text is None:
        return None
    try:
        pairs = [pair.split("=") for pair in text.split(",")]
        given = {name.strip(): float(weight) for name, weight in pairs}
    except ValueError:
        raise ValueError(
            f"{option} {text!r}: give parts and weights as in {EXAMPLE}"
        ) from None
    if len(given) < len(pairs):
        raise ValueError(f"{option} {text!r}: give each part once")
    with text_files.naming(option):
        checked_shares(given, dict.fromkeys(given, 1))  # as if there were all parts
    return given


def read_config(path, tokenizer=None) -> AFMConfig:
    """Return the AFMConfig of a JSON file, AFM_TINY for None, with room for all tokens.

    Raises ValueError that says what is wrong with the file, FileNotFoundError where there
    is none.
    """
    if path is None:
        return AFM_TINY
    try:
        cfg = AFMConfig.from_dict(text_files.read_json(path))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"no file at {path}: give a JSON file of AFMConfig's fields"
        ) from None
    if tokenizer is not None and cfg.vocab_size < tokenizer.vocab_size:
        raise ValueError(
            f"vocab_size {cfg.vocab_size} of {path} is below the tokenizer's {tokenizer.vocab_size}"
        )
    return cfg

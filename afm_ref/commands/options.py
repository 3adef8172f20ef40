"""What several commands ask of their options."""

import math


def at_least_one(args, names) -> None:
    """Raise ValueError, naming the option, for one of these numbers below 1; None is not given."""
    for name in names:
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(args, name)}: give at least 1")


def not_negative(args, names) -> None:
    """Raise ValueError, naming the option, for one of these numbers that is negative or not finite."""
    for name in names:
        if not 0 <= getattr(args, name) < math.inf:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(args, name)}: give at least 0")


def language(group):
    """Add --language, of the prose that curation keeps."""
    from ..curation.heuristics import ENGLISH, LANGUAGES

    group.add_argument("--language", choices=LANGUAGES, default=ENGLISH,
                       help="of the prose that is kept; any: nothing is asked that only English answers "
                       "(default: %(default)s)")  # fmt: skip


def weights(text, option):
    """Return {part: weight} of text like "text=0.7,code=0.3", or None for None; ValueError names the option."""
    from ..data.mixing import checked_shares

    if text is None:
        return None
    try:
        pairs = [(name.strip(), float(w)) for name, w in (pair.split("=") for pair in text.split(","))]
    except ValueError:
        raise ValueError(f"{option} {text!r}: give parts and weights as in text=0.7,code=0.3") from None
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"{option} {text!r}: give each part once")
    try:
        checked_shares(found, dict.fromkeys(found, 1))  # which parts there are is not known yet
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None
    return found


def read_config(path):
    """Return the AFMConfig of a JSON file, AFM_TINY for None; ValueError says what is wrong with the file.

    A missing file is a FileNotFoundError.
    """
    from .. import text_files
    from ..config import AFM_TINY, AFMConfig

    if path is None:
        return AFM_TINY
    try:
        fields = text_files.read_json(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"no file at {path}: give a JSON file of AFMConfig's fields") from None
    return AFMConfig.from_dict(fields)

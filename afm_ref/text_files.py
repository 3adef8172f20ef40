"""Reading text and JSON that others wrote: UTF-8, with or without the byte-order mark that some editors add."""

import codecs
import json
import os
from pathlib import Path


def read_text(path: str | os.PathLike) -> str:
    """Return the text of a UTF-8 file, without a byte-order mark at its head; line ends stay as they are.

    Any other encoding is a ValueError that names the file, the line and UTF-8.
    """
    data = Path(path).read_bytes().removeprefix(codecs.BOM_UTF8)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data[:4]:
        raise ValueError(f"{path} is UTF-16 or UTF-32, or no text; expected UTF-8: save it again in that encoding")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        byte, line = data[error.start], data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: byte 0x{byte:02x} is not UTF-8, which is expected (Latin-1 or windows-1252?): save "
            "it again as UTF-8"
        ) from None


def read_json(path: str | os.PathLike) -> dict:
    """Return the JSON object in a file; a key given twice, or anything but an object, raises ValueError."""
    text = read_text(path)
    try:
        value = json.loads(text, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not readable JSON ({error}): download or write it again") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(value).__name__}")
    return value


def _no_duplicates(pairs):
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"keys given twice: {twice}")
    return dict(pairs)

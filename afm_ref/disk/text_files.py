"""Reading text and JSON that others wrote: UTF-8, with or without the byte-order mark that
some editors add.
"""

import codecs
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def read_text(file: Path) -> str:
    """Return a file's text; ValueError names a file that is binary or not UTF-8. A byte
    order mark is no text.
    """
    raw = Path(file).read_bytes().removeprefix(codecs.BOM_UTF8)
    if (zero := raw.find(b"\0")) >= 0:
        raise ValueError(
            f"{file} is a binary file or UTF-16 (line {_line_of(raw, zero)} holds a zero byte): convert it to UTF-8 or "
            "remove it"
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} is not UTF-8 at byte {error.start}, in line {_line_of(raw, error.start)}: convert it, for example "
            "with iconv"
        ) from None


def _line_of(raw, at):
    return raw.count(b"\n", 0, at) + 1


def read_lines(file: Path) -> Iterator[tuple[int, str]]:
    r"""Yield (number from 1, text) of a file's lines that are not blank; errors as of
    `read_text`.

    A line ends at \n or \r\n alone: str.splitlines would also cut at U+2028 and seven more,
    which JSON strings hold. A byte order mark that begins a line is no text either: files
    were joined there.
    """
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        line = line.lstrip("\ufeff")
        if line.strip():
            yield number, line.removesuffix("\r")


def read_json_lines(file: Path) -> Iterator[tuple[int, object]]:
    """Yield (number from 1, value) of the lines of a file of JSON; ValueError names the
    line that is none.

    Nor is one with half of a surrogate pair, such as "\\ud83d": no UTF-8 holds it.
    """
    for number, line in read_lines(file):
        try:
            value = json.loads(line)
            if "\\ud" in line.lower():
                json.dumps(value, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file}, line {number}: no JSON ({error})") from None
        yield number, value


def read_json(path: Path) -> dict:
    """Return the JSON object in a file; a key given twice, or anything but an object,
    raises ValueError.
    """
    text = read_text(path)
    try:
        value = json.loads(text, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not readable JSON ({error}): download or write it again"
        ) from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(value).__name__}")
    return value


@contextmanager
def naming(path, *also: type[Exception]) -> Iterator[None]:
    """Put the name of a file before what the block says is wrong with its contents.

    also: what else than a ValueError is the fault of the file, where it holds values of any type.
    """
    try:
        yield
    except (ValueError, *also) as error:
        raise ValueError(f"{path}: {error}") from None


def _no_duplicates(pairs):
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"keys given twice: {twice}")
    return dict(pairs)

"""Atomic writes: each file is there whole, or as it was before."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what a write says of a full disk, naming no file


@contextmanager
def replacing(*paths) -> Iterator[list[Path]]:
    """Yield temporary paths beside these to write to; when the block ends they take the places of these, in order.

    Folders that are missing are made; a link stays one, and the file that it names is replaced. All files are synced
    before the first is moved, so that a full disk or an exception leaves every file as it was. What a killed process
    leaves behind is named .NAME.PID.tmp; see `place`.

    Source: none [ours].
    Test: tests/test_atomic.py::test_a_block_that_raises_changes_nothing
    """
    paths = [path.resolve() if path.is_symlink() else path for path in map(Path, paths)]
    temporary = [path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in paths]
    for path in paths:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder stands where a file is to be written", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        for path in temporary:
            _sync(path)
        for path, target in zip(temporary, paths):
            path.replace(target)
        if os.name == "posix":  # elsewhere a folder cannot be opened
            for folder in {path.parent for path in paths}:
                _sync(folder)
    except OSError as error:
        if error.errno not in NO_ROOM or error.filename is not None:
            raise
        where = f"{paths[-1]} (nothing there has changed)"
        raise OSError(error.errno, error.strerror, where) from None
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)


def write(path, content: bytes | str) -> None:
    """Write a file, whole or not at all; text is written as UTF-8, its line ends as they are.

    Source: none [ours].
    Test: tests/test_atomic.py::test_what_is_written_is_there_byte_for_byte
    """
    with replacing(path) as [temporary]:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def place(name: str) -> str:
    """Return the name of the file that a temporary file was to become, and any other name as it is."""
    match = re.fullmatch(r"\.(.+)\.\d+\.tmp", name)
    return match[1] if match else name


def _sync(path):
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

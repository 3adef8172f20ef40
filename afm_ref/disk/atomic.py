"""Atomic writes: each file, or new folder, is there whole, or all is as it was before."""

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# what a write says of a full disk, naming no file
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
TEMPORARY = re.compile(r"\.(.+)\.\d+\.tmp")


@contextmanager
def replacing(*paths) -> Iterator[list[Path]]:
    """Yield temporary paths beside these to write to; when the block ends they take their
    places, in order.

    What is written is a file, or a folder where there is none yet. Folders above it are
    made; a link stays one, and the file that it names is replaced. All is synced before the
    first is moved, so that a full disk or an exception leaves everything as it was. What a
    killed process leaves behind is named .NAME.PID.tmp; see `sweep`.
    """
    paths = [path.resolve() if path.is_symlink() else path for path in map(Path, paths)]
    temporary = [path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in paths]
    for path in paths:
        if path.is_dir():
            raise IsADirectoryError(
                errno.EISDIR, "a folder stands where a file is to be written", str(path)
            )
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        for path in temporary:
            for part in (path, *path.rglob("*")):
                _sync(part)
        for path, target in zip(temporary, paths):
            path.replace(target)
        for folder in {path.parent for path in paths}:
            _sync(folder)
    except OSError as error:
        if error.errno not in NO_ROOM or error.filename is not None:
            raise
        where = f"{paths[-1]} (nothing there has changed)"
        raise OSError(error.errno, error.strerror, where) from None
    finally:
        for path in temporary:
            _remove(path)


def write(path, content: bytes | str) -> None:
    """Write a file, whole or not at all; text is written as UTF-8, its line ends as they
    are.
    """
    write_together(Path(path).parent, {Path(path).name: content})


def write_together(
    folder, contents: Mapping[str, bytes | str | Callable[[Path], None]]
) -> None:
    """Write files {name: content, or write(path)} into a folder, all or none of them, the
    last name last.
    """
    with replacing(*(Path(folder) / name for name in contents)) as temporary:
        for path, content in zip(temporary, contents.values()):
            if callable(content):
                content(path)
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)


def intended(name: str) -> str:
    """Return the name that a temporary file or folder was to get, and any other name as it
    is.
    """
    match = TEMPORARY.fullmatch(name)
    return match[1] if match else name


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes have left of one name, or of all: only for who holds the
    folder's lock.
    """
    for path in folder.iterdir():
        if (was := intended(path.name)) != path.name and name in (None, was):
            _remove(path)


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path):
    if path.is_dir() and os.name != "posix":  # elsewhere a folder cannot be opened
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

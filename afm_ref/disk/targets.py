"""Where something is to be written: tried before any work, and written by one process at a
time.
"""

import os
import platform
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None

LOCK = ".writer.lock"


def check_folder(path, option: str, without=()) -> None:
    """Raise ValueError or OSError, naming the option, unless a folder can be made at path
    or written in.

    It must hold none of the files `without`. Whether it can be written is tried, for
    permissions do not tell it; what that makes is gone at once.
    """
    path = Path(path)
    with _naming(option, path):
        if os.path.lexists(path) and not path.is_dir():
            raise ValueError(f"{option} {path} is a file: give a folder")
        for name in without:
            if (path / name).exists():
                raise ValueError(
                    f"{option} {path} holds {name}, a model of another kind: give another folder"
                )
        _try(path, path.name)


def check_file(path, option: str) -> None:
    """Raise ValueError or OSError, naming the option, unless a file can be written at path;
    see `check_folder`.
    """
    path = Path(path)
    with _naming(option, path):
        if path.is_dir():
            raise ValueError(f"{option} {path} is a folder: give the name of a file")
        if os.path.lexists(path) and not path.is_file():
            raise ValueError(
                f"{option} {path} is a device, a pipe or a link to nowhere: give the name of a file"
            )
        _try(Path(os.path.realpath(path)).parent, path.name)


def check_apart(**places) -> None:
    """Raise ValueError, naming two options, if two of what a command reads and writes are
    one place; None is none.

    An option is given by its name: check_apart(task="pairs.jsonl", save="a.adapter") speaks
    of --task and --save.
    """
    taken = {}
    for option, path in places.items():
        if (
            path is not None
            and (other := taken.setdefault(os.path.realpath(path), option)) != option
        ):
            raise ValueError(
                f"--{other} and --{option} are both {path}: one would be lost, give two places"
            )


@contextmanager
def _naming(option, path):
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise OSError(
            f"{option} {path} cannot be written ({why}): give another place"
        ) from None


def _try(folder, name):
    """Write a file such as `atomic.replacing` would, in the folder or in the nearest one
    above it that is there.
    """
    nearest = next(
        (parent for parent in (folder, *folder.parents) if os.path.lexists(parent)), folder
    )
    with tempfile.NamedTemporaryFile(
        dir=nearest, prefix=f".{name}.", suffix=f".{os.getpid()}.tmp"
    ) as file:
        file.write(b"x")
        file.flush()  # on a full disk it is this that fails


@contextmanager
def only_writer(folder, lock: str = LOCK) -> Iterator[None]:
    """Keep all others out of a folder, or of that part of it which a lock of another name
    is for, in the block.

    Raises ValueError that names the first writer. The system lets go of the lock when its
    process ends, however that ends: one that was killed locks nobody out, though the lock's
    file stays until the next one is done. Reading needs no lock. A folder that is missing
    is made, and removed if nothing is in it at the end. Warns where the file system has no
    locks.
    """
    path = Path(folder) / lock
    made = not path.parent.exists()
    with _locked(path) as file:
        try:
            file.truncate(0)
            print(
                f"process {os.getpid()} on {platform.node()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}",
                file=file,
            )
            file.flush()
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is ours
            if made:
                with suppress(OSError):
                    path.parent.rmdir()


@contextmanager
def _locked(path):
    """Give the open file of a lock that is ours."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+", encoding="utf-8") as file:
            _lock(file, path)
            if _is_at(file, path):  # else the one before has removed it since it was opened
                yield file
                return


def _lock(file, path):
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        who = file.read().strip() or "another process"
        raise ValueError(
            f"{path.parent} is being written by {who}: wait until that has ended or end it, or give another folder"
        ) from None
    except OSError as error:
        warnings.warn(
            f"{path.parent} cannot be locked ({error.strerror}): start no other run there",
            stacklevel=5,
        )


def _is_at(file, path):
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False

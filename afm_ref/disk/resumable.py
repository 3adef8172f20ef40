"""Long work in finished pieces: what is there is whole, and the same call goes on with what
is not.

claim("run/config.json", settings)            # the folder is of these settings, or refused
finished("run/model", lambda new: save(new))  # a file or folder, made by the first call
result("run/scores.json", measure)            # what measure() returned, as JSON

A piece gets its name when it is done, so whoever is killed has lost one piece at most.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from . import atomic, targets
from .text_files import read_json


def claim(path, about: Mapping, what: str = "pieces") -> None:
    """Write what the pieces beside `path` are made from, or compare it with what is written
    there.

    Raises ValueError with the first differences for another run's; `what` names the pieces
    in it.
    """
    path = Path(path)
    if not path.exists():
        atomic.write(path, json.dumps(about, indent=2, sort_keys=True) + "\n")
    elif told := difference(read_json(path), about):
        raise ValueError(
            f"{path.parent} holds {what} of another run: {told}. Give another folder, or the settings of that run"
        )


def difference(old: Mapping, new: Mapping) -> str | None:
    """Return a sentence about the first differences of two runs' settings, or None."""
    absent = dict.fromkeys(old | new, "absent")
    old, new = absent | old, absent | new
    told = [
        f"{name} was {old[name]} and is {new[name]}"
        for name in sorted(absent)
        if old[name] != new[name]
    ]
    if len(told) > 3:
        told[3:] = [f"and {len(told) - 3} more"]
    return "; ".join(told) or None


def finished(path, make: Callable[[Path], None]) -> Path:
    """Return path after make(new) has written a file or a folder at `new`, unless path is
    there already.

    ValueError if another process is making it (`targets.only_writer`).
    """
    path = Path(path)
    if not path.exists():
        with targets.only_writer(path.parent, f".{path.name}.lock"):
            atomic.sweep(path.parent, path.name)
            if not path.exists():  # else another process has made it meanwhile
                with atomic.replacing(path) as [new]:
                    make(new)
    return path


def result(path, make: Callable):
    """Return what make() returned, in this call or an earlier one, by way of a JSON file."""
    done = finished(path, lambda new: new.write_text(json.dumps(make()), encoding="utf-8"))
    return json.loads(done.read_text(encoding="utf-8"))

"""Recordings: what was run, on what, and what came out, as JSON beside the scripts."""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

RECORDED = Path(__file__).parent / "recorded"


def versions() -> dict:
    """Return the versions that numbers depend on."""
    names = ("numpy", "jax", "optax", "tokenizers")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def save(name: str, command: str, config: dict, seeds: list[int], numbers: dict) -> Path:
    """Write recorded/<name>.json whole or not at all, and return its path."""
    RECORDED.mkdir(exist_ok=True)
    path = RECORDED / f"{name}.json"
    record = dict(command=command, config=config, seeds=seeds, versions=versions(), numbers=numbers)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(temporary, path)
    return path


def load(name: str) -> dict:
    """Return a recording; FileNotFoundError says which experiment makes it."""
    path = RECORDED / f"{name}.json"
    if not path.exists():
        raise FileNotFoundError(f"no recording {path.name}: run `python -m experiments.{name}` to make it")
    return json.loads(path.read_text())

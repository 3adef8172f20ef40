"""Recordings: what was run, on what, and what came out, as JSON that ships (assets.recording reads it)."""

import json
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

from afm_ref import assets
from afm_ref.disk import atomic, resumable

LANDED = Path("experiments/landed")  # finished runs of recordings under way: committed, so that others go on


def versions() -> dict:
    """Return the versions that numbers depend on."""
    names = ("numpy", "jax", "optax", "tokenizers")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def save(name: str, command: str, config: dict, seeds: list[int], numbers: dict) -> Path:
    """Write the recording of this name whole or not at all, and return its path."""
    path = assets.RECORDED / f"{name}.json"
    record = dict(command=command, config=config, seeds=seeds, versions=versions(), numbers=numbers)
    atomic.write(path, json.dumps(record, indent=1) + "\n")
    return path


def finished(jobs: Mapping[str, Callable], folder: Path, share: tuple[int, int] = (0, 1)) -> dict:
    """Return {key: result} of all jobs, with a progress bar; see `kept`. share: (i, n), every n-th from the i-th on."""
    from tqdm import tqdm

    first, step = share
    jobs = dict(list(jobs.items())[first::step])
    bar, done = tqdm(jobs.items(), unit="run"), {}
    for key, job in bar:
        bar.set_postfix_str(key)
        done[key] = kept(folder, key, job)
    return done


def kept(folder: Path, key: str, make: Callable) -> dict:
    """Return make()'s result with its CPU seconds (cpu_s), or what an earlier call of the script kept."""

    def timed():
        start = time.process_time()
        return make() | {"cpu_s": round(time.process_time() - start, 1)}

    return resumable.result(folder / f"{key}.json", timed)


def keep_compiled(folder: Path) -> None:
    """Have JAX keep what it compiles in folder/compiled, for the script's next call and for its next run."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str((folder / "compiled").resolve()))


def config_of(arguments) -> dict:
    """Return a script's command line as JSON can hold it."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in vars(arguments).items()}


def told(name: str, interval) -> str:
    """Return an interval in words: "a less b +0.031 [+0.012, +0.050]", and whether it excludes zero."""
    mean, low, high = interval
    decided = "" if low > 0 or high < 0 else ", not told apart"
    return f"{name} {mean:+.3f} [{low:+.3f}, {high:+.3f}]{decided}"

"""Recordings: what was run, on what, and what came out, as JSON that ships (assets.recording reads it)."""

import argparse
import json
import platform
import time
from collections.abc import Callable, Mapping
from functools import partial
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


def options(name: str, doc: str, models: str | None = None) -> tuple[argparse.ArgumentParser, Callable]:
    """Return a parser with the options of an experiment of many runs, and its add_argument that tells the default.

    models: the folder for what is not committed: compiled programs, models under way.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = partial(parser.add_argument, help="default: %(default)s")
    add("--share", type=int, nargs=2, default=(0, 1), metavar=("I", "N"), help="every N-th run, from the I-th on")
    add("--folder", type=Path, default=LANDED / name, help="finished runs (default: %(default)s)")
    add("--models", type=Path, default=Path(models or f"runs/{name}"), help="what they share (default: %(default)s)")
    parser.add_argument("--no-ship", action="store_true", help="record nothing")
    return parser, add


def tried(jobs: Mapping[str, Callable], a) -> dict:
    """Return {key: result} of all tries; ends the script where other shares' tries are not done."""
    finished(jobs, a.folder, tuple(a.share))
    if missing := [key for key in jobs if not (a.folder / f"{key}.json").exists()]:
        raise SystemExit(f"this share is done; of the tries {len(missing)} are not: call it again when they are")
    return finished(jobs, a.folder)


def ship(name: str, a, seeds: int, runs: dict, base: str | None = None, settings=None, **more) -> None:
    """Save the recording of all runs, with their minutes; nothing of a share, or with --no-ship."""
    if tuple(a.share) == (0, 1) and not a.no_ship:
        numbers = {"cpu_minutes": round(sum(run["cpu_s"] for run in runs.values()) / 60, 1), **more, "runs": runs}
        config = config_of(a) | ({"settings": settings} if settings else {}) | ({"base": base} if base else {})
        print(save(name, f"python -m experiments.{name}", config, list(range(seeds)), numbers))


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

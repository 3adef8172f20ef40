"""Every recorded experiment again, on the model that ships now: one command after AFM_TINY has changed.

    python -m experiments --list           question, arms, minutes and verdict of each; which model it is of
    python -m experiments --train          train AFM_TINY first (20 minutes), then all the rest on it (6 CPU-hours)
    python -m experiments                  on the model that ships; the same command goes on where it was stopped
    python -m experiments --only rank mdloo

Runs are kept in runs/<fingerprints of the models>/, so a new model never meets what an old one left there.
`python -m tools.regenerate` afterwards draws the notebooks from the new recordings.
"""

import argparse
import importlib
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

from afm_ref import assets
from afm_ref.disk import resumable
from afm_ref.lora import files

# name: its options that name a folder, in the order in which one builds on another
EXPERIMENTS = {
    "at_scale": (),
    "curation_quality": (),
    "curation": ("--folder",),
    "rates": ("--folder", "--models"),
    "stages": ("--folder",),
    "lengthening": ("--folder",),
    "pruning": ("--folder",),
    "sft_tasks": (),
    "lora": ("--folder",),
    "rank": ("--folder", "--models"),
    "quantization": ("--folder",),
    "few_bits": ("--folder", "--models"),
    "bandit": ("--folder",),
    "mdloo": ("--folder", "--models"),
    "judges": ("--folder", "--models"),
    "committee": ("--folder", "--models"),
    "pipeline": ("--folder", "--models"),
}


def arguments(line=None):
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="run nothing")
    parser.add_argument("--train", action="store_true", help="train and ship AFM_TINY first")
    parser.add_argument("--only", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS), metavar="NAME")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="default: %(default)s")
    return parser.parse_args(line)


def shipped() -> dict[str, str]:
    """Return {fingerprint: name} of the models that ship."""
    models = {"tiny": assets.load_tiny, "instruct": assets.load_instruct}
    return {files.fingerprint(load()[0]): name for name, load in models.items()}


def command(name: str, folder: Path) -> list[str]:
    """Return the command line that runs an experiment with all its files under a folder."""
    line = [sys.executable, "-m", f"experiments.{name}"]
    for option in EXPERIMENTS[name]:
        line += [option, str(folder / name)]
    return line


def state(name: str, models: dict[str, str]) -> str:
    """Return what is known of a recording: of a model that ships, of another one, without one, or missing."""
    try:
        base = assets.recording(name)["config"].get("base")
    except FileNotFoundError:
        return "not recorded"
    if base is None:
        return "names no model"
    return f"of the {models[base]} model" if base in models else "of a model that does not ship"


def described(name: str, models: dict[str, str]) -> str:
    """Return an experiment's question, arms, minutes and verdict, as its docstring and its recording have them."""
    module = importlib.import_module(f"experiments.{name}")
    lines = {}
    for head, text in re.findall(r"^(\w+) {2,}(.+(?:\n {4,}.+)*)", module.__doc__, re.MULTILINE):
        lines[head] = " ".join(text.split())
    told = [f"{name:18} {state(name, models)}"]
    told += [f"    {head.lower():9} {lines[head]}" for head in ("Question", "Arms") if head in lines]
    try:
        numbers = assets.recording(name)["numbers"]
    except FileNotFoundError:
        return "\n".join(told)
    minutes = numbers.get("cpu_minutes") or numbers.get("cpu_s", 0) / 60
    told += [f"    {'minutes':9} {minutes:.0f} of a CPU"] if minutes else []
    told += [f"    {'verdict':9} {module.verdict(numbers)}"] if hasattr(module, "verdict") else []
    return "\n".join(told)


def run_all(names, folder: Path, run=subprocess.run):
    """Run what is not done yet, in order; the first that fails ends it, and the next call starts there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        resumable.finished(folder / f"{name}.done", partial(_run_one, name, folder, run))


def _run_one(name, folder, run, done):
    print(f"== {name}", flush=True)
    run(command(name, folder), check=True)
    done.touch()


def main():
    """List, or run."""
    a = arguments()
    names = [name for name in EXPERIMENTS if name in a.only]
    if a.list:
        models = shipped()
        print("\n".join(described(name, models) for name in names))
        return
    try:
        if a.train:
            subprocess.run([sys.executable, "-m", "experiments.train_tiny"], check=True)
        run_all(names, a.runs / "_".join(model[:12] for model in shipped()))
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(error.cmd[1:])} failed with status {error.returncode}; the same command goes on with it")


if __name__ == "__main__":
    main()

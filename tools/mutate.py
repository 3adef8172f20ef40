"""Seeded faults, to show that tests can fail: each is applied to a copy of the tree, where its test must fail.

tests/mutations.py lists the faults and is the command.
"""

import argparse
import ast
import concurrent.futures
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
COPIED = (
    "afm_ref",
    "tests",
    "tools",
    "benchmarks",
    "experiments",
    "conftest.py",
    "pyproject.toml",
    "README.md",
)
# A mutant that cannot even run says nothing about the test's assertion.
NO_VERDICT = ("ImportError", "ModuleNotFoundError", "SyntaxError", "IndentationError", "NameError")


class Mutation(NamedTuple):
    """A fault: `old` stands exactly once in `file`; with `new` in its place `test` must fail."""

    name: str
    file: str
    old: str
    new: str
    test: str  # a pytest node id


class Verdict(NamedTuple):
    """What became of one mutation."""

    mutation: Mutation
    caught: bool
    reason: str
    seconds: float


def copy_tree(root: Path, target: Path) -> Path:
    """Copy what the tests need, without compiled files: a stale one could hide a mutation of equal length."""
    target.mkdir()
    for name in COPIED:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        elif source.exists():
            shutil.copy(source, target / name)
    return target


def run_pytest(tree: Path, tests: list[str], timeout_s: float = 180) -> tuple[int, str]:
    """Return (exit status, output) of pytest on these tests with `tree` as the only place to import from."""
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(tree), "COLUMNS": "300"}
    env["AFM_REF_HYPOTHESIS"] = "no_shrink"  # the smallest failing example is for people
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-rfE", "--tb=no", "-p", "no:cacheprovider"]
    command += ["-p", "no:nbval", "-o", "addopts=--import-mode=importlib", *tests]  # nbval takes 1.5 s to import
    try:
        done = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return -1, f"no end after {timeout_s:.0f} s"
    return done.returncode, done.stdout + done.stderr


def judge(status: int, output: str) -> tuple[bool, str]:
    """Return (caught, reason) from pytest's answer about a mutant: only a failing test counts."""
    found = re.search(r"^(?:FAILED|ERROR) \S.*?(?: - (.*))?$", output, re.MULTILINE)
    reason = (found and (found[1] or "").strip()) or (output.strip().splitlines() or ["no output"])[-1]
    if status == 0:
        return False, "SURVIVED: the test passes with the fault"
    if status != 1 or reason.startswith(NO_VERDICT):
        return False, f"NO VERDICT (pytest's status {status}): {reason}"
    return True, reason


def apply(tree: Path, mutation: Mutation) -> Verdict:
    """Put the fault in, run its test, take the fault out."""
    start = time.perf_counter()

    def verdict(caught, reason):
        return Verdict(mutation, caught, reason, time.perf_counter() - start)

    file = tree / mutation.file
    if not file.is_file():
        return verdict(False, f"there is no file {mutation.file}")
    text = file.read_text(encoding="utf-8")
    if text.count(mutation.old) != 1:
        return verdict(False, f"the old text stands {text.count(mutation.old)} times in {mutation.file}, not once")
    mutant = text.replace(mutation.old, mutation.new)
    try:
        if mutant == text or ast.dump(ast.parse(mutant)) == ast.dump(ast.parse(text)):
            return verdict(False, "the new text changes nothing")
    except SyntaxError as error:
        return verdict(False, f"the mutant does not parse: {error}")
    file.write_text(mutant, encoding="utf-8")
    try:
        return verdict(*judge(*run_pytest(tree, [mutation.test])))
    finally:
        file.write_text(text, encoding="utf-8")


def run(mutations: list[Mutation], root: Path = ROOT, jobs: int = 2) -> list[Verdict]:
    """Return a verdict on each mutation, printing them as they come."""
    with tempfile.TemporaryDirectory() as folder:
        trees = queue.SimpleQueue()
        for job in range(jobs):
            trees.put(copy_tree(root, Path(folder) / str(job)))

        def work(mutation):
            tree = trees.get()
            try:
                return apply(tree, mutation)
            finally:
                trees.put(tree)

        verdicts = []
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            for done in concurrent.futures.as_completed([pool.submit(work, m) for m in mutations]):
                verdicts.append(verdict := done.result())
                word = "caught" if verdict.caught else "FAILED"
                print(f"{word} {verdict.seconds:5.1f} s  {verdict.mutation.name}: {verdict.reason[:120]}", flush=True)
        return verdicts


def main(mutations: list[Mutation], arguments: list[str], root: Path = ROOT) -> int:
    """Check that the tests pass without a fault and fail with it; return 1 unless all do."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("-k", metavar="TEXT", default="", help="only faults with TEXT in their name, file or test")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="how many at a time (default: 2)")
    args = parser.parse_args(arguments)
    names = [m.name for m in mutations]
    if len(set(names)) < len(names):
        parser.error(f"two mutations of one name: {sorted({n for n in names if names.count(n) > 1})}")
    chosen = [m for m in mutations if args.k in f"{m.name} {m.file} {m.test}"]
    if not chosen:
        parser.error(f"no mutation matches {args.k!r}; there are {names}")
    with tempfile.TemporaryDirectory() as folder:
        tests = sorted({m.test for m in chosen})
        status, output = run_pytest(copy_tree(root, Path(folder) / "tree"), tests, timeout_s=600)
    if status:
        print(f"without any fault these tests must pass, but pytest's status is {status}:\n{output}")
        return 1
    failed = [v for v in run(chosen, root, args.jobs) if not v.caught]
    print(f"{len(chosen) - len(failed)} faults caught, {len(failed)} not")
    return int(bool(failed))

"""Seeded faults, to show that tests can fail: each is applied to a copy of the tree, where its test must fail.

tests/mutations.py lists the faults and is the command.
"""

import argparse
import ast
import concurrent.futures
import contextlib
import os
import queue
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tools import environment
from tools.forked import TIMED_OUT, Forked

ROOT = Path(__file__).resolve().parent.parent
COPIED = (
    "afm_ref",
    "tests",
    "tools",
    "benchmarks",
    "experiments",
    "notebooks",
    "conftest.py",
    "pyproject.toml",
    "README.md",
)
PRELOADED = "pytest hypothesis anyio.pytest_plugin numpy jax jax.numpy optax jaxtyping beartype safetensors.numpy"
PRELOADED += " tokenizers matplotlib.figure"
REWRITTEN = "ignore::pytest.PytestAssertRewriteWarning"  # plugins were imported before the fork
# A mutant that cannot even run says nothing about the test's assertion.
NO_VERDICT = ("ImportError", "ModuleNotFoundError", "SyntaxError", "IndentationError", "NameError")


class Mutation(NamedTuple):
    """A fault: `old` stands exactly once in `file`; with `new` in its place `test` must fail."""

    name: str
    file: str
    old: str
    new: str
    test: str  # a pytest node id, of the quick tier
    slow: str = ""  # why only a test marked `slow` catches it


def faults(text: str) -> list[Mutation]:
    """Read faults written as changes are shown: a file, and under it each fault's name, lines, and test.

        afm_ref/ops.py
          attention forgets its scale
            - (wide(q) * H**-0.5) @
            + wide(q) @
            tests/transformer/test_ops.py::test_attention_equals_loops

    `-` lines are `old`, `+` lines `new`, joined by line ends; a line `slow: ...` may follow the test.
    """
    found: list[dict] = []
    for line in text.strip("\n").split("\n"):
        if not line.startswith(" "):
            file = line
        elif not line.startswith("    "):
            found.append(dict(name=line.strip(), file=file, old=[], new=[]))
        elif line[4] in "-+":
            found[-1]["old" if line[4] == "-" else "new"].append(line[6:])
        else:
            reason = line.removeprefix("    slow: ")
            found[-1] |= dict(test=line.strip()) if reason == line else dict(slow=reason)
    return [Mutation(**fault | {key: "\n".join(fault[key]) for key in ("old", "new")}) for fault in found]


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


class Place(NamedTuple):
    """A copy of the tree, and the process that forks for each run of pytest there."""

    tree: Path
    forked: Forked

    def pytest(self, tests: list[str], tier: str, timeout_s: float = 300) -> tuple[int, str]:
        """Return (exit status, output) of pytest on these tests; tier: which of them, as pytest's -m."""
        # Without nbval, which takes 3 s to import.
        options = (
            f"-q -x -rfE --tb=no -p no:cacheprovider -p no:nbval -W {REWRITTEN} -o addopts=--import-mode=importlib"
        )
        env = {
            "COLUMNS": "300",
            "AFM_REF_HYPOTHESIS": "no_shrink",  # the smallest failing example is for people
            "AFM_REF_COMPILED": str(self.tree.parent / "compiled"),
        }
        status, output = self.forked.pytest(self.tree, [*options.split(), "-m", tier, *tests], timeout_s, env)
        return status, f"no end after {timeout_s:.0f} s" if status == TIMED_OUT else output


@contextlib.contextmanager
def places(root: Path, jobs: int):
    """Yield `jobs` places."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        trees = [copy_tree(root, Path(folder) / str(job)) for job in range(jobs)]
        yield [Place(tree, stack.enter_context(Forked(PRELOADED.split()))) for tree in trees]


def judge(status: int, output: str) -> tuple[bool, str]:
    """Return (caught, reason) from pytest's answer about a mutant: only a failing test counts."""
    found = re.search(r"^(?:FAILED|ERROR) \S.*?(?: - (.*))?$", output, re.MULTILINE)
    reason = (found and (found[1] or "").strip()) or (output.strip().splitlines() or ["no output"])[-1]
    if status == 0:
        return False, "SURVIVED: the test passes with the fault"
    if status != 1 or reason.startswith(NO_VERDICT):
        return False, f"NO VERDICT (pytest's status {status}): {reason}"
    return True, reason


def apply(place: Place, mutation: Mutation) -> Verdict:
    """Put the fault in, run its test, take the fault out."""
    start = time.perf_counter()

    def verdict(caught, reason):
        return Verdict(mutation, caught, reason, time.perf_counter() - start)

    file = place.tree / mutation.file
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
        return verdict(*judge(*place.pytest([mutation.test], tier_of(mutation))))
    finally:
        file.write_text(text, encoding="utf-8")


def tier_of(mutation: Mutation) -> str:
    """Return pytest's -m: a fault whose test is slow must say why, or no test is found."""
    return "slow" if mutation.slow else "not slow"


def run(mutations: list[Mutation], found: list[Place]) -> list[Verdict]:
    """Return a verdict on each mutation, printing them as they come."""
    free = queue.SimpleQueue()
    for place in found:
        free.put(place)

    def work(mutation):
        place = free.get()
        try:
            return apply(place, mutation)
        finally:
            free.put(place)

    verdicts = []
    with concurrent.futures.ThreadPoolExecutor(len(found)) as pool:
        for done in concurrent.futures.as_completed([pool.submit(work, m) for m in mutations]):
            verdicts.append(verdict := done.result())
            word = "caught" if verdict.caught else "FAILED"
            print(f"{word} {verdict.seconds:5.1f} s  {verdict.mutation.name}: {verdict.reason[:120]}", flush=True)
    return verdicts


def pass_without_faults(mutations: list[Mutation], found: list[Place]) -> bool:
    """Whether all the tests pass on the tree as it is; print what does not. The files are dealt to the places."""
    tests = {tier: sorted({m.test for m in mutations if tier_of(m) == tier}) for tier in map(tier_of, mutations)}
    files = sorted({test.partition("::")[0] for ids in tests.values() for test in ids})

    def work(job):
        mine = set(files[job :: len(found)])
        for tier, ids in tests.items():
            if chosen := [test for test in ids if test.partition("::")[0] in mine]:
                status, output = found[job].pytest(chosen, tier, timeout_s=1800)
                if status:
                    return f"without any fault these tests must pass, but pytest's status is {status}:\n{output}"
        return ""

    with concurrent.futures.ThreadPoolExecutor(len(found)) as pool:
        failures = [text for text in pool.map(work, range(len(found))) if text]
    print("\n".join(failures), end="")
    return not failures


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
    environment.prepare()  # before a process imports JAX
    with places(root, args.jobs) as found:
        if not pass_without_faults(chosen, found):
            return 1
        failed = [v for v in run(chosen, found) if not v.caught]
    for mutation in chosen:
        if mutation.slow:
            print(f"by the slow tier alone: {mutation.name}: {mutation.slow}")
    print(f"{len(chosen) - len(failed)} faults caught, {len(failed)} not")
    return int(bool(failed))

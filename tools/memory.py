"""How much memory a command takes, with all processes that it starts."""

import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Usage(NamedTuple):
    """What a finished command took."""

    returncode: int
    wall_s: float
    cpu_s: float  # of it and of the processes that it waited for
    peak_bytes: int  # the largest sum of resident sets of all its processes at one time; 0 where there is no /proc
    output: str


def measured(command: list[str], every_s: float = 0.1, **options) -> Usage:
    """Run a command to its end and return what it took; memory is looked at so often, and pages shared by processes
    are counted in each, so that a sum is an upper bound. options: of subprocess.Popen.
    """
    before, start, peak = os.times(), time.perf_counter(), 0
    with tempfile.TemporaryFile("w+") as log:  # a pipe that nobody reads meanwhile would stop the command when full
        with subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, **options) as process:
            while process.poll() is None:
                peak = max(peak, tree_bytes(process.pid))
                time.sleep(every_s)
        log.seek(0)
        output = log.read()
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Usage(process.returncode, time.perf_counter() - start, cpu, peak, output)


def tree_bytes(root: int) -> int:
    """Return the sum of the resident sets of a process and of all that descend from it, in bytes."""
    parents, sizes = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        parents[int(folder.name)], sizes[int(folder.name)] = int(fields[1]), int(fields[21]) * PAGE_BYTES
    family = {root}
    while more := {pid for pid, parent in parents.items() if parent in family and pid not in family}:
        family |= more
    return sum(sizes.get(pid, 0) for pid in family)

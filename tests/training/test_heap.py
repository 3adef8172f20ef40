"""The heap that keeps what it is given back, in a process of its own: its settings last until that ends."""

import subprocess
import sys

import pytest

from afm_ref.training import heap

LARGE = 64 << 20
SCRIPT = f"""
import resource
from concurrent.futures import ThreadPoolExecutor
from afm_ref.training import heap

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for byte in (b"b", b"c", b"d", b"e"):
        assert (byte * {LARGE})[-1:] == byte
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

plain = faults()
assert heap.keep_freed_memory()
b"a" * {LARGE}  # the first one's pages are cleared in any case
with ThreadPoolExecutor() as pool:  # as XLA computes
    print(plain, pool.submit(faults).result())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_large_arrays_are_cleared_once():
    """Four times 64 MB are 128 huge pages at the least, where the kernel gives such unasked, or 65,536 small ones."""
    command = [sys.executable, "-c", SCRIPT]
    plain, kept = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert plain >= 128
    assert kept < 32


def test_a_system_without_it_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not heap.keep_freed_memory()

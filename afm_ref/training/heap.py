"""The C library's heap, told to keep what a training step gives back.

A step's temporary arrays are taken and given back at every step. glibc returns large pieces
to the kernel at once, which clears every page of them again for the next step. On two AMD
cores that is 3 to 11 percent of a step of 8 x 256 tokens. Kept memory is in pieces, though:
up to 1.7 times as much was taken, and a step of 8 x 1024 tokens, of 3.9 GB, gained nothing.
"""

import ctypes
import sys

# Numbers of glibc's malloc.h. Without any of the three the page faults stay; huge pages and
# growing by more at a time gained nothing further. One arena makes compiling slower, by 1 to
# 2 s of 4.5.
MALLOPT = {
    "M_MMAP_MAX": (-4, 0),  # no array lies outside the heap,
    "M_TRIM_THRESHOLD": (-1, -1),  # which never shrinks
    "M_ARENA_MAX": (-8, 1),  # and is one for all threads: others have heaps of 64 MB
}


def keep_freed_memory() -> bool:
    """Have this process keep freed memory for its next arrays, and return whether it can:
    on Linux with glibc, and before JAX has made its threads.

    It lasts until the process ends, whose memory then never shrinks.

    Source: mallopt(3) [standard].
    Test: tests/training/test_heap.py::test_large_arrays_are_cleared_once
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return hasattr(libc, "mallopt") and all(
        libc.mallopt(*setting) for setting in MALLOPT.values()
    )

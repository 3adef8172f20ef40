"""What the processes of one run must agree on: when to stop, that they were started alike,
what a checkpoint holds.

With a single process nothing here sends anything.
"""

import contextlib
import signal
import threading
from collections.abc import Callable

import jax
import numpy as np


def several() -> bool:
    """Return whether other processes (jax.distributed) take part in this run."""
    return jax.process_count() > 1


def told_to_stop(step: int) -> bool:
    """Return whether all processes are to stop after this step, because one of them was
    sent SIGTERM.

    JAX agrees on a step that none of them has passed: so all see True at the same one. A
    Ctrl-C in a process of several becomes a SIGTERM (parallelism.processes).
    """
    if not several():
        return False
    from jax.experimental import multihost_utils

    return multihost_utils.reached_preemption_sync_point(step)


@contextlib.contextmanager
def uninterrupted():
    """Hold Ctrl-C back until the block is done: while a step takes the weights' buffers
    over, there is no state.
    """
    # only that one is interrupted
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held = []
    previous = signal.signal(signal.SIGINT, lambda *arguments: held.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if held and callable(previous):
        previous(*held[0])


def broadcast(data: bytes) -> bytes:
    """Return process 0's bytes in every process; what the others give is not looked at."""
    from jax.experimental import multihost_utils

    # Bytes, not arrays: sent as floats, 64 bits would become 32 and -0.0 become 0.0.
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
    sent = (
        np.frombuffer(data, np.uint8)
        if jax.process_index() == 0
        else np.zeros(length, np.uint8)
    )
    return np.asarray(multihost_utils.broadcast_one_to_all(sent)).tobytes()


def by_process_0(make: Callable[[], bytes]) -> bytes:
    """Return the bytes that make() gives in process 0; its ValueError is raised in every
    process.
    """
    if not several():
        return make()
    told = b""
    if jax.process_index() == 0:
        try:
            told = b"+" + make()
        except ValueError as error:
            told = b"-" + str(error).encode()
    told = broadcast(told)
    if told.startswith(b"-"):
        raise ValueError(told[1:].decode())
    return told[1:]

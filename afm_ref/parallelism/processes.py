"""One run in several processes: started, watched and ended together.

`launch` starts the processes of this machine and watches them; each of them calls `joined`, which connects them by
jax.distributed. On one machine it starts all; on several hosts each host launches its own, and a process that dies is
noticed by its missing heartbeats.
"""

import contextlib
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from typing import NamedTuple

HEARTBEAT_S = 10  # a host that is silent for so long is dead; JAX waits 100 s
SHUTDOWN_S = 10  # how long a process that is done waits for the others; JAX waits 300 s
AFTER_ERROR_S = 1  # and how long one that failed waits, and then those that could not go on without it
VARIABLE = "AFM_REF_PROCESS"  # tells a process that it was launched, and as which
INTERRUPTED = 130  # the exit status of a command that Ctrl-C ended

# What the C++ side writes: of no use to the reader; what follows an E or F is about the end of the process.
NOISE = re.compile(r"\[Gloo\] |[WEF]\d{4} [\d:.]+ +\d+ (?:coordination|preemption|client)")
LOST = re.compile(r"stopped sending heartbeats\):\s+((?:\d+\s+)+)")
LOST_COORDINATOR = "Failed to send RPC to coordination service"


class Member(NamedTuple):
    """Which process of a run this is."""

    coordinator: str  # host:port of process 0
    index: int
    count: int

    def __str__(self):
        return f"process {self.index} of {self.count}"


def member() -> Member | None:
    """Return which process of a launched run this is, or None when it was not launched."""
    if VARIABLE not in os.environ:
        return None
    coordinator, index, count = os.environ[VARIABLE].split()
    return Member(coordinator, int(index), int(count))


@contextlib.contextmanager
def joined(me: Member):
    """Connect this process with the others of its run while the block runs. Nothing of JAX may have run before.

    Ctrl-C and SIGTERM stop all processes after the same step (`agreement.told_to_stop`). When the launcher is gone,
    so is this process.

    Source: jax.distributed.initialize, with gloo between CPUs [standard]; the time limits [ours].
    Test: tests/parallelism/test_processes.py::test_processes_give_the_losses_of_one
    """
    import jax

    jax.distributed.initialize(
        me.coordinator,
        me.count,
        me.index,
        heartbeat_timeout_seconds=HEARTBEAT_S,
        shutdown_timeout_seconds=SHUTDOWN_S,
        coordinator_bind_address=me.coordinator if me.coordinator.startswith("127.") else None,
    )
    signal.signal(signal.SIGINT, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    try:
        yield
    except Exception as error:
        if "Gloo" in str(error):  # as a ValueError or a JaxRuntimeError
            # A connection broke. Whose it was, JAX learns from the heartbeats; then it says so and ends this process.
            time.sleep(2 * HEARTBEAT_S)
        # At its exit JAX waits for the others, who cannot come: they wait in a step for this one.
        end = threading.Timer(AFTER_ERROR_S, os._exit, [2])
        end.daemon = True
        end.start()
        raise


def _end_with_launcher():
    while os.read(0, 1):  # the launcher holds the other end
        pass
    os._exit(1)


def launch(command: list[str], count: int, coordinator: str | None = None, index: int | None = None, advice="") -> int:
    """Run a command as `count` processes, or as the one process `index` of a run over several hosts.

    Returns the exit status: 0, 130 after Ctrl-C, or that of the process that failed. The output of the first one
    started here is passed on. When one dies the others are ended, and a line on stderr says which it was and why,
    followed by `advice`.

    coordinator is host:port of process 0, the same on every host; None, for a single machine, takes a free port.

    Source: a supervisor beside jax.distributed's heartbeats [ours].
    Test: tests/parallelism/test_processes.py::test_a_killed_process_ends_the_others_and_is_named
    """
    _check(count, coordinator, index)
    address = coordinator or f"127.0.0.1:{free_port()}"
    indices = range(count) if index is None else [index]
    ended, workers = queue.SimpleQueue(), []
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    try:
        for i in indices:
            workers.append(_Worker(command, Member(address, i, count), shown=i == indices[0], ended=ended))
        return _watch(workers, ended, advice)
    finally:
        signal.signal(signal.SIGTERM, previous)
        for worker in workers:
            worker.end()


def free_port() -> int:
    """Return a TCP port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _check(count, coordinator, index):
    if count < 2:
        raise ValueError(f"{count} processes: give at least 2, or leave the number out for one")
    if (coordinator is None) != (index is None):
        raise ValueError(
            "on several hosts give both the coordinator, host:port of process 0, and each process's number"
        )
    if index is not None and not 0 <= index < count:
        raise ValueError(f"process {index} of {count}: the processes are numbered 0 to {count - 1}")
    if coordinator is not None and not re.fullmatch(r"\S+:\d+", coordinator):
        raise ValueError(f"the coordinator {coordinator!r} must be host:port of process 0, such as 10.0.0.1:1234")


class _Worker:
    """One process, its output read as it comes."""

    def __init__(self, command, member, shown, ended):
        self.member, self.tail = member, deque(maxlen=400)
        columns = str(shutil.get_terminal_size().columns)  # for the progress bar, which sees no terminal
        environment = {"PYTHONUNBUFFERED": "1", "COLUMNS": columns, **os.environ, VARIABLE: " ".join(map(str, member))}
        # In a session of its own: a Ctrl-C reaches the launcher alone.
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        streams = ((self.process.stdout, sys.stdout), (self.process.stderr, sys.stderr))
        self.readers = [_thread(self._read, pipe, sink if shown else None) for pipe, sink in streams]
        self.shown = shown
        _thread(self._wait, ended)

    def _read(self, pipe, sink):
        rest, muted = b"", False
        while chunk := os.read(pipe.fileno(), 65536):
            *lines, rest = re.split(rb"(?<=[\r\n])", rest + chunk)
            # A bar ends its line only when it is drawn again: it must not wait for that, as what may be noise must.
            if rest and rest[0] not in b"[WEF":
                lines, rest = [*lines, rest], b""
            for line in lines:
                muted = self._take(line.decode(errors="replace"), None if muted else sink) or muted
        self._take(rest.decode(errors="replace"), None if muted else sink)

    def _take(self, line, sink):
        """Keep a line, and pass it on if there is a sink; return whether what follows is about the end only."""
        self.tail.append(line)
        noise = NOISE.match(line)
        if sink is not None and not noise:
            with contextlib.suppress(BrokenPipeError):  # nobody looks any more: the run goes on
                sink.write(line)
                sink.flush()
        return bool(noise) and line[0] in "EF"

    def _wait(self, ended):
        self.process.wait()
        for reader in self.readers:
            reader.join()
        ended.put(self)

    def failed(self):
        """Return whether it has ended otherwise than by finishing or by stopping with all."""
        return self.process.poll() not in (None, 0, INTERRUPTED)

    def end(self):
        """End it if it has not, and wait until it is gone."""
        self.process.kill()
        self.process.wait()
        for reader in self.readers:
            reader.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()

    def lost(self):
        """Return the numbers of the processes that JAX told this one are dead."""
        text = "".join(self.tail)
        if found := LOST.search(text):
            return sorted(map(int, found[1].split()))
        return [0] if LOST_COORDINATOR in text else []

    def told(self):
        """Return its error line, or the last lines it wrote."""
        if self.shown:
            return "see above"
        lines = [line for line in "".join(self.tail).splitlines() if line.strip() and not NOISE.match(line)]
        errors = [line for line in lines if line.startswith("error: ")]
        return errors[0].removeprefix("error: ") if errors else "\n" + "\n".join(lines[-20:])


def _thread(target, *arguments):
    thread = threading.Thread(target=target, args=arguments, daemon=True)
    thread.start()
    return thread


def _watch(workers, ended, advice):
    """Return the exit status of a run: wait for all, or for the first that fails."""
    left, interrupted = len(workers), False
    while left:
        try:
            worker = ended.get()
        except KeyboardInterrupt:
            if interrupted:
                return INTERRUPTED
            interrupted = True
            workers[0].process.terminate()  # JAX tells the others
            continue
        left -= 1
        if worker.failed():
            return INTERRUPTED if interrupted else _report(workers, ended, left, advice)
    return max(worker.process.returncode for worker in workers)


def _report(workers, ended, left, advice):
    """Say on stderr which process failed first, and return its exit status."""
    if not any(_signal(worker) for worker in workers):  # it ended by itself: let the others say the same, or why not
        with contextlib.suppress(queue.Empty):
            for _ in range(left):
                ended.get(timeout=AFTER_ERROR_S)
    # Those that a signal ended are a cause; those that lost a process are a consequence, as are failed collectives.
    failed = [worker for worker in workers if worker.failed()]
    first = min(failed, key=lambda w: (bool(w.lost()), not _signal(w), w.process.returncode != 2))
    status = first.process.returncode
    if first.lost():
        who = "processes" if len(first.lost()) > 1 else "process"
        numbers = ", ".join(map(str, first.lost()))
        what = f"{who} {numbers} of {first.member.count} died: no answer for {HEARTBEAT_S} s or a closed connection"
    elif _signal(first):
        what = f"{first.member} was killed by {_signal(first)}"
    elif first.shown and status == 2:
        return status  # it has said so itself
    else:
        what = f"{first.member} failed: {first.told()}"
    print(f"\nerror: {what}. The run has ended. {advice}".rstrip(), file=sys.stderr, flush=True)
    return status if status > 0 else 1


def _signal(worker):
    """Return the name of the signal that ended a process; an abort is C++'s way to raise an error."""
    status = worker.process.poll()
    return signal.Signals(-status).name if status is not None and status < 0 and status != -signal.SIGABRT else None

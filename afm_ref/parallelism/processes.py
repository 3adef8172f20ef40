"""One run in several processes: started and ended together.

`launch` starts the processes of this machine and watches them; each of them calls `joined`,
which connects them by jax.distributed. Of several hosts each launches its own.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import NamedTuple

# a host that is silent for so long is dead, and JAX says so; its own limit is 100 s
HEARTBEAT_S = 10
# how long a process that failed waits for those that cannot go on without it
AFTER_ERROR_S = 1
POLL_S = 0.05
VARIABLE = "AFM_REF_PROCESS"  # tells a process that it was launched, and as which
INTERRUPTED = 130  # the exit status of a command that Ctrl-C ended


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
    """Connect this process with its run while the block runs, before JAX does anything.

    Ctrl-C and SIGTERM stop all processes after the same step (`multihost.told_to_stop`).
    When the launcher is gone, so is this process.
    """
    import jax

    jax.distributed.initialize(
        me.coordinator,
        me.count,
        me.index,
        heartbeat_timeout_seconds=HEARTBEAT_S,
        shutdown_timeout_seconds=HEARTBEAT_S,
        coordinator_bind_address=me.coordinator
        if me.coordinator.startswith("127.")
        else None,
    )
    signal.signal(signal.SIGINT, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    try:
        yield
    except Exception as error:
        # a connection broke: another process is the cause, which the launcher or JAX will name
        if "Gloo" in str(error):
            time.sleep(2 * HEARTBEAT_S)
        # At its exit JAX waits for the others, who cannot come: they wait in a step for
        # this one.
        end = threading.Timer(AFTER_ERROR_S, os._exit, [2])
        end.daemon = True
        end.start()
        raise


def _end_with_launcher():
    while os.read(0, 1):  # the launcher holds the other end
        pass
    os._exit(1)


def launch(
    command: list[str],
    count: int,
    coordinator: str | None = None,
    index: int | None = None,
    advice="",
) -> int:
    """Run a command as `count` processes, or as one, `index`, of several hosts.

    Returns the exit status: 0, 130 after Ctrl-C, or that of the process that failed: then
    the others are ended, and stderr says which of those started here it was, followed by
    `advice`; of another host's JAX says it. Only the first one started here is heard.
    coordinator: host:port of process 0; None takes a free port.
    """
    _check(count, coordinator, index)
    address = coordinator or f"127.0.0.1:{free_port()}"
    workers = []
    # ends as Ctrl-C does
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for i in range(count) if index is None else [index]:
            workers.append(_Worker(command, Member(address, i, count), shown=not workers))
        return _watch(workers, advice)
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
        raise ValueError(
            f"{count} processes: give at least 2, or leave the number out for one"
        )
    if (coordinator is None) != (index is None):
        raise ValueError(
            "on several hosts give both the coordinator, host:port of process 0, and each process's number"
        )
    if index is not None and not 0 <= index < count:
        raise ValueError(
            f"process {index} of {count}: the processes are numbered 0 to {count - 1}"
        )
    if coordinator is not None and not re.fullmatch(r"\S+:\d+", coordinator):
        raise ValueError(
            f"the coordinator {coordinator!r} must be host:port of process 0, such as 10.0.0.1:1234"
        )


class _Worker:
    """One process; what it writes goes to our own stdout and stderr, or to a file."""

    def __init__(self, command, member, shown):
        self.member, self.log = member, None if shown else tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
        # Unbuffered: what it said is there however it ends.
        env = os.environ | {"PYTHONUNBUFFERED": "1", VARIABLE: " ".join(map(str, member))}
        # In a session of its own: a Ctrl-C reaches the launcher alone.
        self.process = subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=self.log,
            stderr=self.log, start_new_session=True,
        )  # fmt: skip

    def killed_by(self):
        """Return the name of the signal that ended it, or None for C++'s own abort."""
        status = self.process.poll() or 0
        if status < 0 and status != -signal.SIGABRT:
            return signal.Signals(-status).name
        return None

    def failed(self):
        """Return whether it has ended but neither finished nor stopped with all."""
        return self.process.poll() not in (None, 0, INTERRUPTED)

    def told(self):
        """Return the last lines that it wrote."""
        if self.log is None:
            return "see above"
        self.log.seek(0)
        return "\n".join(["", *self.log.read().decode(errors="replace").splitlines()[-20:]])

    def end(self):
        """End it if it has not, and wait until it is gone."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        if self.log is not None:
            self.log.close()


def _watch(workers, advice):
    """Return the exit status of a run: wait for all, or for the first that fails."""
    interrupted = False
    while not any(worker.failed() for worker in workers):
        if all(worker.process.poll() is not None for worker in workers):
            return max(worker.process.returncode for worker in workers)
        try:
            time.sleep(POLL_S)
        except KeyboardInterrupt:
            if interrupted:
                return INTERRUPTED
            interrupted = True
            workers[0].process.terminate()  # JAX tells the others
    return INTERRUPTED if interrupted else _report(workers, advice)


def _report(workers, advice):
    """Say on stderr which process failed first, and return its exit status."""
    # it may have ended by itself: let the others say the same
    deadline = time.monotonic() + 2 * AFTER_ERROR_S
    while (
        time.monotonic() < deadline
        and any(worker.process.poll() is None for worker in workers)
        and not any(worker.killed_by() for worker in workers)
    ):
        time.sleep(POLL_S)
    # One that a signal ended is the cause; of those that ended by themselves, the one that
    # was heard has said why.
    failed = [worker for worker in workers if worker.failed()]
    first = min(failed, key=lambda worker: (not worker.killed_by(), worker.log is not None))
    status = first.process.returncode
    if first.killed_by():
        what = f"{first.member} was killed by {first.killed_by()}"
    elif first.log is None and status == 2:
        return status  # a command's own error, in its own words
    else:
        what = f"{first.member} failed: {first.told()}"
    print(f"\nerror: {what}\nThe run has ended. {advice}".rstrip(), file=sys.stderr)
    return status if status > 0 else 1

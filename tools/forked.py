"""A process that has imported what every test imports, and forks for each run of pytest.

Starting Python, JAX and pytest anew takes four seconds of a run; a fork takes none. Nothing of this repository is
imported before the fork, so each run imports the tree that it is given.

    with Forked(["jax", "hypothesis"]) as forked:
        status, output = forked.pytest(tree, ["-q", "tests/test_code.py"], timeout_s=60, env={})
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

TIMED_OUT = -1
NOT_RUN = 3  # pytest's own word for an internal error: whatever stops this process is no failing test


class Forked:
    """The client: one run at a time; close it (or use `with`) when all are done."""

    def __init__(self, modules: list[str]):
        self.server = subprocess.Popen(
            [sys.executable, "-P", __file__, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def pytest(self, tree: Path, arguments: list[str], timeout_s: float, env: dict[str, str]) -> tuple[int, str]:
        """Return (exit status, output) of pytest with `tree` as the only place to import from; -1 if it did not end."""
        with tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace") as output:
            order = {
                "tree": str(tree),
                "arguments": arguments,
                "timeout_s": timeout_s,
                "env": env,
                "output": output.name,
            }
            print(json.dumps(order), file=self.server.stdin, flush=True)
            answer = self.server.stdout.readline()
            if not answer:
                raise RuntimeError(f"the process that forks has ended with {self.server.wait()}")
            return int(answer), output.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.stdin.close()
        self.server.stdout.close()
        self.server.wait()


def serve(modules: list[str]) -> None:
    """Import the modules; read orders from stdin, a line each; answer each by its exit status."""
    for name in modules:
        __import__(name)
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)  # JAX has imported, but not started a thread
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(**order)
        print(_wait(child, order["timeout_s"]), flush=True)


def _wait(child, timeout_s):
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) % 256  # a signal's -9 is no timeout
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return TIMED_OUT


def _run(tree, arguments, env, output, timeout_s):
    status = NOT_RUN
    try:
        import pytest

        os.setsid()  # one group to kill, with all that the tests start
        os.chdir(tree)
        os.environ.update(env, PYTHONPATH=tree)
        sys.path.insert(0, tree)
        file = os.open(output, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(file, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # not the orders
        status = int(pytest.main(arguments))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1:])

"""Several processes: the numbers of one, ended together, continued by any number of them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from afm_ref.disk import targets
from afm_ref.parallelism import processes
from tests import compiling
from tests.parallelism.member import layout, train

ROOT = Path(__file__).parents[2]
STEPS = 14

# Both sides add the same float32 numbers in another order: in a step at most 8 rows of 4 products and a few more for
# the optimizer, each sum wrong by at most (terms) x 2^-24 of its size. The updates are contractions, so the errors of
# the steps at most add up. A row that is lost or taken twice changes a loss by more than a hundredth of itself.
ROUNDING = STEPS * (8 * 4 + 16) * 2.0**-24  # 4e-5


def launch(*arguments, count=2, **options):
    """Launch tests.parallelism.member in the repository's root."""
    command = [sys.executable, "-m", "tests.parallelism.member", *map(str, arguments)]
    return processes.launch(command, count, **options)


@pytest.fixture(autouse=True, scope="module")
def _compiled_once(tmp_path_factory):
    """The runs in this process have the same step."""
    with compiling.once(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The history of the run in one process, on one device, that nothing interrupts."""
    return train(tmp_path_factory.mktemp("whole"), STEPS).history


@pytest.fixture(autouse=True)
def _in_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def check(history, wanted, steps=STEPS):
    for column in ("loss", "grad_norm", "count"):
        got, want = getattr(history, column), getattr(wanted, column)
        np.testing.assert_allclose(got[:steps], want[:steps], rtol=ROUNDING)


def test_a_killed_process_ends_the_others_and_is_named(tmp_path, whole, capfd):
    """Process 1 is killed in mid-run; then one process with one device continues from the last checkpoint."""
    folder = tmp_path / "run"
    assert launch(folder, STEPS, "--at", 8, "kill", 1, advice="Do it again.") == 1
    assert time.time() - float((tmp_path / "run.at").read_text()) < 30
    error = capfd.readouterr().err
    assert "error: process 1 of 2 was killed by SIGKILL\nThe run has ended. Do it again.\n" in error
    kept = {path.name for path in folder.iterdir() if "tmp" not in path.name}
    assert kept - {targets.LOCK} == {"5.safetensors", "run.json"}  # a killed process 0 leaves its lock's file, no lock
    told = []
    result = train(folder, STEPS, callback=lambda history: told.append(len(history)), callback_every=1)
    assert told[0] == 6 and len(result.history) == STEPS
    check(result.history, whole)


def test_another_layout_continues_a_checkpoint(tmp_path, whole):
    """One process stops after 7 steps, two with two devices each continue, with Apple's optimizer's state.

    Ctrl-C in one of them, as on several hosts, stops both after the same step, which process 0 saves. In the launcher:
    test_ctrl_c_reaches_process_0_which_tells_the_others.
    """
    train(tmp_path / "run", 7)
    assert launch(tmp_path / "run", 10_000, 2, "--at", 9, "interrupt", 1) == processes.INTERRUPTED
    saved = max(int(path.stem) for path in (tmp_path / "run").glob("*.safetensors"))
    assert 9 <= saved < 10_000
    left = {path.name for path in (tmp_path / "run").iterdir()}  # by process 0 alone, and whole
    assert left == {f"{(saved - 1) // 5 * 5}.safetensors", f"{saved}.safetensors", "run.json"}
    history = train(tmp_path / "run", saved).history  # nothing is left to do: the state is whole, and of that step
    check(history, whole, min(saved, STEPS))
    assert history.loss[:7].tobytes() == whole.loss[:7].tobytes()  # not computed again


def test_continued_with_the_same_layout_equals_never_interrupted_to_the_last_bit(tmp_path):
    """Four devices in one process: without pinning where the results lie, the first step would be compiled anew."""

    def interrupt(history):
        if len(history) == 7:
            raise KeyboardInterrupt

    cut = layout(jax.devices()[:4])
    uninterrupted = train(None, STEPS, layout=cut)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, STEPS, layout=cut, callback=interrupt, callback_every=1)
    again = train(tmp_path, STEPS, layout=cut)
    assert again.history.loss.tobytes() == uninterrupted.history.loss.tobytes()
    assert again.params["w"].tobytes() == uninterrupted.params["w"].tobytes()


def test_processes_that_were_started_differently_are_refused(tmp_path, capfd):
    assert launch(tmp_path / "run", STEPS, "--seed-of", 3, count=4) != 0  # end before their first step
    assert "process 3 was not started like process 0: batches.seed was 0 and is 1" in capfd.readouterr().err
    assert {path.name for path in (tmp_path / "run").glob("*")} <= {targets.LOCK}  # process 0 was killed: see above


@pytest.mark.slow  # JAX may take ten seconds to miss a process
def test_on_several_hosts_a_lost_process_ends_the_others(tmp_path):
    """Two launchers, as on two hosts. The process of one is killed: that of the other ends, and JAX says why."""
    coordinator = f"127.0.0.1:{processes.free_port()}"
    arguments = f"{str(tmp_path)!r}, 1_000_000, '--at', 8, 'kill', 1, coordinator={coordinator!r}"
    hosts = []
    for i in range(2):
        code = f"import sys; from {__name__} import launch; sys.exit(launch({arguments}, index={i}))"
        hosts.append(subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True))
    try:
        _, second = hosts[1].communicate(timeout=120)
        start = time.monotonic()
        _, first = hosts[0].communicate(timeout=60)
        assert time.monotonic() - start < 30
    finally:
        for host in hosts:
            host.kill()
            host.wait()
    assert "error: process 1 of 2 was killed by SIGKILL" in second
    assert "Connection closed by peer" in first or "stopped sending heartbeats" in first
    assert [host.returncode > 0 for host in hosts] == [True, True]


# The launcher by itself, with processes that do not even import JAX.


def script(tmp_path, text):
    """Return a command that runs this text, in which `me` is the number of the process."""
    file = tmp_path / "script.py"
    head = "import os, pathlib, signal, sys, time\nme = int(os.environ['AFM_REF_PROCESS'].split()[1])\n"
    file.write_text(f"{head}{text}\n")
    return [sys.executable, str(file)]


def launcher_of(command, **options):
    """Start a launcher of two in a process of its own, with nothing imported but the module."""
    code = "import sys, processes; sys.exit(processes.launch(sys.argv[1:], 2))"
    env = os.environ | {"PYTHONPATH": str(Path(processes.__file__).parent)}
    return subprocess.Popen([sys.executable, "-c", code, *command], env=env, text=True, **options)


def test_the_first_error_is_told_and_nobody_is_left(tmp_path, capfd):
    command = script(tmp_path, f"""
open(r'{tmp_path}/pid%d' % me, 'w').write(str(os.getpid()))
if me == 2:
    while len(os.listdir(r'{tmp_path}')) < 5: time.sleep(0.01)
    sys.exit('error: no such mesh')
time.sleep(1000)""")  # fmt: skip
    assert processes.launch(command, 4) == 1
    assert "error: process 2 of 4 failed: \nerror: no such mesh\nThe run has ended." in capfd.readouterr().err
    for i in range(4):
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / f"pid{i}").read_text()), 0)


def test_a_process_that_aborts_has_failed_in_its_own_words(tmp_path, capfd):
    """C++ ends so when another host is lost: what it wrote is there, and the status is not that of success."""
    command = script(tmp_path, """
sys.stdout.write("nothing is lost\\n")
os.abort()""")  # fmt: skip
    assert processes.launch(command, 2, coordinator="10.0.0.1:1234", index=0, advice="Again.") == 1
    heard = capfd.readouterr()
    assert "nothing is lost" in heard.out and "error: process 0 of 2 failed: see above" in heard.err


def test_ctrl_c_reaches_process_0_which_tells_the_others(tmp_path):
    """The launcher alone gets it, waits for all, and says with its status that the run was interrupted."""
    command = script(tmp_path, f"""
here = pathlib.Path(r'{tmp_path}')
signal.signal(signal.SIGTERM, signal.SIG_IGN if me else lambda *_: (here / 'stop').touch())
(here / str(me)).touch()
while not (here / 'stop').exists(): time.sleep(0.01)
time.sleep(0.2 * me)  # not killed meanwhile
(here / f'saved {{me}}').touch()
sys.exit({processes.INTERRUPTED})""")  # fmt: skip
    with launcher_of(command) as launcher:
        deadline = time.monotonic() + 60
        while not ((tmp_path / "0").exists() and (tmp_path / "1").exists()) and time.monotonic() < deadline:
            time.sleep(0.02)
        launcher.send_signal(signal.SIGINT)
        assert launcher.wait(timeout=60) == processes.INTERRUPTED
    assert (tmp_path / "saved 0").exists() and (tmp_path / "saved 1").exists()


def test_only_the_first_process_is_heard(tmp_path, capfd):
    for text, status, heard in (
        ("print('number', me); sys.stderr.write('\\r 10%'); sys.stderr.flush()", 0, ("number 0\n", "\r 10%")),
        ("print('error: no mesh', file=sys.stderr); sys.exit(2)", 2, ("", "error: no mesh\n")),  # and not told again
    ):
        assert processes.launch(script(tmp_path, text), 2) == status
        assert capfd.readouterr() == heard


def test_processes_do_not_outlive_their_launcher(tmp_path):
    worker = "import os, processes; print(os.getpid(), flush=True); processes._end_with_launcher()"
    with launcher_of([sys.executable, "-c", worker], stdout=subprocess.PIPE) as launcher:
        pid = int(launcher.stdout.readline())
        launcher.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and running(pid):
        time.sleep(0.05)
    assert not running(pid)


def running(pid):
    """Return whether a process runs; one that has ended may wait for whoever adopted it to take notice."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")

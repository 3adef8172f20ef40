"""Interrupted and resumed equals never interrupted, to the last bit; what is not the same run is refused."""

import errno
import functools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from afm_ref.disk import targets, tensor_files
from afm_ref.training import checkpoints
from tests import compiling
from tests.training import problems
from tests.training.problems import run, squares

ROOT = Path(__file__).parents[2]
STEPS = 30


def bits(result):
    """Return all that must be equal: weights, optimizer state and history but for the time."""
    import jax

    h = result.history
    arrays = [*jax.tree.leaves((result.params, result.optimizer_state)), h.loss, h.count, h.grad_norm, h.changed]
    return [np.asarray(a).tobytes() for a in arrays] + [h.evaluations]


@pytest.fixture(autouse=True, scope="module")
def _compiled_once(tmp_path_factory):
    """Every run here has the same step: compiled as shipped, but once, and kept for the processes that are killed."""
    with compiling.once(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def whole():
    """The run that nothing interrupts."""
    return run(None, STEPS)


@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_killed_at_any_moment_continues_to_the_same_numbers(tmp_path, whole, kills):
    """SIGKILL at random moments, most of them in a write, for every step writes; then a last call to the end."""
    rng = random.Random(0)
    command = [sys.executable, "-m", "tests.training.problems", str(tmp_path / "run"), str(STEPS)]
    written = 0  # the last step that is known to be written: its successor has been told
    for _ in range(kills):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
            first = int(child.stdout.readline())
            for _ in range(3):
                start = time.perf_counter()
                last = int(child.stdout.readline())
            time.sleep(rng.uniform(0, 1) * (time.perf_counter() - start))  # somewhere in the next step and its write
            child.send_signal(signal.SIGKILL)
        assert first > written  # nothing whole was thrown away
        assert last == first + 3
        written = last - 1
    assert bits(run(tmp_path / "run", STEPS)) == bits(whole)


def names(folder):
    """Return the steps of a folder's checkpoints, and the names of all else but run.json."""
    found = {path.name.removesuffix(".safetensors") for path in folder.iterdir()} - {checkpoints.RUN}
    return sorted(found, key=lambda name: (len(name), name))


def test_a_half_written_checkpoint_is_never_loaded(tmp_path, whole):
    """Step 10 as a kill leaves it: its file has not got its name yet."""
    run(tmp_path, 10, checkpoint_every=5)
    damage(tmp_path / "10.safetensors").rename(tmp_path / ".10.safetensors.7.tmp")
    calls = []
    result = run(tmp_path, STEPS, callback=lambda h: calls.append(len(h)), callback_every=1, checkpoint_every=9)
    assert calls[0] == 6  # from step 5 on
    assert bits(result) == bits(whole)
    assert names(tmp_path) == ["27", "30"]


def damage(file, flip=False):
    """Cut the file of a checkpoint short, or flip one of its bits."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content if flip else content[: len(content) // 2])
    return file


@pytest.mark.parametrize("flip", [False, True])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(tmp_path, whole, flip):
    run(tmp_path, 10, checkpoint_every=5)
    damage(tmp_path / "10.safetensors", flip)
    with pytest.warns(UserWarning, match=r"10\.safetensors is damaged .* the one before"):
        run(tmp_path, 7, checkpoint_every=1, keep=1)
    assert names(tmp_path) == ["7"]  # and does not count among those that are kept
    assert bits(run(tmp_path, STEPS, checkpoint_every=10)) == bits(whole)


def test_folders_that_nobody_can_continue_are_refused(tmp_path):
    run(tmp_path / "none whole", 2)
    for file in (tmp_path / "none whole").glob("*.safetensors"):
        damage(file)
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(ValueError, match="none before it: delete"):
        run(tmp_path / "none whole", 5)
    (tmp_path / "file").write_text("")
    (tmp_path / "of orbax" / "5" / "arrays").mkdir(parents=True)  # of versions before the safetensors files
    run(tmp_path / "whose", 2)
    (tmp_path / "whose" / "run.json").unlink()
    for name, message in (
        ("file", "is a file: give a folder"),
        ("of orbax", r"older version of afm_ref, in folders of orbax, .*: give another folder"),
        ("whose", r"holds checkpoints without run\.json"),
    ):
        with pytest.raises(ValueError, match=message):
            run(tmp_path / name, 3)
    assert (tmp_path / "of orbax" / "5" / "arrays").exists()
    for file in (tmp_path / "none whole").glob("*.safetensors"):
        file.unlink()
    assert len(run(tmp_path / "none whole", 3, lr=0.06).history) == 3  # a run that left none holds no other one out


def other_loss(params, batch):
    return squares(params, batch)


def test_another_run_is_refused_by_name(tmp_path):
    run(tmp_path, 2)
    for change, told in (
        (dict(lr=0.06), "optimizer.update.learning_rate was 0.05 and is 0.06"),
        (dict(seed=1), "batches.seed was 0 and is 1"),
        (dict(loss=other_loss), "loss was squares and is other_loss"),
        (dict(dim=5), r"weights.w was float32\[4\] .* and is float32\[5\]"),
        (dict(settings={"cfg": {"d_model": 8}}), "settings.cfg.d_model was absent and is 8"),
    ):
        with pytest.raises(ValueError, match=rf"another run: .*{told}"):
            run(tmp_path, 3, **change)
        assert names(tmp_path) == ["1", "2"]  # and is left as it was


def test_an_interrupt_within_a_step_waits_for_its_end(tmp_path, whole, monkeypatch):
    """Ctrl-C as the operating system sends it, where the weights' buffers are neither the old nor the new ones."""

    @functools.wraps(problems.noisy_batch)
    def interrupting(step, seed):
        if step == 12:
            signal.raise_signal(signal.SIGINT)
        return original(step, seed)

    original = problems.noisy_batch
    monkeypatch.setattr(problems, "noisy_batch", interrupting)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, STEPS, checkpoint_every=10)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert names(tmp_path) == ["10", "13"]
    monkeypatch.setattr(problems, "noisy_batch", original)
    assert bits(run(tmp_path, STEPS, checkpoint_every=10)) == bits(whole)


def test_evaluations_are_neither_lost_nor_repeated(tmp_path):
    def evaluate(params):
        return {"w0": params["w"][0]}

    options = dict(evaluate=evaluate, evaluate_every=5, checkpoint_every=5)
    wanted = run(None, 20, **options).history
    for steps in (5, 12, 20):
        history = run(tmp_path, steps, **options).history
    steps, values = history.evaluation("w0")
    assert steps.tolist() == [0, 5, 10, 12, 15, 20]  # 12 was the end of its call
    keep = steps != 12
    np.testing.assert_array_equal(values[keep], wanted.evaluation("w0")[1])
    assert (np.diff(history.seconds) > 0).all()


def test_a_finished_run_returns_at_once_and_fewer_steps_are_refused(tmp_path, whole):
    run(tmp_path, STEPS, checkpoint_every=100)
    otherwise = run(tmp_path, STEPS, select=lambda p: {"w": p["w"], "fixed": None})  # the same weights
    assert bits(otherwise) == bits(whole)
    assert names(tmp_path) == [str(STEPS)]
    with pytest.raises(ValueError, match=rf"is at step {STEPS}, beyond the 7 steps"):
        run(tmp_path, 7)


def test_a_second_run_is_refused_while_one_writes_there(tmp_path, whole):
    """Before it touches what the first is writing; and an error of the first lets the next one in."""

    def second(history):
        if len(history) not in (1, 7):
            return
        half = tmp_path / f".{len(history)}.safetensors.{os.getpid()}.tmp"  # what it is writing
        half.touch()
        with pytest.raises(ValueError, match=rf"{tmp_path} is being written by process {os.getpid()} on"):
            run(tmp_path, STEPS)
        assert half.exists()
        half.unlink()
        if len(history) == 7:
            raise ZeroDivisionError

    for _ in range(2):  # the second time, from step 6 on
        with pytest.raises(ZeroDivisionError):
            run(tmp_path, STEPS, callback=second, callback_every=1)
    assert names(tmp_path) == ["5", "6"]
    assert bits(run(tmp_path, STEPS, checkpoint_every=STEPS)) == bits(whole)
    checkpoints.Folder(tmp_path, 2, {}).close()  # a process other than 0: it never had it
    with targets.only_writer(tmp_path):
        pass  # and free again


def test_a_checkpoint_that_does_not_become_whole_costs_none_that_is(tmp_path, whole, monkeypatch):
    """The disk is full at step 8. Only the last ones are kept."""
    assert len(run(tmp_path / "kept", 7, keep=3).history) == 7 and names(tmp_path / "kept") == ["5", "6", "7"]
    tmp_path, write = tmp_path / "full", tensor_files.write

    def full(path, tensors, about, sealed):
        write(path, tensors, about, sealed)
        if about["step"] == "8":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    told = rf"checkpoint {tmp_path}/8\.safetensors \(that of step 7 is whole\) could not be written: No space left"
    monkeypatch.setattr(tensor_files, "write", full)
    with pytest.raises(OSError, match=told):
        run(tmp_path, STEPS, keep=1)
    monkeypatch.setattr(tensor_files, "write", write)
    assert names(tmp_path) == ["7"]
    calls = []
    options = dict(callback=lambda h: calls.append(len(h)), callback_every=1, checkpoint_every=STEPS)
    result = run(tmp_path, STEPS, keep=1, **options)
    assert calls[0] == 8 and bits(result) == bits(whole)

"""python -m afm_ref train: over a mesh, in processes, interrupted and continued, with errors one can act on."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from afm_ref import __main__ as command_line
from afm_ref import training
from afm_ref.cli import options
from afm_ref.config import AFMConfig
from afm_ref.interop import hugging_face
from afm_ref.parallelism import processes
from afm_ref.training.history import History

ROOT = Path(__file__).parents[2]
CFG = AFMConfig(d_model=16, n_layers=2, n_heads=6, n_kv_heads=2, head_dim=4, d_ff=32, vocab_size=2048)
STEPS = 8
QUICK_COMPILE = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"  # as the grid's programs

# The longest sum of the loss, over the vocabulary, is wrong by about sqrt(2048) x 2^-24 of itself in each order; the
# updates, whose size Apple's optimizer bounds, hand the errors of the steps on. A batch that was cut wrongly changes
# the loss of a step by a hundredth.
ROUNDING = STEPS * 2048**0.5 * 2.0**-24  # 2e-5


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A folder of texts, and the shape of a model for them."""
    folder = tmp_path_factory.mktemp("texts")
    rng = random.Random(0)
    words = re.findall(r"\w+", "the cat sat on a mat and then saw that our dog ran far into the wood")
    for i in range(2):
        (folder / f"{i}.txt").write_text(" ".join(rng.choices(words, k=1500)))
    (folder / "cfg.json").write_text(json.dumps(CFG.to_dict()))
    return folder


def arguments(texts, checkpoint, *more):
    """Return the command line of a small run."""
    fixed = f"--steps {STEPS} --learning-rate 0.05 --batch 4 --seq-len 16 --checkpoint-every 3".split()
    return ["train", *fixed, "--folder", str(texts), "--config", str(texts / "cfg.json"), "--checkpoint",
            str(checkpoint), "--history", str(checkpoint) + ".json", *more]  # fmt: skip


def start(*arguments):
    """Start the command as a user does."""
    env = os.environ | {"XLA_FLAGS": QUICK_COMPILE}
    command = [sys.executable, "-m", "afm_ref", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@contextlib.contextmanager
def at_most(command, seconds):
    """End a command after so many seconds at the latest, and at the end of the block."""
    timer = threading.Timer(seconds, command.kill)
    timer.start()
    try:
        yield []
    finally:
        timer.cancel()
        command.kill()
        command.wait()


def finish(command):
    """Return (status, stdout, stderr) of a command that was started."""
    with at_most(command, 240):
        out, err = command.communicate()
    return command.returncode, out, err


@pytest.fixture(scope="module")
def alone(texts, tmp_path_factory):
    """The run on one device that nothing interrupts: (its history, the folder of the model it saved, its output)."""
    folder = tmp_path_factory.mktemp("alone")
    command = start(*arguments(texts, folder / "run", "--save", str(folder / "model"), "--evaluate-every", str(STEPS)))
    status, out, err = finish(command)
    assert status == 0, err
    return History.load(f"{folder}/run.json"), folder / "model", (out, err)


def test_a_bar_the_losses_and_a_model_to_use(alone):
    history, model, (out, err) = alone
    assert len(history) == STEPS
    assert f"{STEPS}/{STEPS}" in err and "0.04 million weights on one device" in err
    assert "bits per byte of held-out text" in out and f"loss {history.loss.mean():.3f} nats" in out
    assert history.loss[-2:].mean() < history.loss[:2].mean()
    _, cfg = hugging_face.load(model)
    assert cfg.to_dict() == CFG.to_dict()


def continued(texts, folder, mesh, wanted, begin):
    """Continue the run in two processes of two devices, to the losses of one; the bar begins where it ended."""
    devices = ("--mesh", mesh, "--fake-devices", "4", "--processes", "2")
    status, _, err = finish(start(*arguments(texts, folder, *devices)))
    assert status == 0, err
    assert f"on 4 devices, {mesh}, in 2 processes" in err
    assert f"{begin}/{STEPS}" in err
    history = History.load(f"{folder}.json")
    np.testing.assert_allclose(history.loss, wanted.loss, rtol=ROUNDING)
    np.testing.assert_array_equal(history.count, wanted.count)


def test_one_process_begins_and_two_continue(texts, alone, tmp_path):
    """From step 6 of the run on one device."""
    shutil.copytree(alone[1].parent / "run", tmp_path / "run")
    (tmp_path / "run" / f"{STEPS}.safetensors").unlink()
    continued(texts, tmp_path / "run", "fsdp=2,model=2", alone[0], begin=6)


def test_ctrl_c_says_how_to_continue(texts, tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "fit", interrupted)
    assert command_line.main(arguments(texts, tmp_path / "run", "--mesh", "data=1")) == processes.INTERRUPTED
    assert f"interrupted; the same command continues from {tmp_path / 'run'}\n" in capsys.readouterr().err


@pytest.mark.slow  # quick: the two above, and Ctrl-C in test_processes.py
def test_interrupted_in_two_processes_and_continued_on_another_mesh(texts, alone, tmp_path):
    """Ctrl-C while 2 x 2 devices compile their first step, then the rest on another mesh: the losses of one."""
    devices = ("--mesh", "data=2,fsdp=2", "--fake-devices", "4", "--processes", "2")
    command = start(*arguments(texts, tmp_path / "run", *devices))
    with at_most(command, 240) as seen:
        while f"0/{STEPS} " not in "".join(seen) and command.poll() is None:
            seen.append(command.stderr.read(1))
        command.send_signal(signal.SIGINT)
        _, err = command.communicate()
    assert "on 4 devices, data=2,fsdp=2, in 2 processes" in "".join(seen)
    assert (command.returncode, "interrupted; the same command continues" in err) == (130, True), err
    saved = max(int(path.stem) for path in (tmp_path / "run").glob("*.safetensors"))
    assert 1 <= saved < STEPS
    continued(texts, tmp_path / "run", "fsdp=2,model=2", alone[0], begin=saved)


@pytest.mark.parametrize(
    "options, told",
    [
        ("--steps 0", "--steps is 0: give at least 1"),
        ("--mesh data=4096", "needs 4096 devices .* --fake-devices 4096"),
        ("--mesh rows=2", "'rows' .* is no axis of a mesh: .*'data', 'fsdp'"),
        ("--fake-devices 3 --processes 2", "cannot be shared equally by 2"),
        ("--processes 2 --process-id 1", "give both"),
        ("--coordinator 10.0.0.1:1234 --process-id 0", "at least 2"),
        ("--folder no/such/folder --mesh data=1", "no folder at no/such/folder"),
        ("--config no/such/file", "no/such/file"),
        ("--seq-len 100000 --mesh data=1", "corpus too short"),
    ],
)
def test_what_is_wrong_is_one_line_that_says_what_to_do(texts, tmp_path, capsys, options, told):
    assert command_line.main([*arguments(texts, tmp_path / "run"), *options.split()]) == 2
    assert not (tmp_path / "run").exists()
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("error: ")
    assert re.search(told, err), err


def test_a_config_with_a_byte_order_mark(tmp_path):
    """As Windows' editors save it."""
    (tmp_path / "cfg.json").write_text("\ufeff" + json.dumps(CFG.to_dict()), encoding="utf-8")
    assert options.read_config(tmp_path / "cfg.json") == CFG
    (tmp_path / "cfg.json").write_text("{}", encoding="utf-16")
    with pytest.raises(ValueError, match=r"cfg.json is a binary file or UTF-16 \(line 1"):
        options.read_config(tmp_path / "cfg.json")


@pytest.mark.parametrize(
    "content, told", [("{", "not readable JSON"), ("[1]", "a JSON object"), ('{"d_model": 4}', "missing")]
)
def test_a_config_that_is_none(texts, tmp_path, capsys, content, told):
    (tmp_path / "cfg.json").write_text(content)
    assert command_line.main([*arguments(texts, tmp_path / "run"), "--config", str(tmp_path / "cfg.json")]) == 2
    assert told in capsys.readouterr().err


def test_another_run_in_the_folder_is_refused(texts, alone, capsys):
    """The folder of the run that `alone` finished, with another seed."""
    checkpoint = alone[1].parent / "run"
    assert command_line.main(arguments(texts, checkpoint, "--mesh", "data=1", "--seed", "1")) == 2
    err = capsys.readouterr().err
    assert "holds checkpoints of another run" in err and "batches.numbers.order.seed was 0 and is 1" in err

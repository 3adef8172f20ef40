"""python -m afm_ref train: over a mesh, in processes, interrupted and continued, with errors one can act on."""

import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from afm_ref import __main__ as command_line
from afm_ref import training
from afm_ref.cli import options
from afm_ref.config import AFMConfig
from afm_ref.interop import hugging_face
from afm_ref.parallelism import processes
from afm_ref.training.history import History
from tests import compiling

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
    fixed = f"--steps {STEPS} --learning-rate 0.05 --batch 4 --seq-len 16 --checkpoint-every 3".split()
    return ["train", *fixed, "--folder", str(texts), "--config", str(texts / "cfg.json"), "--checkpoint",
            str(checkpoint), "--history", str(checkpoint) + ".json", *more]  # fmt: skip


@pytest.fixture(scope="module")
def alone(texts, tmp_path_factory):
    """The run on one device that nothing interrupts: (its history, the folder of the model it saved, its output)."""
    folder, out, err = tmp_path_factory.mktemp("alone"), io.StringIO(), io.StringIO()
    more = ("--mesh", "data=1", "--save", str(folder / "model"), "--evaluate-every", str(STEPS))
    with compiling.quickly(folder / "compiled"), redirect_stdout(out), redirect_stderr(err):
        assert not command_line.main(arguments(texts, folder / "run", *more))
    return History.load(f"{folder}/run.json"), folder / "model", (out.getvalue(), err.getvalue())


@pytest.mark.slow
def test_one_process_begins_and_two_continue(texts, alone, tmp_path):
    """From step 6 of the run on one device, two of two devices each, as a user starts them, to the same losses."""
    shutil.copytree(alone[1].parent / "run", tmp_path / "run")
    (tmp_path / "run" / f"{STEPS}.safetensors").unlink()
    devices = ["--mesh", "fsdp=2,model=2", "--fake-devices", "4", "--processes", "2"]
    command = [sys.executable, "-m", "afm_ref", *arguments(texts, tmp_path / "run", *devices)]
    env = os.environ | {"XLA_FLAGS": QUICK_COMPILE}
    done = subprocess.run(command, cwd=ROOT, env=env, text=True, capture_output=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "on 4 devices, fsdp=2,model=2, in 2 processes" in done.stderr
    assert f"6/{STEPS}" in done.stderr  # the bar begins where it ended
    history = History.load(f"{tmp_path}/run.json")
    np.testing.assert_allclose(history.loss, alone[0].loss, rtol=ROUNDING)
    np.testing.assert_array_equal(history.count, alone[0].count)


def test_a_bar_the_losses_and_a_model_to_use(texts, alone, capsys):
    history, model, (out, err) = alone
    assert len(history) == STEPS
    assert f"{STEPS}/{STEPS}" in err and "0.04 million weights on one device" in err
    assert "bits per byte of held-out text" in out and f"loss {history.loss.mean():.3f} nats" in out
    assert history.loss[-2:].mean() < history.loss[:2].mean()
    _, cfg = hugging_face.load(model)
    assert cfg.to_dict() == CFG.to_dict()
    assert command_line.main(arguments(texts, model.parent / "run", "--mesh", "data=1", "--seed", "1")) == 2
    assert "batches.numbers.order.seed was 0 and is 1" in capsys.readouterr().err  # another run in that folder


def test_ctrl_c_says_how_to_continue(texts, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training, "fit", mock.Mock(side_effect=KeyboardInterrupt))
    assert command_line.main(arguments(texts, tmp_path / "run", "--mesh", "data=1")) == processes.INTERRUPTED
    assert f"interrupted; the same command continues from {tmp_path / 'run'}\n" in capsys.readouterr().err


def test_what_is_wrong_is_one_line_that_says_what_to_do(texts, tmp_path, capsys):
    for more, told in (
        ("--steps 0", "--steps is 0: give at least 1"),
        ("--mesh data=4096", "needs 4096 devices .* --fake-devices 4096"),
        ("--mesh rows=2", "'rows' .* is no axis of a mesh: .*'data', 'fsdp'"),
        ("--fake-devices 3 --processes 2", "cannot be shared equally by 2"),
        ("--processes 2 --process-id 1", "give both"),
        ("--coordinator 10.0.0.1:1234 --process-id 0", "at least 2"),
        ("--folder no/such/folder --mesh data=1", "no folder at no/such/folder"),
        ("--config no/such/file", "no/such/file"),
        ("--seq-len 100000 --mesh data=1", "corpus too short"),
    ):
        assert command_line.main([*arguments(texts, tmp_path / "run"), *more.split()]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and re.match(f"error: .*{told}", err), err
        assert not (tmp_path / "run").exists()


def test_a_config_is_read_with_a_byte_order_mark_or_refused(texts, tmp_path):
    file = tmp_path / "cfg.json"
    file.write_text("\ufeff" + (texts / "cfg.json").read_text(), encoding="utf-8")  # as Windows' editors save it
    assert options.read_config(file) == CFG
    for content, told in (("{", "not readable JSON"), ("[1]", "a JSON object"), ('{"d_model": 4}', "missing")):
        file.write_text(content)
        with pytest.raises(ValueError, match=told):
            options.read_config(file)

"""python -m afm_ref adapt and generate --adapter, as a user runs them."""

import json

import numpy as np
import pytest

from afm_ref import __main__ as command_line
from afm_ref import assets, lora, transformer
from afm_ref.cli import adapt
from afm_ref.cli.generate import _adapted
from afm_ref.config import AFM_TINY, AFMConfig
from afm_ref.interop import hugging_face
from afm_ref.lora.adapter import adapters

SMALL = AFMConfig.from_dict(AFM_TINY.to_dict() | dict(d_model=24, n_layers=1, n_heads=2, n_kv_heads=1, d_ff=32))
PAIRS = [{"prompt": f"Echo: {word}", "completion": word} for word in ("list", "dict", "set", "tuple") * 4]


@pytest.fixture
def model(tmp_path):
    """The folder of an untrained small model with the shipped tokenizer."""
    tokenizer = hugging_face.load_tokenizer(assets.FOLDER)
    hugging_face.save(tmp_path / "model", transformer.init(SMALL, 0), SMALL, tokenizer=tokenizer)
    return str(tmp_path / "model")


@pytest.fixture
def task(tmp_path):
    path = tmp_path / "task.jsonl"
    path.write_text("\n".join(map(json.dumps, PAIRS)) + "\n")
    return path


def run(*arguments):
    return command_line.main(list(map(str, arguments)))


def test_an_adapter_is_trained_saved_and_used(model, task, tmp_path, capsys):
    file = tmp_path / "mine"
    options = ["--model", model, "--task", task, "--rank", 2, "--steps", 6, "--learning-rate", 0.05]
    assert run("adapt", *options, "--save", file) == 0
    out, err = capsys.readouterr()
    assert "6/6" in err and "rank 2:" in err  # the progress bar, and what is trained
    before, after = (float(line.split()[2]) for line in out.splitlines()[:2])
    assert after < before - 0.1, out
    base, _ = hugging_face.load(model)
    params = lora.files.put(base, lora.files.load(file))
    assert len(adapters(params)) == 7 and all(np.abs(w.b).max() > 0 for w in adapters(params).values())
    assert run("generate", "--model", model, "--adapter", file, "--prompt", "Echo: set", "--max-new-tokens", 4) == 0
    assert capsys.readouterr().out.strip()
    assert run("generate", "--adapter", file, "--prompt", "a") == 2
    assert "trained on the base" in capsys.readouterr().err  # and not on the shipped model
    # Finished: it says the same once more, from its checkpoint, and saves it in the other format.
    folder, checkpoint = tmp_path / "peft", file.with_name("mine.checkpoints")
    assert run("adapt", *options, "--save", folder, "--peft", "--checkpoint", checkpoint) == 0
    assert capsys.readouterr().out.splitlines()[:2] == out.splitlines()[:2]
    again = adapters(_adapted(base, folder))
    for key, w in adapters(params).items():
        ours, theirs = w.scale * w.b.astype(np.float32) @ w.a, again[key].scale * again[key].b @ again[key].a
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-2 * np.abs(theirs).max())  # 16 bits each


ONE = json.dumps({"prompt": "a", "completion": "b"})
NO_PAIRS = '{"prompt": "a"}', ONE.replace('"b"', "3"), ONE.replace("b", " "), "[1]"


def test_a_file_that_is_wrong_is_told_by_line(tmp_path):
    for text, why in (
        (f"\ufeff{ONE}\n{{\u2028\n", "task.jsonl, line 2: no JSON"),  # the rest of reading lines: tests/disk
        *((text, "line 1: expected") for text in NO_PAIRS),
        (f"\n{ONE}\n\n", "holds 1 pairs: give at least 2"),
        ("", "holds 0 pairs"),
    ):
        (tmp_path / "task.jsonl").write_text(text)
        with pytest.raises(ValueError, match=why):
            adapt.read_pairs(tmp_path / "task.jsonl")


def test_bad_options_are_one_line(model, task, tmp_path, capsys):
    for options, why in (
        (("--rank", 0), "--rank is 0"),
        (("--steps", 0), "--steps is 0"),
        (("--held-out", 1.5), "--held-out is 1.5"),
        (("--alpha", -1), "alpha must be a positive number"),
        (("--task", "absent.jsonl"), "absent.jsonl"),
    ):
        assert run("adapt", "--model", model, "--task", task, "--save", tmp_path / "x", *options) == 2
        err = capsys.readouterr().err
        assert why in err and err.count("\n") == 1 and not (tmp_path / "x").exists()

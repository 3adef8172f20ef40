"""README's pieces run as they stand there, and say what their comments claim."""

import re
from pathlib import Path

import numpy as np

TEXT = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
USE, *PIECES = BLOCKS


def run(source):
    names = {}
    exec(compile(source, "README.md", "exec"), names)
    return names


def piece(name):
    (found,) = [source for source in PIECES if name in source and ("mdloo" in source) == (name == "mdloo")]
    return found


def test_there_are_five_pieces_of_at_most_twelve_lines():
    assert len(PIECES) == 5 and max(len(source.splitlines()) for source in PIECES) <= 12


def test_the_model_predicts_and_writes(capsys):
    names = run(USE)
    assert names["logits"].shape == (*names["tokens"].shape, names["cfg"].vocab_size)
    assert len(capsys.readouterr().out) > 60


def test_leave_one_out_and_mdloo_in_a_foreign_loop(capsys):
    run(piece("leave_one_out"))
    assert capsys.readouterr().out == "[[ 0.66666667 -0.66666667  0.          0.        ]]\n"
    policy = np.exp(run(piece("mdloo"))["policy"])
    assert policy.argmax() == 4 and policy[4] / policy.sum() > 0.5


def test_one_matrix_in_4_bits(capsys):
    names = run(piece("bits=4"))
    assert 0 < float(capsys.readouterr().out) < 4 and names["palette"].codes.nbytes == 64 * 128 // 2


def test_lora_over_a_palette(capsys):
    names = run(piece("lora.LoRA"))
    assert capsys.readouterr().out == "True\n"
    A, B, x, base, lora, ops = (names[name] for name in ("A", "B", "x", "base", "lora", "ops"))
    adapted = ops.linear(x, lora.LoRA(base, A, B + 1, scale=0.5))
    np.testing.assert_allclose(adapted - ops.linear(x, base), 0.5 * x @ A.T @ (B + 1).T, rtol=1e-12)


def test_a_weight_under_fsdp(capsys):
    names = run(piece("fsdp"))
    assert float(capsys.readouterr().out) < 1e-4  # sums of 128 products of size 1, in float32
    jax = names["jax"]

    def of_shards(W):
        local = jax.shard_map(
            names["apply"], mesh=names["devices"], in_specs=(names["rows"], names["columns"]), out_specs=names["rows"]
        )
        return (local(names["x"], W) ** 2).sum()

    gradient = jax.grad(of_shards)(names["W"])
    whole = jax.grad(lambda W: ((names["x"] @ W.T) ** 2).sum())(names["W"])
    np.testing.assert_allclose(gradient, whole, rtol=1e-4, atol=1e-3)

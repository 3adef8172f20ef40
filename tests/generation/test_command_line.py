"""python -m afm_ref, as a user runs it."""

import subprocess
import sys
from pathlib import Path

import pytest

from afm_ref import __main__ as command_line
from afm_ref import generation
from afm_ref.interop import hugging_face

GOLDEN = Path(__file__).parents[1] / "golden" / "qwen3"


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "afm_ref", *arguments], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )


def test_info_of_the_true_model_as_a_user_runs_it():
    done = run("info", "--preset", "on_device")
    assert (done.returncode, done.stderr) == (0, "")
    for number in ("2,586,744,320", "150,994,944", "106,496"):
        assert number in done.stdout


def test_an_error_is_one_line_and_status_2():
    done = run("generate", "--model", "no/such/folder", "--prompt", "a")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "no/such/folder" in done.stderr


class Letters:
    """A tokenizer of the first 16 letters, for the golden model that has none."""

    def encode(self, text):
        return [ord(c) - 97 for c in text]

    def decode(self, ids):
        return "".join(chr(97 + i) for i in ids)


def test_generate_prints_prompt_and_continuation(monkeypatch, capsys):
    monkeypatch.setattr(hugging_face, "load_tokenizer", lambda folder: Letters())
    options = ["--max-new-tokens", "9", "--temperature", "1", "--top-k", "7", "--top-p", "0.9", "--seed", "3"]
    assert command_line.main(["generate", "--model", str(GOLDEN), "--prompt", "abc", *options]) == 0
    params, cfg = hugging_face.load(GOLDEN)
    [new] = generation.generate(params, cfg, [[0, 1, 2]], 9, temperature=1.0, top_k=7, top_p=0.9, seed=3)
    assert capsys.readouterr().out == "abc" + Letters().decode(new) + "\n"


@pytest.mark.parametrize(
    "arguments, names",
    [(["--top-k", "0"], "top_k"), (["--prompt", ""], "empty"), (["--max-new-tokens", "-1"], "max_new_tokens")],
)
def test_settings_without_sense_are_one_line(monkeypatch, capsys, arguments, names):
    monkeypatch.setattr(hugging_face, "load_tokenizer", lambda folder: Letters())
    status = command_line.main(["generate", "--model", str(GOLDEN), "--prompt", "abc", *arguments])
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert names in err and err.count("\n") == 1


def test_every_command_explains_itself(capsys):
    for name in command_line.COMMANDS:
        with pytest.raises(SystemExit) as exit_:
            command_line.main([name, "--help"])
        assert exit_.value.code == 0
        assert f"python -m afm_ref {name}" in capsys.readouterr().out

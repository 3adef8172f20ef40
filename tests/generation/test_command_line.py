"""The commands around generation, as python -m afm_ref calls them."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from afm_ref import __main__ as command_line
from afm_ref import assets, generation
from afm_ref.data import tasks
from afm_ref.data.tokenizer import END
from afm_ref.generation import streaming
from afm_ref.interop import hugging_face
from tests.generation.test_generate import ONE, Bytes
from tests.interop.models import random_params
from tests.interop.tokenizer_files import BEGIN, byte_level_json, foreign_folder, sentencepiece_json

GOLDEN = Path(__file__).parents[1] / "golden" / "qwen3"


def test_info_of_the_true_model(capsys):
    assert command_line.main(["info", "--preset", "on_device"]) == 0
    out, err = capsys.readouterr()
    assert all(number in out for number in ("2,586,744,320", "150,994,944", "106,496")) and err == ""


def test_generate_prints_prompt_and_continuation(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(hugging_face, "load_tokenizer", lambda folder: Bytes())
    hugging_face.save(tmp_path, random_params(ONE), ONE)
    options = ["--max-new-tokens", "9", "--temperature", "1", "--top-k", "7", "--top-p", "0.9", "--seed", "3"]
    assert command_line.main(["generate", "--model", str(tmp_path), "--prompt", "\1\2\3", *options]) == 0
    params, cfg = hugging_face.load(tmp_path)
    [new] = generation.generate(params, cfg, [[1, 2, 3]], 9, temperature=1.0, top_k=7, top_p=0.9, seed=3)
    assert capsys.readouterr().out == "\1\2\3" + Bytes().decode(new.tolist()) + "\n"


def refused(capsys, folder, *arguments):
    """Return the one line that generate writes on its error."""
    assert command_line.main(["generate", "--model", str(folder), *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("error: ")
    return err


def test_what_makes_no_sense_is_one_line(monkeypatch, capsys, tmp_path):
    assert "no/such/folder" in refused(capsys, "no/such/folder")
    foreign_folder(tmp_path, num_beams=4)
    assert "generation_config.json: num_beams = 4" in refused(capsys, tmp_path)
    monkeypatch.setattr(hugging_face, "load_tokenizer", lambda folder: Bytes())
    for option, value, names in (("--top-k", "0", "top_k"), ("--prompt", "", "empty")):
        assert names in refused(capsys, GOLDEN, "--prompt", "\1", option, value)


def printed(capsys, *arguments):
    """Return what generate prints."""
    assert command_line.main(["generate", *map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize("make, rows", [(byte_level_json, 330), (sentencepiece_json, 330)])  # one shape, one program
def test_another_models_folder_begins_ends_and_reads_as_its_files_say(tmp_path, capsys, make, rows):
    """The template's BOS, the EOS list, rows beyond the tokenizer, the space before a continuation."""
    foreign_folder(tmp_path, make, rows)
    params, cfg = hugging_face.load(tmp_path)
    backend = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ids = backend.encode("the cat").ids  # with its template
    assert ids[0] in (1, BEGIN) and len(ids) > 2
    [free] = generation.generate(params, cfg, [ids], 40)
    assert max(free) >= backend.get_vocab_size(), "choose another seed: a row of padding should be said"
    options = ["--model", tmp_path, "--prompt", "the cat", "--max-new-tokens", 40]
    assert printed(capsys, *options) == backend.decode([*ids, *free]) + "\n"
    ends = [int(free[9]), int(free[12])]
    foreign_folder(tmp_path, make, rows, eos_token_id=ends)
    cut = 1 + min(free.tolist().index(end) for end in ends)
    assert printed(capsys, *options) == backend.decode([*ids, *free[:cut]]) + "\n" and cut < 40


def test_the_folder_says_how_many_tokens_unless_the_option_does(tmp_path, capsys, monkeypatch):
    """So many are asked for, whatever the model (no model is run here)."""
    monkeypatch.setattr(streaming, "stream", lambda params, cfg, tokens, n, **_: iter([[259 + np.arange(n) % 8]]))
    prompt = ["--model", foreign_folder(tmp_path, max_new_tokens=5), "--prompt", "the cat"]
    five = printed(capsys, *prompt)
    assert five == printed(capsys, *prompt, "--max-new-tokens", 5) != printed(capsys, *prompt, "--max-new-tokens", 6)
    foreign_folder(tmp_path, max_length=8)  # <s> the cat, and five more
    assert printed(capsys, *prompt) == five
    foreign_folder(tmp_path, max_length=100_000)  # a limit, and no wish
    assert printed(capsys, *prompt) == printed(capsys, *prompt, "--max-new-tokens", 100)
    foreign_folder(tmp_path, max_length=3)
    assert "--max-new-tokens" in refused(capsys, *prompt[1:])


def test_chat_writes_the_folders_template_and_prints_the_answer(tmp_path, capsys):
    foreign_folder(tmp_path, rows=330)
    (tmp_path / "chat_template.jinja").write_text("<s>{{ messages[0].content }}</s> on")
    params, cfg = hugging_face.load(tmp_path)
    ids = [1, 259, 260, 2, 267, 262]  # <s> _the _cat </s> _ _on: a space is put before each piece of text
    tokenizer = hugging_face.load_tokenizer(tmp_path)
    assert tokenizer.encode("<s>the cat</s> on", markers=True).tolist() == ids
    [new] = generation.generate(params, cfg, [ids], 30)
    whole = tokenizer.decode([*ids, *(token for token in new if token < tokenizer.vocab_size)])
    answer = whole.removeprefix(tokenizer.decode(ids))
    options = ["--model", tmp_path, "--prompt", "the cat", "--max-new-tokens", 30]
    assert printed(capsys, *options, "--chat") == answer + "\n"
    assert printed(capsys, *options) != "the cat" + answer + "\n"


def test_chat_with_our_own_model_is_its_turn_markers(capsys, monkeypatch):
    """Where an answer ends as well (no model is run here)."""
    tokenizer, asked = hugging_face.load_tokenizer(assets.FOLDER), []

    def stream(params, cfg, tokens, n, **settings):
        asked.append((tokens[0].tolist(), settings["stop"]))
        return iter([[tokenizer.encode("Dear Jo,")]])

    monkeypatch.setattr(streaming, "stream", stream)
    assert printed(capsys, "--chat", "--prompt", "Make formal: hi Jo!") == "Dear Jo,\n"
    assert asked == [(list(tasks.chat_tokens(tokenizer, "Make formal: hi Jo!").tokens), (END,))]


def test_every_command_explains_itself(capsys):
    for name in command_line.COMMANDS:
        with pytest.raises(SystemExit) as exit_:
            command_line.main([name, "--help"])
        assert exit_.value.code == 0
        assert f"python -m afm_ref {name}" in capsys.readouterr().out

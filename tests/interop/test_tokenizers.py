"""load_tokenizer: our own and other people's tokenizer.json; their chat templates, which are strangers' code."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref import __main__ as command_line
from afm_ref.data import tokenizer as own
from afm_ref.interop import chat_template, hugging_face
from afm_ref.interop.foreign_tokenizer import ForeignTokenizer
from tests.interop.models import SMALL, random_params
from tests.interop.tokenizer_files import BEGIN, END, byte_level_json, foreign_folder, sentencepiece_json


def written(folder, spec_json, **settings):
    """Return the tokenizer of a folder with these files."""
    (folder / "tokenizer.json").write_text(spec_json, encoding="utf-8", newline="")
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return hugging_face.load_tokenizer(folder)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    return written(tmp_path_factory.mktemp("foreign"), byte_level_json())


@pytest.fixture(scope="module")
def ours():
    return own.train(["the cat and the hat, the mat " * 20], vocab_size=370)


def test_a_byte_level_tokenizer_gives_the_ids_worked_out_by_hand(foreign):
    assert isinstance(foreign, ForeignTokenizer) and foreign.vocab_size == 260
    ids = foreign.encode("the th")
    assert ids.tolist() == [256, ord("e"), 257] and ids.dtype == np.int32
    assert foreign.encode("é").tolist() == list("é".encode())
    assert foreign.encode("the", template=True).tolist() == [BEGIN, 256, ord("e")]
    assert foreign.prompt_ids("the<|end|>").tolist() == [BEGIN, 256, ord("e"), END]


@settings(max_examples=50)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_foreign_round_trip_of_any_text(foreign, text):
    ids = foreign.encode(text)
    assert foreign.decode(ids) == text and (ids < BEGIN).all()


def test_a_special_token_typed_by_a_user_stays_text(foreign):
    text, marked = "a<|end|>", [ord("a"), END]
    assert (
        foreign.encode(text).tolist() == list(text.encode()) and foreign.encode(text, markers=True).tolist() == marked
    )
    assert foreign.decode(marked) == "a" and foreign.decode(marked, skip_special=False) == text


@pytest.mark.parametrize("skip_special", [True, False])
def test_rows_of_padding_beyond_the_foreign_ids_have_no_text(foreign, skip_special):
    """As transformers decodes them: Qwen3 has 151,936 rows of embeddings for 151,669 ids. None is below 0."""
    assert foreign.decode([260], skip_special) == foreign.decode([10**6, 2**40], skip_special) == ""
    assert foreign.decode([256, 260, ord("e"), 10**6], skip_special) == "the"
    with pytest.raises(ValueError, match=r"-1000000 is outside this tokenizer's 0\.\.259"):
        foreign.decode([3, -(10**6)])
    with pytest.raises(ValueError, match="lone surrogate"):
        foreign.encode("\ud800")


def last_call_kept(spec_json: str) -> str:
    """Return a tokenizer.json as it is saved after a call that cut at 3 ids, padded to 8 and left out most merges."""
    spec = json.loads(spec_json)
    spec["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    pad = {"pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "!"}
    spec["padding"] = {"strategy": {"Fixed": 8}, "direction": "Left", **pad}
    spec["model"]["dropout"] = 0.9
    return json.dumps(spec)


def test_settings_of_somebodys_last_call_are_switched_off(tmp_path):
    """The ids are those worked out by hand above, of a text that is longer than the cut and one that is shorter."""
    tokenizer = written(tmp_path, last_call_kept(byte_level_json()))
    for _ in range(5):  # dropout is random
        assert tokenizer.encode("the th").tolist() == [256, ord("e"), 257]
        assert tokenizer.encode("e", template=True).tolist() == [BEGIN, ord("e")]
        assert tokenizer.encode("th" * 5 + "<|end|>", markers=True).tolist() == [256] * 5 + [END]
    tokenizer.save(tmp_path / "again.json")
    # what is switched off is not forgotten
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


def test_our_own_format_saved_after_a_call_is_read_the_same(tmp_path, ours):
    ours.save(tmp_path / "tokenizer.json")
    again = written(tmp_path, text := last_call_kept((tmp_path / "tokenizer.json").read_text(encoding="utf-8")))
    assert isinstance(again, own.Tokenizer)
    for sentence in ("the", "the cat and the hat, the mat"):
        assert again.encode(sentence).tolist() == ours.encode(sentence).tolist()
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text(encoding="utf-8") == text


def test_both_kinds_travel_with_a_model(tmp_path, foreign, ours):
    big = dataclasses.replace(SMALL, vocab_size=370)
    for tokenizer in (ours, foreign):
        with pytest.raises(ValueError, match="vocab_size is 17"):
            hugging_face.save(tmp_path, random_params(SMALL), SMALL, tokenizer=tokenizer)
        hugging_face.save(tmp_path, random_params(big), big, tokenizer=tokenizer)
        again = hugging_face.load_tokenizer(tmp_path)
        assert type(again) is type(tokenizer) and again.vocab_size == tokenizer.vocab_size
        assert again.encode("the hat").tolist() == tokenizer.encode("the hat").tolist()
        path = tmp_path / "tokenizer.json"
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # a byte order mark is no part of it
        assert type(hugging_face.load_tokenizer(tmp_path)) is type(tokenizer)


def test_broken_tokenizer_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json does not exist"):
        hugging_face.load_tokenizer(tmp_path)
    path, text = tmp_path / "tokenizer.json", byte_level_json()
    for broken in (b"", text[:-20].encode(), text.encode("utf-16"), b"[]", b'{"model": {"vocab": {}}}'):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=str(path)):
            hugging_face.load_tokenizer(tmp_path)


def test_tokens_named_as_special_are_special(tmp_path):
    """Their names are read whole, where markers are, and not shown; an unknown name changes nothing."""
    spec = json.loads(byte_level_json())
    spec["added_tokens"] = []
    spec["model"]["vocab"] |= {"<|begin|>": BEGIN, "<|end|>": END}
    ids, text = [ord("a"), END], json.dumps(spec)
    plain = written(tmp_path, text)
    assert plain.encode("a<|end|>", markers=True).tolist() == list(b"a<|end|>") and plain.decode(ids) == "a<|end|>"
    ways = [
        {"eos_token": "<|end|>"}, {"eos_token": {"content": "<|end|>"}}, {"extra_special_tokens": ["<|end|>"]},
        {"turn_token": "<|end|>"}, {"added_tokens_decoder": {"259": {"content": "<|end|>", "special": True}}},
    ]  # fmt: skip
    for way in ways:
        named = written(tmp_path, text, pad_token="<nowhere>", unk_token=None, **way)
        assert named.encode("a<|end|>", markers=True).tolist() == ids and named.decode(ids) == "a"
        assert named.encode("a<|end|>").tolist() == list(b"a<|end|>") and named.vocab_size == 260
    for wrong in ({"added_tokens_decoder": ["<|end|>"]}, {"extra_special_tokens": 7}):
        with pytest.raises(ValueError, match="special tokens in no known way"):
            written(tmp_path, text, **wrong)


def test_a_llama_tokenizer_puts_one_space_before_a_text(tmp_path):
    """Where there is none, and not behind a special token: as transformers' LlamaTokenizer, not as the file says."""
    text = sentencepiece_json()
    ids = {"the": [259], " the": [259], "<s>the cat": [1, 287, 275, 272, 260], "the</s> cat": [259, 2, 260]}
    file = written(tmp_path, text)
    assert file.encode(" the").tolist() == [267, 259] and file.encode("<s>the", markers=True).tolist() == [1, 259]
    llama = written(tmp_path, text, tokenizer_class="LlamaTokenizer", legacy=False)
    assert {prompt: llama.encode(prompt, markers=True).tolist() for prompt in ids} == ids
    assert llama.decode([259, 260]) == "the cat"
    never = written(tmp_path, text, tokenizer_class="LlamaTokenizer", add_prefix_space=False)
    assert never.encode(" the").tolist() == [259] and never.encode("the").tolist() == [287, 275, 272]


MESSAGES = [{"role": "user", "content": "Hi"}]
LONG_LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


def write(folder, template, **settings):
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", **settings}))
    return folder


def test_a_template_writes_the_turns(tmp_path):
    template = """
{{- bos_token }}
{%- for message in messages %}
  {%- if loop.first %}{{ '[' }}{% endif %}
    {{- message.role }}: {{ message.content | trim }}
{% endfor %}
{% if add_generation_prompt %}
assistant:
{% endif %}
"""
    write(tmp_path, template)
    assert chat_template.render(tmp_path, MESSAGES) == "<s>[user: Hi\nassistant:\n"
    assert chat_template.render(tmp_path, MESSAGES, add_generation_prompt=False) == "<s>[user: Hi\n"


def test_the_template_of_tokenizer_config(tmp_path):
    path = tmp_path / "tokenizer_config.json"
    for found in ("{{ eos_token }}", [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "</s>"}]):
        path.write_text(json.dumps({"chat_template": found, "eos_token": {"content": "</s>"}}))
        assert chat_template.render(tmp_path, MESSAGES) == "</s>"
    for wrong, told in (([{"name": "rag", "template": ""}], "rag"), ({"tool": 1}, "tool"), (7, "int"), ([7], "list")):
        path.write_text(json.dumps({"chat_template": wrong}))
        with pytest.raises(ValueError, match=rf"tokenizer_config\.json: .*{told}"):
            chat_template.render(tmp_path, MESSAGES)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="no chat template"):
        chat_template.render(tmp_path, MESSAGES)
    (tmp_path / "chat_template.jinja").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"chat_template\.jinja is not UTF-8"):
        chat_template.render(tmp_path, MESSAGES)


def test_what_fails_or_asks_for_too_much_is_one_line(tmp_path):
    for template, names in (
        ("{{ raise_exception('only user and assistant') }}", "only user and assistant"),
        ("line one\n{% for %}", "line 2"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "sandbox forbids"),
        ("{{ messages.append(messages) }}", "sandbox forbids"),
        ("{{ cycler.__init__.__globals__.os.system('true') }}", "sandbox forbids"),
        ("{{ raise_exception('\\x1b[2J\\n' * 200) }}", r"\[2J"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "calls itself without end"),
        ("{{ 'a' * 10 ** 10 }}", "512 MiB of memory"),
        ("{% for i in range(99999) %}{{ 'a' * 99 }}{% endfor %}", "more than 1,000,000 characters"),
        ("{% for i in range(100001) %}{% endfor %}", "Range too big"),
    ):
        with pytest.raises(ValueError, match=rf"chat_template\.jinja: the chat template .*{names}") as caught:
            chat_template.render(write(tmp_path, template), MESSAGES)
        assert len(str(caught.value)) < 500 and str(caught.value).isprintable()


@pytest.mark.parametrize("template", ["{% set x = 9 ** (9 ** 9) %}", LONG_LOOP])
def test_what_never_ends_is_ended(tmp_path, template, monkeypatch):
    monkeypatch.setattr(chat_template, "CPU_S", 1)
    monkeypatch.setattr(chat_template, "WALL_S", 30)  # not reached, even where the machine is busy
    with pytest.raises(ValueError, match=r"chat_template\.jinja: the chat template ran for more than 1 s"):
        chat_template.render(write(tmp_path, template), MESSAGES)


def test_no_file_can_be_written_even_outside_the_sandbox(tmp_path):
    """The limits of the process are there for the day on which the sandbox has a hole."""
    script = "import sys; sys.path.insert(0, sys.argv[1]); import chat_sandbox; chat_sandbox.limit(5, 1 << 29)\n"
    script += "with open(sys.argv[2], 'w') as file: file.write('x')"
    words = [sys.executable, "-c", script, str(chat_template.SANDBOX.parent), str(tmp_path / "x")]
    done = subprocess.run(words, capture_output=True)
    assert done.returncode != 0 and b"File too large" in done.stderr and (tmp_path / "x").read_bytes() == b""


def test_the_command_names_the_file_in_one_line(tmp_path, capsys):
    write(foreign_folder(tmp_path), "{{ raise_exception('first line\nsecond') }}")
    assert command_line.main(["generate", "--model", str(tmp_path), "--chat", "--prompt", "Hi"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "chat_template.jinja" in err and "first line second" in err

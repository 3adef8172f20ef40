"""Chat templates: what a folder says; strangers' code that wants out. tests/oracles compares with transformers."""

import json
import subprocess
import sys

import pytest

from afm_ref import __main__ as command_line
from afm_ref.interop import chat_template
from tests.interop.tokenizer_files import foreign_folder

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


@pytest.mark.parametrize(
    "template, names",
    [
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
    ],
)
def test_what_fails_or_asks_for_too_much_is_one_line(tmp_path, template, names):
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

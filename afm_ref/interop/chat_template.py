"""Chat templates: how a model folder writes a conversation as the text that its model was
trained on.

A template is a program that came with a stranger's model. It runs in jinja2's immutable
sandbox, in a process of its own (chat_sandbox) that may use little time and memory.
"""

import json
import subprocess
import sys
from pathlib import Path

from afm_ref.disk.text_files import read_text

from . import foreign_tokenizer

SANDBOX = Path(__file__).with_name("chat_sandbox.py")
CPU_S = 5  # of the process: some 0.1 s go into its start
WALL_S = 60  # on a machine that is busy
MEMORY_BYTES = 512 << 20
CHARACTERS = 1_000_000


def render(
    folder: str | Path, messages: list[dict], add_generation_prompt: bool = True
) -> str:
    """Return a conversation, [{"role": "user", "content": "Hi"}, ...], as a folder's chat
    template writes it.

    With `add_generation_prompt` the assistant's turn is opened. Encode it with
    `markers=True`: the template's special tokens are meant as such (and so, as in
    transformers, are those that a message names). Raises FileNotFoundError if the folder
    has no template, ValueError with the file for a template that fails or asks for too
    much.

    Source: transformers' apply_chat_template [standard].
    Test: tests/oracles/test_chat_template.py::test_text_and_ids_equal_transformers
    """
    folder = Path(folder)
    settings = foreign_tokenizer.read_settings(folder)
    where, template = find(folder, settings)
    variables = foreign_tokenizer.special_tokens(settings) | {
        "messages": messages, "tools": None, "documents": None, "add_generation_prompt": add_generation_prompt,
    }  # fmt: skip
    answer = _run({"template": template, "variables": variables})
    if "text" not in answer:
        raise ValueError(f"{where}: the chat template {_one_line(answer['error'])}")
    return answer["text"]


def find(folder: Path, settings: dict) -> tuple[str, str]:
    """Return (the place, for messages; the template): chat_template.jinja, or what
    tokenizer_config.json holds.
    """
    path = folder / "chat_template.jinja"
    if path.is_file():
        return str(path), read_text(path)
    path = folder / "tokenizer_config.json"
    found = settings.get("chat_template")
    if found is None:
        raise FileNotFoundError(
            f"{folder} has no chat template, neither chat_template.jinja nor chat_template in tokenizer_config.json: "
            "its model may know no conversations; without --chat it continues a text"
        )
    if isinstance(found, list) and all(isinstance(each, dict) for each in found):
        found = {each.get("name"): each.get("template") for each in found}
    if isinstance(found, dict):
        if "default" not in found:
            raise ValueError(
                f"{path}: no chat template is named default, only {sorted(map(str, found))}"
            )
        found = found["default"]
    if not isinstance(found, str):
        raise ValueError(
            f"{path}: chat_template is {type(found).__name__}; expected a text, or a list of named ones"
        )
    return str(path), found


def _run(request):
    request |= {"characters": CHARACTERS, "cpu_s": CPU_S, "memory_bytes": MEMORY_BYTES}
    # -P: no module of the folder that the script lies in stands before the library's
    command = [sys.executable, "-P", str(SANDBOX)]
    try:
        done = subprocess.run(
            command, input=json.dumps(request).encode(), capture_output=True, timeout=WALL_S
        )
    except subprocess.TimeoutExpired:
        return {"error": f"ran for more than {WALL_S} s"}
    if done.returncode < 0:
        return {"error": f"ran for more than {CPU_S} s, or crashed ({done.returncode})"}
    if done.returncode:
        return {"error": f"could not be run: {done.stderr.decode()[-250:]}"}
    return json.loads(done.stdout)


def _one_line(text):
    """Return a stranger's words as a short line, without the characters that command a
    terminal.
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text[:300]).split())

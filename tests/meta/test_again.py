"""After Run All each cell of each chapter runs once more, as for a reader who goes back to it, and says the same."""

import contextlib
import itertools
import symtable
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbformat.v4 import new_code_cell, new_notebook

WIDGET = "application/vnd.jupyter.widget-view+json"
TIMEOUT_S = 300  # of a cell, as nbval's in pyproject.toml
KEEP = "__kept = {{name: globals()[name] for name in {names} if name in globals()}}"
RESTORE = "globals().update(__kept)"


class Said(NamedTuple):
    """What a cell said: its text, pictures as their base64, and the first line of its error, if any."""

    text: str
    pictures: tuple[str, ...]
    error: str | None

    @property
    def checks(self) -> list[str]:
        return [line for line in self.text.splitlines() if line.startswith("✓")]


@contextlib.contextmanager
def kernel(folder: Path):
    """Yield say(source) -> Said of a new kernel of this Python, which works in `folder`."""
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(folder), extra_arguments=["--log-level=ERROR"])

    def say(source: str) -> Said:
        messages = []
        client.execute_interactive(source, allow_stdin=False, timeout=TIMEOUT_S, output_hook=messages.append)
        return said([(m["msg_type"], m["content"]) for m in messages])

    try:
        yield say
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def said(messages: list[tuple[str, dict]]) -> Said:
    """Return what the messages of one execution say; a widget's repr names its state, which is no text of the cell."""
    text, pictures, error = "", [], None
    for kind, content in messages:
        if kind == "stream":
            text += content["text"]
        elif kind == "error":
            error = f"{content['ename']}: {content['evalue']}".splitlines()[0]
        elif kind in ("execute_result", "display_data"):
            data = content["data"]
            pictures += [value for mime, value in data.items() if mime.startswith("image/")]
            if WIDGET not in data:
                text += "".join(f"{value}\n" for mime, value in sorted(data.items()) if mime.startswith("text/"))
    return Said(text, tuple(pictures), error)


def differences(notebook, folder: Path) -> dict[str, str]:
    """Return {cell id: how its second run differs}. A cell tagged volatile says the same checks, any other all of it.

    The second run of a cell finds what Run All left, and leaves the same: its own names are restored after it.
    """
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    found = {}
    with kernel(folder) as say:
        firsts = [say(cell.source) for cell in cells]
        for cell, first in zip(cells, firsts, strict=True):
            symbols = symtable.symtable(cell.source, "cell", "exec").get_symbols()
            say(KEEP.format(names=[s.get_name() for s in symbols if s.is_assigned() or s.is_imported()]))
            how = difference(first, say(cell.source), "volatile" in cell.metadata.get("tags", []))
            say(RESTORE)
            if how:
                found[cell.id] = how
    return found


def difference(first: Said, second: Said, volatile: bool = False) -> str:
    """Return how the second run differs, "" if it does not."""
    if first.error or second.error:
        return f"fails at {'first' if first.error else 'second'}: {first.error or second.error}"
    if first.checks != second.checks:
        return f"other checks: {first.checks} and then {second.checks}"
    if volatile or first == second:
        return ""
    if first.text == second.text:
        return "another picture"
    lines = itertools.zip_longest(*(run.text.splitlines(keepends=True) for run in (first, second)), fillvalue="")
    was, now = next(pair for pair in lines if pair[0] != pair[1])
    return f"first {was!r}, then {now!r}"


CHAPTERS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("[0-9]*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_each_cell_says_the_same_once_more(path, tmp_path):
    assert differences(nbformat.read(path, as_version=4), tmp_path) == {}


def cell(name, source, *tags):
    return new_code_cell(source, id=name, metadata={"tags": list(tags)})


def test_a_cell_that_fails_or_says_something_else_is_noticed(tmp_path):
    """`total` means two things; `numbers` goes on where it stopped; the clock's cell is volatile, but for its check."""
    cells = [
        cell("good", "total = 3\ntotal"),
        cell("reads", "print('total', total / 2)"),
        cell("draws", "numbers = globals().get('numbers') or iter(range(9))\nprint('number', next(numbers))"),
        cell("clock", "import time\nprint(time.time())\nprint('✓ it ticks')", "volatile"),
        cell("checks", "calls = [*globals().get('calls', []), 1]\nprint('✓ called', len(calls))", "volatile"),
        cell("names", "total = 'three'"),
        cell("wrong", "1 / 0"),
        cell("folder", "import os; print(os.getcwd())"),
    ]
    found = differences(new_notebook(cells=cells), tmp_path)
    assert list(found) == ["reads", "draws", "checks", "wrong"]
    assert found["reads"].startswith("fails at second: TypeError")
    assert found["draws"] == "first 'number 0\\n', then 'number 1\\n'"
    assert found["checks"] == "other checks: ['✓ called 1'] and then ['✓ called 2']"
    assert found["wrong"] == "fails at first: ZeroDivisionError: division by zero"

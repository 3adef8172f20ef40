"""After Run All each cell of each chapter runs once more and says the same, in a folder that is not the notebooks'."""

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.meta import again

CHAPTERS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("[0-9]*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_each_cell_says_the_same_once_more(path, tmp_path):
    assert again.differences(nbformat.read(path, as_version=4), tmp_path) == {}


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
    found = again.differences(new_notebook(cells=cells), tmp_path)
    assert list(found) == ["reads", "draws", "checks", "wrong"]
    assert found["reads"].startswith("fails at second: TypeError")
    assert found["draws"] == "first 'number 0\\n', then 'number 1\\n'"
    assert found["checks"] == "other checks: ['✓ called 1'] and then ['✓ called 2']"
    assert found["wrong"] == "fails at first: ZeroDivisionError: division by zero"

"""The tools: what tools.mutate counts as a catch, what tools.paper reads and refuses, what tools.regenerate stores,
what tools.typechecker checks."""

import base64
import shutil
import zlib

import jaxtyping
import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from afm_ref.post_training.reward_model import soft_label_loss
from tests.mutations import MUTATIONS
from tools import mutate, paper, regenerate

CODE = "def double(x):\n    y = 2 * x\n    return y\n"
TESTS = """
from afm_ref.code import double

def test_two():
    assert double(2) == 4

def test_weak():
    assert double(0) == 0
"""


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A small package with a strong and a weak test, and pytest settings of its own (no plugins: quick to start)."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setattr(mutate, "PRELOADED", "pytest")
    root = tmp_path / "root"
    settings = "[tool.pytest.ini_options]\npythonpath = ['.']\nmarkers = ['slow']\n"
    files = {"afm_ref/code.py": CODE, "tests/test_code.py": TESTS, "pyproject.toml": settings}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def mutation(old, new, test="test_two"):
    return mutate.Mutation("fault", "afm_ref/code.py", old, new, f"tests/test_code.py::{test}")


def test_a_fault_is_caught_by_a_test_that_sees_it_and_passes_without(tree, capsys):
    for tests, status, said in (("== 4", 0, "1 faults caught, 0 not"), ("== 5", 1, "without any fault")):
        (tree / "tests/test_code.py").write_text(TESTS.replace("== 4", tests))
        assert mutate.main([mutation("2 * x", "3 * x")], [], tree) == status
        assert said in capsys.readouterr().out and (tree / "afm_ref/code.py").read_text() == CODE


def test_anything_else_is_a_failure(tree):
    with mutate.places(tree, 1) as (place,):
        for old, new, test, reason in (
            ("2 * x", "3 * x", "test_weak", "SURVIVED"),
            ("def double", "def triple", "test_two", "NO VERDICT"),
            ("2 * x", "z", "test_two", "NO VERDICT"),
            ("y", "z", "test_two", "2 times"),
            ("3 * x", "2 * x", "test_two", "0 times"),
            ("2 * x", "2 *", "test_two", "does not parse"),
            ("2 * x", "(2 * x)", "test_two", "changes nothing"),
        ):
            verdict = mutate.apply(place, mutation(old, new, test))
            assert not verdict.caught and reason in verdict.reason, new
            assert (place.tree / "afm_ref/code.py").read_text() == CODE


def test_a_run_that_does_not_come_to_its_tests_is_no_catch(tree):
    with mutate.places(tree, 1) as (place,):
        shutil.rmtree(place.tree)
        assert not mutate.judge(*place.pytest(["tests/test_code.py"], "not slow"))[0]
        copied = mutate.copy_tree(tree, place.tree)
        assert place.pytest(["tests/test_code.py"], "not slow")[0] == 0 and copied == place.tree  # it goes on


def test_every_listed_fault_can_be_applied():
    for m in MUTATIONS:
        count = (mutate.ROOT / m.file).read_text(encoding="utf-8").count(m.old)
        assert count == 1, f"{m.name}: the old text stands {count} times in {m.file}"
        assert paper.is_test(mutate.ROOT, m.test.partition("[")[0]), f"{m.name}: there is no test {m.test}"


GOOD = '''
def norm(x):
    """Return x,
    normed.

        y = x / n,   n = max(|x|)
        z = 2 y

    Prose.

    Source: TR24 section 2 (said in
    two lines) [confirmed].
    Test: tests/test_a.py::test_one,
    tests/test_a.py::TestB::test_two
    """

class Thing:
    def helper(self):
        """No claim here."""
'''


@pytest.fixture
def repository(tmp_path):
    """One source and one test file."""
    (tmp_path / "afm_ref").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("def test_one(): pass\nclass TestB:\n    def test_two(self): pass\n")

    def write(text):
        (tmp_path / "afm_ref" / "a.py").write_text(text)
        return tmp_path

    return write


def test_an_entry_is_read_whole(repository):
    entries, problems = paper.collect(repository(GOOD))
    assert problems == []
    formula, tests = ["y = x / n", "n = max(|x|)", "z = 2 y"], ["test_one", "TestB::test_two"]
    about = dict(path="afm_ref/a.py", name="norm", summary="Return x, normed.", formula=formula, tag="confirmed")
    about |= dict(source="TR24 section 2 (said in two lines)", tests=[f"tests/test_a.py::{test}" for test in tests])
    assert entries == [paper.Entry(**about)]
    row = paper.row(entries[0])
    assert row.count(" | ") == 4 and "max(\\|x\\|)" in row and "(tests/test_a.py)" in row


def test_what_is_wrong_is_reported(repository):
    for old, new, problem in (
        ("[confirmed]", "[sure]", "must end with a tag"),
        ("(said in", "(said in [rumour]", "must end with a tag"),
        ("test_one,", "test_gone,", "does not exist"),
        ("TestB::", "", "does not exist"),
        ("tests/test_a.py::test_one", "tests/test_c.py::test_one", "does not exist"),
        ("Source: TR24 section 2 (said in\n    two lines) [confirmed]", "Source: none [ours]", "names nobody but us"),
        ("Source:", "Said:", "not both"),
        ("Test:", "See:", "not both"),
    ):
        assert old in GOOD
        _, problems = paper.collect(repository(GOOD.replace(old, new)))
        assert len(problems) == 1 and problem in problems[0] and "afm_ref/a.py: norm" in problems[0], old


def test_a_stale_file_fails_the_check(repository):
    root = repository(GOOD)
    assert [paper.main(options, root) for options in (["--check"], [], ["--check"])] == [1, 0, 0]
    repository(GOOD.replace("z = 2 y", "z = 3 y"))
    assert paper.main(["--check"], root) == 1


def chunk(kind, data):
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


HEADER, END = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(13)), chunk(b"IDAT", b"abc") + chunk(b"IEND", b"")


def stored(output, *tags):
    """Return the outputs that a cell with these tags keeps."""
    cell = new_code_cell("x", outputs=[output], metadata={"tags": list(tags), "execution": {"iopub": "12:00"}})
    (cell,) = regenerate.clean(new_notebook(cells=[cell]), "a.ipynb").cells
    assert set(cell.metadata) == {"tags"}
    return cell.outputs


def test_outputs_that_vary_are_not_stored():
    text = new_output("stream", name="stdout", text="0.31 s")
    assert stored(text) == [text]
    assert stored(text, "nbval-ignore-output", "volatile") == []
    assert stored(new_output("stream", name="stderr", text="50%"), "nbval-ignore-output") == []
    with pytest.raises(ValueError, match="writes to stderr"):  # no warning is swept under the carpet
        stored(new_output("stream", name="stderr", text="DeprecationWarning"))
    widget = new_output("display_data", data={regenerate.WIDGET: {"model_id": "a"}, "text/plain": "IntSlider()"})
    assert stored(widget) == []
    noisy = HEADER + chunk(b"tEXt", b"Software\0x") + END
    with pytest.raises(ValueError, match="checksum"):
        regenerate.plain_png(noisy[:-1] + b"x")
    png = base64.b64encode(noisy).decode()
    (figure,) = stored(new_output("display_data", data={regenerate.WIDGET: {"model_id": "a"}, "image/png": png}))
    assert set(figure.data) == {"image/png"}  # what GitHub shows in the widget's place
    (figure,) = stored(new_output("display_data", data={"image/png": png}), "nbval-ignore-output", "volatile")
    assert base64.b64decode(figure.data["image/png"]) == HEADER + END


def test_cell_ids_follow_the_source_and_metadata_is_reduced():
    def ids(*sources):
        notebook = new_notebook(cells=[new_code_cell(s) for s in sources], metadata={"widgets": {"a": 1}})
        notebook = regenerate.clean(notebook, "a.ipynb")
        assert notebook.metadata == regenerate.METADATA
        nbformat.validate(notebook)
        return [c.id for c in notebook.cells]

    before, after = ids("a", "b", "b"), ids("new", "a", "b", "b")
    assert len(set(after)) == 4 and after[1:] == before
    chosen = regenerate.clean(new_notebook(cells=[new_code_cell("a", id="set-up")]), "a.ipynb")
    assert chosen.cells[0].id == "set-up"


def test_two_runs_write_the_same_bytes_and_check_sees_a_change(tmp_path, capsys):
    (tmp_path / "notebooks").mkdir()
    path, figures = tmp_path / "notebooks" / "00_a.ipynb", tmp_path / "figures"
    figures.mkdir()
    (figures / "old.png").write_bytes(HEADER + END)
    source = "import os, time, pathlib\nprint(os.environ['JAX_PLATFORMS'], hash('a'))\n"
    draw = f"pathlib.Path(os.environ['AFM_REF_FIGURES'], '00_a.png').write_bytes({HEADER + END!r})\n7"
    clock = new_code_cell("print(time.time())", metadata={"tags": ["volatile", "nbval-ignore-output"]})
    nbformat.write(new_notebook(cells=[new_markdown_cell("# A"), new_code_cell(source + draw), clock]), path)

    assert regenerate.main([], tmp_path) == 0
    first = path.read_bytes()
    assert b'"execution_count": 2' in first and b'"7"' in first
    assert [p.name for p in figures.iterdir()] == ["00_a.png"]
    assert regenerate.main(["--check"], tmp_path) == 0
    path.write_bytes(first.replace(b'"7"', b'"8"'))
    assert regenerate.main(["--check"], tmp_path) == 1
    assert "notebooks/00_a.ipynb: changed" in capsys.readouterr().out
    assert b'"8"' in path.read_bytes()


def test_shapes_in_signatures_are_checked_at_each_call():
    """Three margins beside one label would broadcast; NumPy has nothing against it."""
    soft_label_loss(np.zeros(3), np.ones(3))
    with pytest.raises(jaxtyping.TypeCheckError):
        soft_label_loss(np.zeros(3), np.ones(1))

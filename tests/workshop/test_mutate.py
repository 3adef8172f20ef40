"""The harness of tests/mutations.py: only a test that fails on the fault counts as a catch."""

import shutil

import pytest

from tests.mutations import MUTATIONS
from tools import mutate, paper

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
    for name, text in {
        "afm_ref/code.py": CODE,
        "tests/test_code.py": TESTS,
        "pyproject.toml": "[tool.pytest.ini_options]\npythonpath = ['.']\nmarkers = ['slow']\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def mutation(old, new, test="test_two", name="fault"):
    return mutate.Mutation(name, "afm_ref/code.py", old, new, f"tests/test_code.py::{test}")


@pytest.mark.parametrize(
    ("tests", "status", "said"), [("== 4", 0, "1 faults caught, 0 not"), ("== 5", 1, "without any fault")]
)
def test_a_fault_is_caught_by_a_test_that_sees_it_and_passes_without(tree, capsys, tests, status, said):
    (tree / "tests/test_code.py").write_text(TESTS.replace("== 4", tests))
    assert mutate.main([mutation("2 * x", "3 * x")], [], tree) == status
    assert said in capsys.readouterr().out
    assert (tree / "afm_ref/code.py").read_text() == CODE


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (mutation("2 * x", "3 * x", "test_weak"), "SURVIVED"),
        (mutation("def double", "def triple"), "NO VERDICT"),
        (mutation("2 * x", "z"), "NO VERDICT"),
        (mutation("y", "z"), "2 times"),
        (mutation("3 * x", "2 * x"), "0 times"),
        (mutation("2 * x", "2 *"), "does not parse"),
        (mutation("2 * x", "(2 * x)"), "changes nothing"),
    ],
)
def test_anything_else_is_a_failure(tree, fault, reason):
    with mutate.places(tree, 1) as (place,):
        verdict = mutate.apply(place, fault)
        assert not verdict.caught and reason in verdict.reason
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

"""tools.paper reads docstrings rightly and refuses bad ones; .ci/run asks whether PAPER.md is fresh."""

import pytest

from tools import paper

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
def tree(tmp_path):
    """A repository of one source and one test file."""
    (tmp_path / "afm_ref").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("def test_one(): pass\nclass TestB:\n    def test_two(self): pass\n")

    def write(text):
        (tmp_path / "afm_ref" / "a.py").write_text(text)
        return tmp_path

    return write


def test_an_entry_is_read_whole(tree):
    entries, problems = paper.collect(tree(GOOD))
    assert problems == []
    formula, tests = ["y = x / n", "n = max(|x|)", "z = 2 y"], ["test_one", "TestB::test_two"]
    about = dict(path="afm_ref/a.py", name="norm", summary="Return x, normed.", formula=formula, tag="confirmed")
    about |= dict(source="TR24 section 2 (said in two lines)", tests=[f"tests/test_a.py::{test}" for test in tests])
    assert entries == [paper.Entry(**about)]
    row = paper.row(entries[0])
    assert row.count(" | ") == 4 and "max(\\|x\\|)" in row and "(tests/test_a.py)" in row


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("[confirmed]", "[sure]", "must end with a tag"),
        ("(said in", "(said in [rumour]", "must end with a tag"),
        ("test_one,", "test_gone,", "does not exist"),
        ("TestB::", "", "does not exist"),
        ("tests/test_a.py::test_one", "tests/test_c.py::test_one", "does not exist"),
        ("Source: TR24 section 2 (said in\n    two lines) [confirmed]", "Source: none [ours]", "names nobody but us"),
        ("Source:", "Said:", "not both"),
        ("Test:", "See:", "not both"),
    ],
)
def test_what_is_wrong_is_reported(tree, old, new, problem):
    assert old in GOOD
    _, problems = paper.collect(tree(GOOD.replace(old, new)))
    assert len(problems) == 1 and problem in problems[0] and "afm_ref/a.py: norm" in problems[0]


def test_a_stale_file_fails_the_check(tree):
    root = tree(GOOD)
    assert paper.main(["--check"], root) == 1
    assert paper.main([], root) == 0
    assert paper.main(["--check"], root) == 0
    tree(GOOD.replace("z = 2 y", "z = 3 y"))
    assert paper.main(["--check"], root) == 1

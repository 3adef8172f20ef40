"""Kinds of documents."""

import pytest

from afm_ref.curation import kinds, planting
from tests.curation import languages

PROSE = "The cat sat on the mat and looked at the rain, which = sadness; it did so for 2 + 2 hours. " * 3


@pytest.mark.parametrize(
    "name, text, kind",
    [
        ("a/b.PY", PROSE, "code"),
        ("x.tsx", "x² = 4", "code"),
        ("page.html", "<p class='a' id='b'>x = 1</p>", "web"),
        ("page.htm", "", "web"),
        ("page.html", "<p><math>x</math></p>", "web"),  # its text is still to be extracted
        ("notes.txt", PROSE + "<math>x</math>", "maths"),
        ("notes.txt", PROSE, "text"),
        ("notes.txt", "Let x = 2. Then x + 1 = 3.", "maths"),
        ("notes.txt", PROSE + "\\begin{equation} a \\end{equation}", "maths"),
        ("noextension", PROSE, "text"),
        ("notes.txt", "", "text"),
    ],
)
def test_kinds_by_hand(name, text, kind):
    assert kinds.kind_of(name, text) == kind


def test_prose_of_other_scripts_is_no_maths():
    """Greek letters are symbols where they stand alone; a clause without spaces is more than one word."""
    assert kinds.kind_of("a.txt", languages.document("greek")) == "text"
    assert kinds.kind_of("a.txt", "Εδώ το λ είναι 3, και 2πr = θ + λ.") == "maths"
    assert kinds.kind_of("a.txt", languages.SENTENCES["japanese"][0] + "5+3=8") == "text"


def test_there_are_14_languages():
    assert len(kinds.EXTENSIONS) == 14
    assert len(kinds.CODE) == sum(map(len, kinds.EXTENSIONS.values()))  # no extension is of two


def test_density_by_hand():
    assert kinds.maths_density("x = 1 and \\frac{1}{2} ≥ y") == 3 / 7
    assert kinds.maths_density("") == 0


def test_generated_sums_are_maths():
    import numpy as np

    rng = np.random.default_rng(0)
    assert all(kinds.kind_of("a.txt", planting.worked_sum(rng)) == "maths" for _ in range(60))

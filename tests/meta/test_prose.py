"""What a chapter's text says: its measured numbers stand in an output, its letters in its table of symbols."""

import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from afm_ref.teaching import glossary

CHAPTERS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("[0-9]*.ipynb"))
UNTOLD: set[str] = set()  # not yet told by these rules
TOLD = [path for path in CHAPTERS if path.name[:2] not in UNTOLD]

# Numbers that no cell prints, each with its source; at most 8 a chapter.
ELSEWHERE: dict[str, dict[str, str]] = {
    "08_lora": {
        "90%": "Aghajanyan et al. 2020, abstract: 200 numbers tune RoBERTa to 90% of the full performance on MRPC",
        "100 times": "Biderman et al. 2024, abstract: full fine-tuning's rank is 10-100 times a usual adapter's",
    },
    "09_quantization": {
        "0.15%": "TR24 section 5: recovery adapters see about 10B tokens, about 0.15% of the base's training"
    },
}

CODE = re.compile(r"```.*?```|`[^`\n]*`", re.S)
FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\\$])\$(?!\$)(.+?)(?<!\\)\$(?!\$)", re.S)
LINK = re.compile(r"\[[^\]]*\]\([^)]*\)|https?://\S+|arXiv \S+")
REFERENCE = re.compile(
    r"(?:[Ss]ections?|[Pp]arts?|[Ee]quations?|Exercises?|[Cc]hapters?) \d+(?:\.\d+)?|\(\d+\.\d+\)|^#+ .*$", re.M
)
NUMBER = re.compile(r"(?<![\w.,])\d[\d,]*\.\d+(?: ?%)?|(?<![\w.,])\d[\d,]*(?: ?%| times\b)")


def prose(notebook):
    """Return the text of a chapter but for its table of what the paper says."""
    cells = [c.source for c in notebook.cells if c.cell_type == "markdown"]
    return "\n\n".join(re.sub(r"^\|.*$", "", c, flags=re.M) if "What the paper says" in c else c for c in cells)


def printed(notebook):
    """Return all that the cells print, as text."""
    found = []
    for output in (o for c in notebook.cells if c.cell_type == "code" for o in c.outputs):
        found += [output.get("text", "")]
        found += [str(text) for mime, text in output.get("data", {}).items() if mime in ("text/markdown", "text/plain")]
    return "\n".join(found)


def measured_numbers(notebook):
    """Return the decimals, percentages and `n times` of the prose, outside formulas, code and links."""
    text = prose(notebook)
    for pattern in (CODE, FORMULA, LINK, REFERENCE):
        text = pattern.sub(" ", text)
    return [match[0] for match in NUMBER.finditer(text)]


def missing_numbers(notebook, elsewhere=()):
    """Return the measured numbers of the prose that no cell prints, as they are rounded."""
    out = printed(notebook)

    def stands(number):
        digits = number.removesuffix(" times").replace(" ", "")
        return re.search(rf"(?<![\d.]){re.escape(digits)}(?![\d]|\.\d)", out.replace(" %", "%")) is not None

    return sorted({n for n in measured_numbers(notebook) if n not in elsewhere and not stands(n)})


# What TeX needs to write a formula and no symbol of ours.
WORDS = re.compile(r"\\(?:text\w*|operatorname|mathrm|tag|begin|end|mathsf)\*?\s*\{[^{}]*\}")
ALPHABETS = r"\\(?:mathbf|mathcal|mathbb)\s*(?:\{\s*(\\?[A-Za-z]+)\s*\}|(\\?[A-Za-z]+))"
GREEK = (
    r"\\(?:alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|vartheta|iota|kappa|lambda|mu|nu|xi|pi|rho"
    r"|varrho|sigma|varsigma|tau|upsilon|phi|varphi|chi|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Phi|Psi|Omega|ell)"
)
GLYPH = re.compile(rf"{ALPHABETS}|({GREEK})(?![A-Za-z])|\\[A-Za-z]+|([A-Za-z])")


def glyphs(notebook):
    """Return the symbols of a chapter's formulas as `glossary.SYMBOLS` writes them; accents and indices aside."""
    found = set()
    for a, b in FORMULA.findall(CODE.sub(" ", prose(notebook))):
        for match in GLYPH.finditer(WORDS.sub(" ", a or b)):
            braced, bare, greek, letter = match.groups()
            if braced or bare:
                alphabet = re.match(r"\\[a-z]+", match[0])[0]
                found.add(f"{alphabet} {braced or bare}")
            elif greek or letter:
                found.add(greek or letter)
    return found


def table(notebook):
    """Return the symbols that the chapter's table shows."""
    shown = [c.source for c in notebook.cells if c.cell_type == "code" and "show_symbols(" in c.source]
    calls = " ".join(re.findall(r"show_symbols\((.*?)\n?\)", "\n".join(shown), re.S))
    return set(re.findall(r'r?"([^"]+)"', calls))


@pytest.mark.parametrize("path", TOLD, ids=lambda path: path.stem)
def test_measured_numbers_are_printed_by_a_cell(path):
    elsewhere = ELSEWHERE.get(path.stem, {})
    notebook = nbformat.read(path, as_version=4)
    assert len(elsewhere) <= 8 and set(elsewhere) <= set(measured_numbers(notebook)), "an exception that is not needed"
    assert missing_numbers(notebook, elsewhere) == []


@pytest.mark.parametrize("path", TOLD, ids=lambda path: path.stem)
def test_every_symbol_of_a_formula_is_in_the_table(path):
    notebook = nbformat.read(path, as_version=4)
    used, shown = glyphs(notebook), table(notebook)
    assert shown <= set(glossary.SYMBOLS)
    assert (used - shown, shown - used) == (set(), set()), "(not in the table, in the table but not used)"


@pytest.mark.parametrize("path", TOLD, ids=lambda path: path.stem)
def test_a_chapter_takes_an_hour(path):
    """4,000 words of Markdown, tags aside, 35 code cells and 400 kB at most."""
    cells = nbformat.read(path, as_version=4).cells
    words = sum(
        len(re.sub(r"</?(?:details|summary|b|br)>", "", c.source).split()) for c in cells if c.cell_type == "markdown"
    )
    assert words <= 4000 and sum(c.cell_type == "code" for c in cells) <= 35 and path.stat().st_size <= 400_000


def test_italic_capitals_are_axes():
    assert {glyph for glyph in glossary.SYMBOLS if len(glyph) == 1 and glyph.isupper()} == set(glossary.AXES)
    assert len(set(glossary.SYMBOLS.values())) == len(glossary.SYMBOLS)


def told(text, out):
    """Return a notebook that says `text` and prints `out`."""
    output = [new_output("stream", text=out)]
    return new_notebook(cells=[new_markdown_cell(text), new_code_cell("print()", outputs=output)])


def test_a_number_that_no_cell_prints_is_found():
    text = (
        "It took 0.83 s, 41% less, 3 times as much; see (2.5), section 2.6, $0.11$ and [0.3](a0.7.md), `0.9`; 12 rows."
    )
    for out, missing in (
        ("0.83 and 41%, 3", []),
        ("0.831 and 41%, 3", ["0.83"]),
        ("10.83 and 41.5%, 3.2", ["0.83", "3 times", "41%"]),
    ):
        assert missing_numbers(told(text, out)) == missing
    assert missing_numbers(told("## What the paper says\n\n| 0.7 | 9% |\n\nand 0.6", "")) == ["0.6"]


def test_symbols_are_read_from_formulas():
    text = r"With $\hat q_t^\top \mathbf{W} x$, `$a$` and $$\mathbb E[\log p] \tag{1.1} \quad \text{of } n_\text{dev}$$"
    assert glyphs(told(text, "")) == {"q", "t", r"\mathbf W", "x", r"\mathbb E", "p", "n"}
    cell = new_code_cell('glossary.show_symbols(\n    "t", r"\\mathbf W",\n)')
    assert table(new_notebook(cells=[cell])) == {"t", r"\mathbf W"}

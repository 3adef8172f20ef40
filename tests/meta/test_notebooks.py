"""What every notebook must be. Each rule is a function, shown below to fail on a notebook that breaks it."""

import base64
import copy
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
CHAPTERS = sorted(FOLDER.glob("[0-9]*.ipynb"))
NOTEBOOKS = CHAPTERS + sorted((FOLDER / "solutions").glob("*.ipynb"))
MAX_BYTES, MAX_PNG_BYTES, MAX_LINES = 480_000, 60_000, 25
LINK = re.compile(r"\]\(([^)\s]+?)(?:#[^)\s]*)?\)")
MACHINE_PATH = re.compile(r"(?<![\w.+/])/(?:work|root|tmp|home|Users|private)/[\w.]|\b[A-Z]:\\\\?Users")


def code(notebook):
    return [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]


def prose(notebook):
    return "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")


def is_solution(path):
    return path.parent.name == "solutions"


def outputs(notebook):
    for cell in code(notebook):
        yield from cell.outputs


def was_executed_in_order(notebook, path):
    counts = [c.execution_count for c in code(notebook)]
    return [] if counts and counts == list(range(1, len(counts) + 1)) else [f"execution counts {counts}"]


def is_small(notebook, path):
    sizes = {"the notebook": (len(nbformat.writes(notebook).encode()), MAX_BYTES)}
    images = [o.data["image/png"] for o in outputs(notebook) if "image/png" in o.get("data", {})]
    sizes |= {f"figure {i}": (len(base64.b64decode(image)), MAX_PNG_BYTES) for i, image in enumerate(images)}
    return [f"{what} takes {size} bytes, the limit is {most}" for what, (size, most) in sizes.items() if size > most]


def has_a_title_and_goals(notebook, path):
    first = notebook.cells[0] if notebook.cells else None
    titled = first and first.cell_type == "markdown" and first.source.startswith("# ")
    goals = "You will be able to" in prose(notebook) or is_solution(path)
    return [what for what, found in (("no title on top", titled), ("no goals", goals)) if not found]


def has_a_check(notebook, path):
    call = r"\battempt\(" if is_solution(path) else r"\bcheck\("
    return [] if any(re.search(call, c.source) for c in code(notebook)) else ["checks nothing"]


def has_short_cells(notebook, path):
    lengths = {c.execution_count: len(c.source.strip().splitlines()) for c in code(notebook)}
    return [f"cell [{n}] has {lines} lines" for n, lines in lengths.items() if lines > MAX_LINES]


def is_regenerated(notebook, path):
    """Widget state and views make GitHub say "Invalid Notebook"; other metadata varies between machines."""
    extra = set(notebook.metadata) - {"kernelspec", "language_info"}
    extra |= set(notebook.metadata.get("language_info", {})) - {"name"}
    extra |= {mime for o in outputs(notebook) for mime in o.get("data", {}) if "widget-view" in mime}
    return [f"{sorted(extra)} stored: run tools.regenerate"] if extra else []


def names_no_machine_path(notebook, path):
    texts = [c.source for c in notebook.cells]
    for o in outputs(notebook):
        texts += [str(o.get("text", "")), *(str(v) for k, v in o.get("data", {}).items() if "image/" not in k)]
    return [f"path of a machine: ...{m[0]}..." for text in texts for m in MACHINE_PATH.finditer(text)]


def has_sound_tags(notebook, path):
    """A misspelt tag does nothing, silently; text that varies must not be compared."""
    known, problems = {"nbval-ignore-output", "volatile", "hide-input"}, []
    for cell in notebook.cells:
        tags = set(cell.metadata.get("tags", []))
        problems += [f"unknown tag {tag}" for tag in tags - known]
        if "volatile" in tags and "nbval-ignore-output" not in tags:
            problems.append("a volatile cell is compared: tag it nbval-ignore-output as well")
    return problems


def finds_its_files_anywhere(notebook, path):
    """A recording comes from assets.recording, whatever the folder that the notebook was opened in."""
    return [f"a path from its folder: {m[0]}" for c in code(notebook) if (m := re.search(r"\.\./|recorded/", c.source))]


def has_links_that_resolve(notebook, path):
    targets = [t for t in LINK.findall(prose(notebook)) if not re.match(r"\w+:", t)]
    return [f"broken link {t}" for t in targets if not (path.parent / t).exists()]


def leads_to_its_neighbours(notebook, path):
    chapters = [p.name for p in sorted(path.parent.glob("[0-9]*.ipynb"))]
    if is_solution(path):
        return []
    at, links = chapters.index(path.name), LINK.findall(prose(notebook))
    neighbours = chapters[max(at - 1, 0) : at] + chapters[at + 1 : at + 2]
    return [f"no link to {name}" for name in neighbours if name not in links]


def test_there_are_chapters():
    numbers = [int(p.name[:2]) for p in CHAPTERS]  # one each; a planned chapter leaves a gap
    assert numbers == sorted(set(numbers)) and numbers[:2] == [0, 1]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.relative_to(FOLDER).as_posix())
def test_notebook_keeps_every_rule(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert {rule.__name__: found for rule in RULES if (found := rule(notebook, path))} == {}


@pytest.fixture
def good(tmp_path):
    """A notebook that keeps every rule, with a neighbour."""
    path = tmp_path / "00_a.ipynb"
    cells = [
        new_markdown_cell("# A\n\nYou will be able to add. Next: [b](01_b.ipynb), [site](https://a.org/x)"),
        new_code_cell("check('sum', 2, 2)", execution_count=1, outputs=[new_output("stream", text="ok")]),
        new_markdown_cell("### Exercise 0.1: add"),
        new_code_cell("attempt('0.1', add)", execution_count=2, outputs=[png(100)]),
    ]
    notebook = new_notebook(cells=cells)
    nbformat.write(notebook, path)
    nbformat.write(notebook, tmp_path / "01_b.ipynb")
    return notebook, path


def png(size):
    return new_output("display_data", data={"image/png": base64.b64encode(bytes(size)).decode(), "text/plain": "<F>"})


def put(*outputs):
    """Return a change that gives the second code cell these outputs."""
    return lambda notebook: notebook.cells[3].update(outputs=list(outputs))


def source(cell, text):
    """Return a change of one cell's source."""
    return lambda notebook: notebook.cells[cell].update(source=text)


TITLE = "# A\n\nYou will be able to add. Next: [b](01_b.ipynb)"
BAD = [
    (was_executed_in_order, lambda n: n.cells[3].update(execution_count=None)),
    (was_executed_in_order, lambda n: n.cells.__delitem__(slice(1, None))),
    (is_small, put(new_output("stream", text="x" * MAX_BYTES))),
    (is_small, put(png(MAX_PNG_BYTES + 1))),
    (has_a_title_and_goals, source(0, TITLE.replace("# A", "## A"))),
    (has_a_title_and_goals, source(0, TITLE.replace("You will", "You may"))),
    (has_a_check, source(1, "print(2)")),
    (has_short_cells, source(3, "x = 1\n" * (MAX_LINES + 1))),
    (is_regenerated, lambda n: n.metadata.update(widgets={})),
    (is_regenerated, lambda n: n.metadata.update(language_info={"name": "python", "version": "3.11.7"})),
    (is_regenerated, put(new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {}}))),
    (names_no_machine_path, put(new_output("stream", text="reading {}/me/x.txt".format("/home")))),
    (names_no_machine_path, source(3, "open('{}/x')".format("/root"))),
    (has_sound_tags, lambda n: n.cells[3].metadata.update(tags=["nbval-ignore"])),
    (has_sound_tags, lambda n: n.cells[3].metadata.update(tags=["volatile"])),
    (finds_its_files_anywhere, source(3, "open('../experiments/recorded/a.json')")),
    (has_links_that_resolve, source(2, "see [c](02_c.ipynb#part)")),
    (leads_to_its_neighbours, source(0, TITLE.replace("01_b.ipynb", "https://b.org"))),
]
RULES = list(dict.fromkeys(rule for rule, _ in BAD))  # every rule is shown to fail


def test_a_good_notebook_breaks_no_rule(good):
    notebook, path = good
    assert {rule.__name__: found for rule in RULES if (found := rule(notebook, path))} == {}


@pytest.mark.parametrize(("rule", "spoil"), BAD, ids=[f"{i}-{rule.__name__}" for i, (rule, _) in enumerate(BAD)])
def test_a_bad_notebook_breaks_its_rule_alone(good, rule, spoil):
    notebook, path = copy.deepcopy(good)
    spoil(notebook)
    assert rule(notebook, path) != []
    others = [r for r in RULES if r is not rule and r is not has_a_check]  # an empty notebook checks nothing either
    assert [r.__name__ for r in others if r(notebook, path)] == []

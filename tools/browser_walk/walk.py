"""Open a notebook, clear its outputs, run all, read back what went wrong, move every control."""

import hashlib
import json
import time
from pathlib import Path
from typing import NamedTuple

from tools.browser_walk import controls
from tools.browser_walk.page import Page


class Limits(NamedTuple):
    """How long and how much: seconds for Run All, seconds for a page to react, pictures and controls at most."""

    run_s: float = 600
    react_s: float = 8
    pictures: int = 20
    controls: int = 60


def walk(context, server, name: str, out: Path, limits: Limits) -> dict:
    """Return the report of one notebook: problems (none if all is well), cells, seconds, controls, pictures."""
    file = Path(server.root) / name
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    report = {"notebook": name, "problems": [], "controls": [], "walked": False}
    start, page = time.time(), None
    try:
        page = Page(context, server, name)
        stem = out / name.removesuffix(".ipynb").replace("/", "_")
        finished = _run_all(page, report, limits)
        (out / f"{stem.name}.executed.ipynb").write_text(json.dumps(page.ask("notebook"), indent=1) + "\n")
        report["pictures"] = page.pictures(stem, limits.pictures)
        if finished:  # what still runs would keep the controls from working
            _move_all(page, report, limits, stem)
        report["walked"] = True
    except Exception as error:  # whatever stops one walk: it is reported, and the others go on
        report["problems"].append(f"the walk failed: {type(error).__name__}: {str(error)[:400]}")
    finally:
        if page is not None:
            report |= {"console": page.console, "dialogs": page.dialogs}
            page.close()
        server.end_sessions()
    if hashlib.sha256(file.read_bytes()).hexdigest() != before:
        report["problems"].append("the notebook changed on disk")
    report["total_s"] = round(time.time() - start, 1)
    return report


def _run_all(page, report, limits):
    """Clear, run, and report; return whether it came to its end."""
    problems = report["problems"]
    page.menu("Edit", "editmenu:clear-all")
    if not page.wait(lambda: page.ask("state")["run"] == 0, 10):
        problems.append("old outputs could not be cleared")
    start = time.time()
    page.menu("Run", "runmenu:run-all")
    finished = page.wait(AtRest(page, looks=4), limits.run_s)
    report["run_s"] = round(time.time() - start, 1)
    report["cells"] = cells = page.ask("state")
    if not finished:
        problems.append(f"not finished after {limits.run_s} s: {cells}")
    page.settle(-1, 10)
    problems += [_error_line(error) for error in page.ask("errors")]
    if cells["run"] < cells["code"]:
        problems.append(f"{cells['code'] - cells['run']} of {cells['code']} code cells did not run ({cells['kernel']})")
    problems += [f"stderr: {m['text'].strip().splitlines()[-1]}" for m in page.messages() if m["kind"] == "stderr"]
    prose = page.ask("prose")
    report["formulas"] = prose["formulas"]
    problems += [f"cell {bad['cell']}: {bad['what']} did not render: {bad['text']}" for bad in prose["bad"]]
    return finished


class AtRest:
    """True once all that runs has run, or the kernel is gone, at `looks` looks one after the other."""

    def __init__(self, page, looks):
        self.page, self.looks, self.seen = page, looks, 0

    def __call__(self):
        state = self.page.ask("state")
        gone = any(word in state["kernel"] for word in ("dead", "none", "restarting"))
        rest = state["kernel"] == "connected/idle" and not state["pending"] and (state["run"] or not state["code"])
        self.seen = self.seen + 1 if rest or gone else 0
        return self.seen >= self.looks


def _error_line(error):
    last = error["text"].splitlines()[-1] if error["text"] else ""
    return f"cell {error['cell']}: {error['where']}: {last}"


def _move_all(page, report, limits, stem):
    """Move each control once; those that appear meanwhile too, then those behind closed tabs."""
    moved, problems = report["controls"], report["problems"]
    todo = page.ask("controls")
    while todo and len(moved) < limits.controls:
        for control in todo:
            moved.append(controls.move(page, control, limits.react_s, stem))
            if moved[-1]["problem"]:
                label = f"{control['kind']} '{control['label']}' (cell {control['cell']})"
                problems.append(f"{label}: {moved[-1]['problem']}")
        todo = page.ask("controls") or _unfold(page)
    said = "\n".join(problems)
    problems += [line for line in map(_error_line, page.ask("errors")) if line.rpartition(": ")[2] not in said]


def _unfold(page):
    """Open closed tabs and pages until one has a control; return what appeared."""
    while folds := page.ask("folds"):
        found = []
        for number in folds:
            page.page.locator(f'[data-walk-fold="{number}"]').click()
            time.sleep(0.4)
            found += page.ask("controls")
        if found:
            return found
    return []

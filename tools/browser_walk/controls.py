"""Move one control by keyboard and see whether anything else on the page changes."""

import time
from pathlib import Path

# The first press is the test; the others come only while nothing else has changed. No arrow up or down on a list:
# JupyterLab takes these to move between cells. "mouse" is the last resort for a control that no key has moved.
PRESSES = {
    "slider": ["ArrowRight", "ArrowLeft", "PageUp", "PageDown", "End", "Home", "mouse"],
    "dropdown": ["End", "Home", "mouse"],
    "select": ["End", "Home", "mouse"],
    "number": ["ArrowUp Enter", "ArrowDown Enter", "mouse"],
    "checkbox": ["Space", "mouse"],
    "radio": ["Space", "mouse"],
    "toggles": ["Space", "mouse"],
    "text": ["1 Enter"],
    "textarea": ["1 Tab"],
    "play": ["Space", "mouse"],
    "toggle": ["Space", "mouse"],
    "button": ["Space", "mouse"],
}
ONLY_BY_EFFECT = ("button", "play")  # a press shows in nothing but what it does
OTHERS = {"radio": "input[type=radio]:not(:checked)", "toggles": "button:not(.mod-active)"}


def move(page, control: dict, react_s: float, stem: Path) -> dict:
    """Return the control with: moved, changed_cells, presses, problem ("" if all is well), and its picture."""
    number, kind = control["id"], control["kind"]
    root = page.page.locator(f'[data-walk="{number}"]')
    report = control | {"moved": False, "changed_cells": [], "presses": []}
    before, _ = page.settle(number, react_s)
    value, errors_before = page.value(number), len(page.messages())
    for press in PRESSES[kind]:
        if not root.count():
            report |= {"moved": True, "replaced": True}
            break
        if press == "mouse" and report["moved"] and kind != "button":
            break
        _press(page, root, number, kind, press)
        report["presses"].append(press)
        moved = kind in ONLY_BY_EFFECT or page.wait(lambda: page.value(number) != value, 1.0, 0.1)
        report["moved"] |= bool(moved)
        limit_s = react_s if len(report["presses"]) == 1 else min(2, react_s)
        if moved and _reaction(page, number, before, limit_s):  # else it is at its end: try the other way
            break
    if kind == "play" and root.count():  # press again: pause it
        root.locator("button").first.click()
    after, _ = page.settle(number, max(5, react_s))
    report["changed_cells"] = _changed(after, before)
    report["problem"] = _problem(report, page.messages()[errors_before:])
    report["picture"] = f"{stem.name}_w{number:02d}.png"
    page.picture_of_cell(control["cell"], stem.with_name(report["picture"]))
    return report


def _problem(report, errors):
    if errors:
        return errors[0]["text"].strip().splitlines()[-1]
    if not report["moved"]:
        return "did not move by keyboard"
    return "" if report["changed_cells"] or report.get("replaced") else "moved, but nothing else changed"


def _changed(look, before):
    return [int(cell) for cell in look if look[cell] != before.get(cell)]


def _reaction(page, number, before, limit_s):
    """Whether another output changes; a busy kernel gets the time that it needs, up to a minute."""
    end, latest = time.time() + limit_s, time.time() + limit_s + 60
    while time.time() < min(end, latest):
        if _changed(page.ask("look", number), before):
            return True
        if not page.idle():
            end = max(end, time.time() + 1)
        time.sleep(0.15)
    return False


def _press(page, root, number, kind, press):
    key = page.page.locator(f'[data-walk-key="{number}"]')
    if kind in OTHERS:
        key = root.locator(OTHERS[kind]).first
    key.scroll_into_view_if_needed(timeout=5000)
    if press != "mouse":
        key.focus()
        for name in press.split():
            page.page.keyboard.press(name)
    elif kind in ("dropdown", "select"):
        at, count = key.evaluate("node => [node.selectedIndex, node.options.length]")
        key.select_option(index=(at + 1) % count)
    elif kind == "slider":
        track = root.locator(".noUi-target").first
        box = track.bounding_box()
        track.click(position={"x": box["width"] * 0.8, "y": box["height"] / 2}, force=True)
    else:
        key.click()

"""A notebook of faults, to show that the walk can fail."""

import json
from pathlib import Path

DEAD = """
import ipywidgets
ipywidgets.IntSlider(description='dead')
"""
RAISES = """
def callback(x):
    if x:
        raise KeyError('in a callback')
ipywidgets.interact(callback, x=ipywidgets.IntSlider(0, 0, 5, description='raises'))
"""
ALIVE = """
alive, shown = ipywidgets.IntSlider(description='alive'), ipywidgets.Label()
alive.observe(lambda change: setattr(shown, 'value', str(change['new'])), 'value')
ipywidgets.VBox([alive, shown])
"""
CELLS = [
    ("markdown", "No formulas: $\\left( x$ and $\\nothing$; no picture: ![nothing](nothing.png)"),
    ("code", DEAD),
    ("code", RAISES),
    ("code", ALIVE),
    ("code", "1 / 0"),  # the last one: JupyterLab runs nothing after an error
]
# What must be said about it: parts of the lines.
FOUND = (
    "formula did not render: undefined macro",
    "formula did not render: Extra",
    "image did not render",
    "ZeroDivisionError",
    "'dead' (cell 1): moved, but nothing else changed",
    "in a callback",
)


def write(folder: Path) -> str:
    """Write the notebook; return its name."""
    cells = []
    for i, (kind, source) in enumerate(CELLS):
        code = {"outputs": [], "execution_count": None} if kind == "code" else {}
        cells.append({"cell_type": kind, "id": f"cell-{i}", "metadata": {}, "source": source.strip(), **code})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": cells}
    (folder / "broken.ipynb").write_text(json.dumps(notebook))
    return "broken.ipynb"


def missed(problems: list[str]) -> list[str]:
    """Return what was not found, and what was found that is well."""
    lines = "\n".join(problems)
    return [part for part in FOUND if part not in lines] + [p for p in problems if "'alive'" in p]

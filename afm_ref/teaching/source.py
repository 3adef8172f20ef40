"""`show_source`: the real implementation, shown where the text speaks of it."""

import inspect
import re
import textwrap

# JupyterLab's outputs wrap code and break words; as wide as its longest line, a block
# scrolls instead. At this size 92 columns stand side by side in a window of 1280 pixels.
STYLE = "width: max-content; font-size: 0.9em"


def source_text(fn) -> str:
    """Return fn's source as the package has it, less the Test: lines of docstrings."""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(fn)))
    return re.sub(r"\n *Test: tests/.*(\n *tests/.*)*", "", source).rstrip()


def show_source(*fns) -> None:
    """Display the source of functions or classes of the package as highlighted code."""
    from IPython.display import Markdown, display

    for fn in fns:
        where = inspect.getsourcefile(inspect.unwrap(fn))
        where = "afm_ref" + where.replace("\\", "/").rpartition("/afm_ref")[2]
        code = f"```python\n{source_text(fn)}\n```"
        display(Markdown(f'`{where}`\n\n<div style="{STYLE}">\n\n{code}\n\n</div>'))

"""`show_source`: the real implementation, shown where the text speaks of it."""

import ast
import inspect
import textwrap

COLUMNS = 92  # what JupyterLab shows of a line at its default width


def source_text(fn) -> str:
    """Return fn's source as the package has it; its docstring without Test: lines and wrapped narrower."""
    fn = inspect.unwrap(fn)
    source = textwrap.dedent(inspect.getsource(fn))
    lines = source.splitlines()
    start, end = _docstring_lines(source)
    return "\n".join(lines[:start] + _shortened(lines[start:end]) + lines[end:])


def _shortened(docstring):
    out, in_test = [], False
    for line in docstring:
        text, indent = line.strip(), line[: len(line) - len(line.lstrip())]
        in_test = text.startswith("Test:") or (in_test and text.startswith("tests/"))
        if not in_test:
            out += textwrap.wrap(line, COLUMNS, subsequent_indent=indent, break_long_words=False) or [""]
    return out


def _docstring_lines(source):
    """Return the line range, from 0, of the docstring; an empty range if there is none."""
    node = ast.parse(source).body[0]
    first = node.body[0] if getattr(node, "body", None) else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return first.lineno - 1, first.end_lineno
    return 0, 0


def show_source(*fns) -> None:
    """Display the source of one or more functions or classes of the package as highlighted code."""
    from IPython.display import Markdown, display

    for fn in fns:
        where = inspect.unwrap(fn).__module__.replace(".", "/") + ".py"
        display(Markdown(f"`{where}`\n\n```python\n{source_text(fn)}\n```"))

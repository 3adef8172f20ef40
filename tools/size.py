"""Count the package by room: files, lines, tokens of code, lines of docstrings; its longest functions.

    python -m tools.size [FOLDER]      default: afm_ref

Tokens are names, operators, numbers and strings, docstrings and comments left out: wrapping a line changes nothing.
"""

import ast
import collections
import io
import sys
import tokenize
from pathlib import Path

COUNTED = (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING)
LONGEST = 12


def docstrings(tree: ast.AST) -> list[ast.Expr]:
    """Return the statements that are docstrings."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, kinds) and ast.get_docstring(node, clean=False)]
    return [node.body[0] for node in nodes]


def count(source: str) -> collections.Counter:
    """Return a file's counts."""
    found = docstrings(ast.parse(source))
    starts = {(node.lineno, node.col_offset) for node in found}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return collections.Counter(
        files=1,
        lines=len(source.splitlines()),
        tokens=sum(token.type in COUNTED and token.start not in starts for token in tokens),
        docstring_lines=sum(node.end_lineno - node.lineno + 1 for node in found),
        wide_lines=sum(len(line) > 92 for line in source.splitlines()),
    )


def bodies(source: str):
    """Yield (lines of the body without its docstring, name) of every function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            yield (body[-1].end_lineno - body[0].lineno + 1 if body else 0), node.name


def main(folder: str = "afm_ref") -> None:
    """Print the tables."""
    root = Path(folder)
    rooms, longest, lengths = collections.defaultdict(collections.Counter), [], []
    for file in sorted(root.rglob("*.py")):
        source = file.read_text(encoding="utf-8")
        parts = file.relative_to(root).parts
        rooms["/".join(parts[:-1]) or "."] += count(source)
        found = list(bodies(source))
        lengths += [lines for lines, _ in found]
        longest += [(lines, f"{file}: {name}") for lines, name in found]
    rooms["all"] = sum(rooms.values(), collections.Counter())
    columns = ("files", "lines", "tokens", "docstring_lines", "wide_lines")
    print(f"{'room':28}" + "".join(f"{column:>16}" for column in columns))
    for room, counts in sorted(rooms.items(), key=lambda item: item[0] == "all"):
        print(f"{room:28}" + "".join(f"{counts[column]:>16,}" for column in columns))
    print(f"\nmedian body {sorted(lengths)[len(lengths) // 2]} lines; the longest:")
    for lines, where in sorted(longest, reverse=True)[:LONGEST]:
        print(f"{lines:5} {where}")


if __name__ == "__main__":
    main(*sys.argv[1:])

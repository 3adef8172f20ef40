"""Count the package by room, and list where it breaks the rules of the house.

    python -m tools.size [FOLDER]      default: afm_ref

Tokens are names, operators, numbers and strings; docstrings, comments and a comma before a closing bracket are left
out, so that wrapping a line changes nothing.
"""

import ast
import collections
import io
import itertools
import sys
import tokenize
from pathlib import Path
from typing import NamedTuple

COUNTED = (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING)
COLUMNS = ("files", "lines", "tokens", "docstring_lines", "wide_lines")
MODULES, LINES, BODY = 12, 300, 45  # at most, of a folder, a file, a function
BY_CHAPTER = {"chapters", "exercises"}  # folders of a file a chapter, of which there may be seventeen
VERBS = {"add_arguments", "load", "main", "run", "save"}  # said with their module's name: module.run


class File(NamedTuple):
    """A module with its text and its syntax tree."""

    path: Path
    source: str
    tree: ast.Module

    @property
    def public(self) -> list:
        """Return its functions and classes without an underscore."""
        kinds = (ast.FunctionDef, ast.ClassDef)
        return [node for node in self.tree.body if isinstance(node, kinds) and not node.name.startswith("_")]


def read(root: Path) -> list[File]:
    """Return the modules below a folder."""
    sources = {path: path.read_text(encoding="utf-8") for path in sorted(root.rglob("*.py"))}
    return [File(path, source, ast.parse(source)) for path, source in sources.items()]


def docstrings(tree: ast.AST) -> list[ast.Expr]:
    """Return the statements that are docstrings."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, kinds) and ast.get_docstring(node, clean=False)]
    return [node.body[0] for node in nodes]


def count(file: File) -> collections.Counter:
    """Return a file's counts."""
    found = docstrings(file.tree)
    starts = {(node.lineno, node.col_offset) for node in found}
    tokens = tokenize.generate_tokens(io.StringIO(file.source).readline)
    words = [token.string for token in tokens if token.type in COUNTED and token.start not in starts]
    commas = sum(a == "," and b in (")", "]", "}") for a, b in itertools.pairwise(words))
    lines = file.source.splitlines()
    return collections.Counter(
        files=1,
        lines=len(lines),
        tokens=len(words) - commas,
        docstring_lines=sum(node.end_lineno - node.lineno + 1 for node in found),
        wide_lines=sum(len(line) > 92 for line in lines),
    )


def bodies(tree: ast.AST):
    """Yield (lines of the body without its docstring, name) of every function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            yield (body[-1].end_lineno - body[0].lineno + 1 if body else 0), node.name


def shadowed(files: list[File]) -> list[str]:
    """Return the modules whose package binds their name to something else, such as a function of theirs."""
    found = []
    for file in files:
        if file.path.name == "__init__.py":
            imports = [node for node in file.tree.body if isinstance(node, ast.ImportFrom) and node.module]
            names = {alias.asname or alias.name for node in imports for alias in node.names}
            names |= {node.name for node in file.public}
            found += [str(module.path) for module in files if module.path.parent == file.path.parent
                      and module.path.stem in names]  # fmt: skip
    return found


def twice(pairs) -> list[str]:
    """Return "name: places" of the names that stand in two places; pairs: (name, place)."""
    places = collections.defaultdict(list)
    for name, place in pairs:
        places[name].append(str(place))
    return [f"{name}: {', '.join(where)}" for name, where in places.items() if len(where) > 1]


def house(files: list[File]) -> dict[str, list[str]]:
    """Return {rule: where it is broken}."""
    modules = [file for file in files if not file.path.stem.startswith("__")]
    folders = collections.Counter(file.path.parent for file in modules if file.path.parent.name not in BY_CHAPTER)
    names = [(node, file) for file in modules for node in file.public if file.path.parent.name != "exercises"]
    return {
        f"folders of more than {MODULES} modules": [f"{path}: {n}" for path, n in folders.items() if n > MODULES],
        "modules shadowed by a name of their package": shadowed(files),
        "module names used twice": twice((file.path.stem, file.path) for file in modules),
        "public names in two modules": twice((n.name, file.path) for n, file in names if n.name not in VERBS),
        f"files over {LINES} lines": [
            f"{file.path}: {lines}" for file in files if (lines := len(file.source.splitlines())) > LINES
        ],
        f"bodies over {BODY} lines": [
            f"{file.path}: {name}, {lines}" for file in files for lines, name in bodies(file.tree) if lines > BODY
        ],
        "public names without docstring": [
            f"{file.path}: {node.name}" for node, file in names if not ast.get_docstring(node)
        ],
    }


def main(folder: str = "afm_ref") -> None:
    """Print the tables."""
    root = Path(folder)
    files, rooms = read(root), collections.defaultdict(collections.Counter)
    for file in files:
        rooms[file.path.parent.relative_to(root).as_posix()] += count(file)
    rooms["all"] = sum(rooms.values(), collections.Counter())
    print(f"{'room':28}" + "".join(f"{column:>16}" for column in COLUMNS))
    for room, counts in rooms.items():
        print(f"{room:28}" + "".join(f"{counts[column]:>16,}" for column in COLUMNS))
    lengths = sorted(lines for file in files for lines, _ in bodies(file.tree))
    print(f"\nmedian body {lengths[len(lengths) // 2]} lines, longest {lengths[-1]}")
    for rule, found in house(files).items():
        print(f"\n{rule}: {len(found)}", *found, sep="\n    ")


if __name__ == "__main__":
    main(*sys.argv[1:])

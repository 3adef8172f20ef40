"""Execute every notebook in place and redraw figures/: the only command that writes either.

    python -m tools.regenerate [NAME ...]     all notebooks, or those whose path contains a NAME
    python -m tools.regenerate --check        write nothing; report what would change, byte by byte

Two runs on one machine give the same bytes:
- cell ids are those an author chose, or hashes of the cells' sources; one thread count is set; timing and kernel
  details are not recorded;
- text chunks (time, software) are taken out of every PNG;
- a widget's view is not stored: its model dies with the kernel, and GitHub calls the notebook invalid. The static
  figure that teaching.widgets puts into the same output is;
- progress bars go to stderr or to a widget, and neither is stored;
- a cell whose text shows the clock (seconds, tokens per second) carries the tag `volatile` beside
  `nbval-ignore-output`: its pictures are stored, its text is not. The prose says what to expect.
Anything else on stderr is an error unless the cell is tagged `nbval-ignore-output`: pytest --nbval compares it.

Notebooks call afm_ref.teaching.figures.save, which writes to the folder that AFM_REF_FIGURES names, and only then.
"""

import argparse
import hashlib
import os
import re
import sys
import tempfile
import zlib
from pathlib import Path

from tools import environment

ROOT = Path(__file__).resolve().parent.parent
WIDGET = "application/vnd.jupyter.widget-view+json"
RANDOM_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f-]+)?")  # as nbformat and JupyterLab make them
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def plain_png(data: bytes) -> bytes:
    """Return the PNG without its ancillary text and time chunks."""
    out, at = data[:8], 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunk = data[at : at + 12 + length]
        if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            raise ValueError("not a whole PNG file: a chunk's checksum is wrong")
        if chunk[4:8] not in (b"tEXt", b"zTXt", b"iTXt", b"tIME"):
            out += chunk
        at += len(chunk)
    return out


def clean_output(output, tags: set[str], where: str):
    """Return the output as it is stored, or None if it is not."""
    import base64

    if output.output_type == "stream":
        if output.name == "stderr" and "nbval-ignore-output" not in tags:
            raise ValueError(f"{where} writes to stderr: silence it, or tag the cell.\n{output.text}")
        return None if output.name == "stderr" or "volatile" in tags else output
    if output.output_type == "error":  # only a cell tagged raises-exception gets here
        output.traceback = []  # it names files of this machine; name and value stay
        return output
    if output.data.pop(WIDGET, None) is not None and "image/png" not in output.data:
        return None
    if "image/png" in output.data:
        png = plain_png(base64.b64decode(output.data["image/png"]))
        output.data["image/png"] = base64.b64encode(png).decode() + "\n"
        return output
    return None if "volatile" in tags else output


def clean(notebook, name: str):
    """Return the executed notebook with nothing in it that another run would change."""
    import nbformat

    notebook.metadata = nbformat.from_dict(METADATA)
    seen: dict[str, int] = {}
    for index, cell in enumerate(notebook.cells):
        key = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        seen[key] = seen.get(key, 0) + 1
        if RANDOM_ID.fullmatch(cell.id):
            cell.id = key if seen[key] == 1 else f"{key}-{seen[key]}"
        cell.metadata = nbformat.from_dict({k: cell.metadata[k] for k in ("jupyter", "tags") if k in cell.metadata})
        if cell.cell_type == "code":
            tags = set(cell.metadata.get("tags", []))
            outputs = [clean_output(o, tags, f"{name}, cell {index}") for o in cell.outputs]
            cell.outputs = [o for o in outputs if o is not None]
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def execute(path: Path, figures: Path, timeout_s: int = 600) -> str:
    """Run the notebook in its own folder, as JupyterLab does, and return the file's new text."""
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        notebook,
        timeout=timeout_s,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--log-level=ERROR"],  # of the kernel: no warning about its local ports
        record_timing=False,
        coalesce_streams=True,
    ).execute(env={**os.environ, "AFM_REF_FIGURES": str(figures)})
    notebook = clean(notebook, path.name)
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def regenerate(paths: list[Path], root: Path, out: Path) -> None:
    """Write the executed notebooks and their figures below `out`, laid out as below `root`."""
    from tqdm import tqdm

    figures = out / "figures"
    figures.mkdir(parents=True)
    bar = tqdm(paths, desc="notebooks", unit="notebook")
    for path in bar:
        bar.set_postfix_str(path.name)
        target = out / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(execute(path, figures), encoding="utf-8")
    for png in figures.glob("*.png"):
        png.write_bytes(plain_png(png.read_bytes()))


def changes(root: Path, out: Path, whole: bool) -> dict[str, str]:
    """Return {relative path: what changes} between root and out; figures nobody drew count if `whole`."""
    found = {}
    for new in sorted(p for p in out.rglob("*") if p.is_file()):
        old = root / new.relative_to(out)
        if not old.exists():
            found[str(new.relative_to(out))] = "new"
        elif old.read_bytes() != new.read_bytes():
            found[str(new.relative_to(out))] = "changed"
    for old in sorted((root / "figures").glob("*")) if whole else ():
        if not (out / "figures" / old.name).exists():
            found[f"figures/{old.name}"] = "no notebook draws it"
    return found


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Regenerate, then replace what changed (or, with --check, report it and return 1)."""
    parser = argparse.ArgumentParser(prog="python -m tools.regenerate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help="parts of the paths of notebooks (default: all)")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if anything would change")
    args = parser.parse_args(arguments)
    environment.prepare()
    import matplotlib.font_manager  # noqa: F401 - builds the font cache here, not on a cell's stderr

    found = [p for p in sorted((root / "notebooks").rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts]
    paths = [p for p in found if not args.names or any(n in p.relative_to(root).as_posix() for n in args.names)]
    if not paths:
        parser.error(f"no notebook matches {args.names}; there are {[p.name for p in found]}")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        regenerate(paths, root, out)
        todo = changes(root, out, whole=not args.names)
        for name, what in todo.items():
            print(f"{name}: {what}")
            if args.check:
                continue
            (root / name).unlink(missing_ok=True)
            if (out / name).exists():
                (root / name).parent.mkdir(exist_ok=True)
                (root / name).write_bytes((out / name).read_bytes())
    print(f"{len(paths)} notebooks, {len(todo)} files {'would change' if args.check else 'changed'}")
    return int(args.check and bool(todo))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

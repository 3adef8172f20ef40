"""Walk notebooks in a real JupyterLab in a real Chromium, as a reader does.

For every notebook: clear the outputs, Run All Cells, read back the errors, photograph the page, then move each control
(slider, list, box, button) once by keyboard and see whether anything else on the page changes. Nothing is saved.
Found are: an error, a cell left unrun, a timeout, a widget that does not appear, does not move or changes nothing, a
formula or a picture that does not render. The python that runs this needs playwright, --python needs jupyterlab and
what the notebooks import.

OUT gets NAME_00.png, ... (the page after Run All), NAME_w00.png, ... (a cell after its control has moved),
NAME.executed.ipynb and report.json. Exit status: 0 all well, 1 something found, 2 the walk itself was not possible.
"""

import argparse
import json
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.browser_walk import broken
from tools.browser_walk.server import Server
from tools.browser_walk.walk import Limits, walk

CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
CHROMIUM += ["--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]
SIZE = {"width": 1280, "height": 1200}


def walk_all(python: str, chromium: str, root: Path, names: list[str], out: Path, limits: Limits, jobs=1) -> list[dict]:
    """Return each notebook's report, printing them as they come; `jobs` at a time, each in a browser of its own."""
    out.mkdir(parents=True, exist_ok=True)
    left, jobs = iter(names), min(max(jobs, 1), len(names))
    with ThreadPoolExecutor(jobs) as pool:
        walks = [
            pool.submit(_walk_next, python, chromium, root, left, out, limits, f"jupyterlab_{job}.log")
            for job in range(jobs)
        ]
        try:
            reports = [report for each in walks for report in each.result()]
        finally:
            list(left)  # after Ctrl-C or a failure nobody begins another
    reports.sort(key=lambda report: names.index(report["notebook"]))
    (out / "report.json").write_text(json.dumps(reports, indent=1) + "\n")
    return reports


def _walk_next(python, chromium, root, left, out, limits, log):
    """Walk what comes next until nothing is left."""
    from playwright.sync_api import sync_playwright

    reports = []
    with (
        tempfile.TemporaryDirectory(prefix="browser_walk_", ignore_cleanup_errors=True) as scratch,
        Server(python, root, Path(scratch), out / log) as server,
        sync_playwright() as playwright,
    ):
        options = {"executable_path": chromium, "headless": True, "args": CHROMIUM, "viewport": SIZE}
        context = playwright.chromium.launch_persistent_context(f"{scratch}/chromium", **options)
        for name in left:
            reports.append(report := walk(context, server, name, out, limits))
            print(summary(report), flush=True)
        context.close()
    return reports


def summary(report: dict) -> str:
    """Return a report in a few lines."""
    cells, controls = report.get("cells", {}), report["controls"]
    well = sum(not control["problem"] for control in controls)
    head = (
        f"{'FAIL' if report['problems'] else 'ok  '} {report['notebook']}: {cells.get('run')}/{cells.get('code')} cells"
    )
    lines = [
        f"{head}, run {report.get('run_s')} s, total {report['total_s']} s, {report.get('formulas', 0)} formulas, "
        f"controls {well}/{len(controls)}"
    ]
    return "\n".join(lines + [f"     ! {problem}" for problem in report["problems"]])


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.browser_walk", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="the folder of notebooks")
    parser.add_argument("names", nargs="*", metavar="NAME", help="notebooks below it (default: all that lie in it)")
    parser.add_argument("--out", type=Path, required=True, help="folder for pictures and report.json")
    parser.add_argument("--python", default=sys.executable, help="of the environment that runs the notebooks")
    parser.add_argument("--chromium", default=os.environ.get("CHROMIUM", "/usr/bin/chromium"), help="the browser")
    parser.add_argument("--timeout", type=float, default=Limits().run_s, metavar="S", help="of one Run All, seconds")
    parser.add_argument("--jobs", type=int, default=1, help="notebooks at a time (default: 1); a walk mostly waits")
    parser.add_argument("--prove", action="store_true", help="first walk a notebook of faults: all must be found")
    return parser.parse_args()


def main() -> int:
    """Walk; return the exit status."""
    args = arguments()
    root = args.folder.resolve()
    names = [n if n.endswith(".ipynb") else f"{n}.ipynb" for n in args.names] or sorted(
        p.name for p in root.glob("*.ipynb")
    )
    missing = [name for name in names if not (root / name).is_file()]
    try:
        if missing or not names:
            raise FileNotFoundError(f"no notebook {', '.join(missing) or 'at all'} in {root}")
        if not os.access(args.chromium, os.X_OK):
            raise FileNotFoundError(f"no browser at {args.chromium}: install chromium, or name one by --chromium")
        if args.prove:
            print("First a notebook of faults: each must be found.")
            with tempfile.TemporaryDirectory() as folder:
                name = broken.write(Path(folder))
                (report,) = walk_all(args.python, args.chromium, Path(folder), [name], args.out / "prove", Limits())
            if missed := broken.missed(report["problems"]):
                print(f"the walk is blind: it did not find {missed}", file=sys.stderr)
                return 2
        reports = walk_all(args.python, args.chromium, root, names, args.out, Limits(run_s=args.timeout), args.jobs)
    except (RuntimeError, OSError, ImportError) as error:
        print(f"browser_walk: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    if not all(report["walked"] for report in reports):
        return 2
    return int(any(report["problems"] for report in reports))


if __name__ == "__main__":
    sys.exit(main())

"""Resolve pyproject.toml's dependencies and pin every package of the result in requirements.txt.

    pip install uv && python -m tools.lock [--upgrade]

One file serves Linux, macOS and Windows and every Python from 3.11: uv resolves for all of them at once and marks
what only some need. Without --upgrade, versions that are pinned already stay.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("notebooks", "test")
HEADER = """\
# Everything that README's commands need, each package pinned, for Python >= 3.11 on Linux, macOS and Windows.
# Generated from pyproject.toml by `python -m tools.lock` (add --upgrade for newer versions); do not edit.
"""


def main(arguments: list[str]) -> int:
    """Rewrite requirements.txt; return uv's exit status."""
    path = ROOT / "requirements.txt"
    command = ["uv", "pip", "compile", "pyproject.toml", "--universal", "--python-version", "3.11"]
    command += [option for extra in EXTRAS for option in ("--extra", extra)]
    command += ["--fork-strategy", "fewest", "--no-annotate", "--no-header", "--no-emit-package", "httpx2-jsfetch"]
    command += ["--output-file", path.name, *arguments]  # the package left out is for browsers alone
    status = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL).returncode
    if status == 0:
        pins = [line for line in path.read_text().splitlines() if line and not line.startswith(("#", "-e"))]
        path.write_text(HEADER + "\n".join(pins) + f"\n-e .[{','.join(EXTRAS)}]\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

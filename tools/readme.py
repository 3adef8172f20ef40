"""Print README.md's shell commands that contain a text: CI runs what the reader is told to run.

python -m tools.readme "pytest --nbval"
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def commands(markdown: str) -> list[str]:
    """Return the commands in fenced bash, sh, shell or console blocks, without prompts and comments."""
    blocks = re.findall(r"^```(?:bash|sh|shell|console)\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)
    lines = re.sub(r"\s*\\\n\s*", " ", "\n".join(blocks)).splitlines()
    lines = [re.sub(r"(^|\s)#.*$", "", line).removeprefix("$ ").strip() for line in lines]
    return [line for line in lines if line]


def main(text: str) -> int:
    """Print the first command that contains the text; return 1 if there is none."""
    found = [c for c in commands((ROOT / "README.md").read_text(encoding="utf-8")) if text in c]
    if not found:
        print(f"README.md has no command with {text!r}", file=sys.stderr)
        return 1
    print(found[0])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

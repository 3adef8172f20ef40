"""The repository's papers are in order: licence, version, pinned requirements, README's commands, no leaks."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import afm_ref
from tools import readme

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Spelt so that this file does not contain them.
LEAKS = re.compile(
    r"(?<![\w.+/])/(?:wor[k]|roo[t])/|/hom[e]/[a-z]+/|/User[s]/[a-z]+/|/tm[p]/w/|/op[t]/pypi"
    r"|pyp[i]\.org|pythonhoste[d]|--(?:extra-)?inde[x]-url|--find-link[s]"
)


def tracked():
    """Return the tracked files, or skip where this is no git checkout."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def without_images(text):
    """Return a notebook's text without its figures, whose base64 may hold any letters."""
    return re.sub(r'"image/png": "[^"]*"', "", text)


def test_no_file_names_this_machine_or_a_registry():
    found = []
    for path in tracked():
        if path.suffix in (".png", ".safetensors", ".npz", ".gz"):
            continue
        for match in LEAKS.finditer(without_images(path.read_text(encoding="utf-8"))):
            found.append(f"{path.relative_to(ROOT)}: {match[0]}")
    assert found == []


@pytest.mark.parametrize("text", ["cd /wo~rk/main", "'/ho~me/me/x'", "https://py~pi.org/simple", "--in~dex-url x"])
def test_a_leak_would_be_found(text):
    assert LEAKS.search(text.replace("~", ""))


def test_no_tracked_file_is_large():
    sizes = {p.relative_to(ROOT).as_posix(): p.stat().st_size for p in tracked()}
    assert {name: size for name, size in sizes.items() if size > 12_000_000} == {}


def test_the_licence_is_apache_2():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text and "Version 2.0, January 2004" in text and len(text) > 11_000
    assert PROJECT["license"] == "Apache-2.0"
    assert "license: Apache-2.0" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_version_stands_once():
    assert PROJECT["dynamic"] == ["version"] and "version" not in PROJECT
    assert f"\nversion: {afm_ref.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_requirements_pin_every_package():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith("#")]
    assert lines[-1] == "-e .[notebooks,test]"
    assert [line for line in lines[:-1] if not re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; .+)?", line)] == []


def test_requirements_pin_what_the_project_asks_for():
    pins = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    extras = PROJECT["optional-dependencies"]
    lines = PROJECT["dependencies"] + extras["notebooks"] + extras["test"]
    asked = [re.match(r"[\w-]+", line)[0] for line in lines]
    assert sorted(set(asked) - set(pins)) == []
    heavy = {"torch", "transformers", "mlx", "mlx-lm"}
    assert heavy & set(pins) == set() and heavy & set(asked) == set()


def test_readme_has_both_commands():
    commands = readme.commands((ROOT / "README.md").read_text(encoding="utf-8"))
    assert [c for c in commands if "pip install -r requirements.txt" in c]
    assert [c for c in commands if re.search(r"\bpytest --nbval\b", c)]


def test_readme_links_resolve():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r'(?:src|href)="([^"#]+)"', text)
    assert [link for link in links if not re.match(r"\w+:", link) and not (ROOT / link).exists()] == []


def test_commands_are_read_from_fenced_blocks_alone():
    text = "a `pip x`\n```bash\n# set up\npip install a && \\\n  b\n\n$ pytest --nbval  # all\n```\n"
    text += "```python\nx = 1\n```\n"
    assert readme.commands(text) == ["pip install a && b", "pytest --nbval"]


def test_ci_is_executable_and_stops_at_errors():
    script = ROOT / ".ci" / "run"
    assert os.name != "posix" or script.stat().st_mode & 0o111
    assert "set -euo pipefail" in script.read_text(encoding="utf-8")

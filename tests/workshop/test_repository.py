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


def test_no_file_names_this_machine_or_a_registry_or_is_large():
    found = []
    for path in tracked():
        assert path.stat().st_size < 12_000_000, path
        if path.suffix not in (".png", ".safetensors", ".npz", ".gz"):
            # without figures, whose base64 may hold any letters
            text = re.sub(r'"image/png": "[^"]*"', "", path.read_text(encoding="utf-8"))
            found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in LEAKS.finditer(text)]
    assert found == []
    for leak in ("cd /wo~rk/main", "'/ro~ot/x'", "/ho~me/me/x", "/Us~ers/me/x", "/tm~p/w/x", "/op~t/pypi", "py~pi.org",
                 "files.pythonhost~ed.org", "--in~dex-url x", "--extra-in~dex-url x", "--find-lin~ks x"):  # fmt: skip
        assert LEAKS.search(leak.replace("~", "")), leak


def test_licence_version_and_ci():
    text, citation = ((ROOT / name).read_text(encoding="utf-8") for name in ("LICENSE", "CITATION.cff"))
    assert "Apache License" in text and "Version 2.0, January 2004" in text and len(text) > 11_000
    assert PROJECT["license"] == "Apache-2.0" and "license: Apache-2.0" in citation
    assert PROJECT["dynamic"] == ["version"] and "version" not in PROJECT
    assert f"\nversion: {afm_ref.__version__}\n" in citation
    script = ROOT / ".ci" / "run"
    assert os.name != "posix" or script.stat().st_mode & 0o111
    assert "set -euo pipefail" in script.read_text(encoding="utf-8")


def test_requirements_pin_what_the_project_asks_for():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    *lines, last = [line for line in lines if not line.startswith("#")]
    assert last == "-e .[notebooks,test]"
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; .+)?", line)] == []
    pins = [line.partition("==")[0] for line in lines]
    extras = PROJECT["optional-dependencies"]
    lines = PROJECT["dependencies"] + extras["notebooks"] + extras["test"]
    asked = [re.match(r"[\w-]+", line)[0] for line in lines]
    assert sorted(set(asked) - set(pins)) == []
    heavy = {"torch", "transformers", "mlx", "mlx-lm"}
    assert heavy & set(pins) == set() and heavy & set(asked) == set()


def test_readme_has_both_commands_and_its_links_resolve():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = readme.commands(text)
    assert [c for c in commands if "pip install -r requirements.txt" in c]
    assert [c for c in commands if re.search(r"\bpytest --nbval\b", c)]
    links = re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r'(?:src|href)="([^"#]+)"', text)
    assert [link for link in links if not re.match(r"\w+:", link) and not (ROOT / link).exists()] == []


def test_commands_are_read_from_fenced_blocks_alone():
    text = "a `pip x`\n```bash\n# set up\npip install a && \\\n  b\n\n$ pytest --nbval  # all\n```\n"
    text += "```python\nx = 1\n```\n"
    assert readme.commands(text) == ["pip install a && b", "pytest --nbval"]

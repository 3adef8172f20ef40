"""The repository is in order: its papers, README's pieces, which run as they stand, and the rules of the house."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import afm_ref
from tools import readme, size

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
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
    commands = readme.commands(README)
    assert [c for c in commands if "pip install -r requirements.txt" in c]
    assert [c for c in commands if re.search(r"\bpytest --nbval\b", c)]
    links = re.findall(r"\]\(([^)#\s]+)", README) + re.findall(r'(?:src|href)="([^"#]+)"', README)
    assert [link for link in links if not re.match(r"\w+:", link) and not (ROOT / link).exists()] == []


def test_commands_are_read_from_fenced_blocks_alone():
    text = "a `pip x`\n```bash\n# set up\npip install a && \\\n  b\n\n$ pytest --nbval  # all\n```\n"
    text += "```python\nx = 1\n```\n"
    assert readme.commands(text) == ["pip install a && b", "pytest --nbval"]


USE, *PIECES = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def run(source):
    names = {}
    exec(compile(source, "README.md", "exec"), names)
    return names


def piece(name):
    (found,) = [source for source in PIECES if name in source and ("mdloo" in source) == (name == "mdloo")]
    return found


def test_there_are_five_pieces_of_at_most_twelve_lines():
    assert len(PIECES) == 5 and max(len(source.splitlines()) for source in PIECES) <= 12


def test_the_model_predicts_and_writes(capsys):
    names = run(USE)
    assert names["logits"].shape == (*names["tokens"].shape, names["cfg"].vocab_size)
    assert len(capsys.readouterr().out) > 60


def test_leave_one_out_and_mdloo_in_a_foreign_loop(capsys):
    run(piece("leave_one_out"))
    assert capsys.readouterr().out == "[[ 0.66666667 -0.66666667  0.          0.        ]]\n"
    policy = np.exp(run(piece("mdloo"))["policy"])
    assert policy.argmax() == 4 and policy[4] / policy.sum() > 0.5


def test_one_matrix_in_4_bits(capsys):
    names = run(piece("bits=4"))
    assert 0 < float(capsys.readouterr().out) < 4 and names["palette"].codes.nbytes == 64 * 128 // 2


def test_lora_over_a_palette(capsys):
    names = run(piece("lora.LoRA"))
    assert capsys.readouterr().out == "True\n"
    A, B, x, base, lora, ops = (names[name] for name in ("A", "B", "x", "base", "lora", "ops"))
    adapted = ops.linear(x, lora.LoRA(base, A, B + 1, scale=0.5))
    np.testing.assert_allclose(adapted - ops.linear(x, base), 0.5 * x @ A.T @ (B + 1).T, rtol=1e-12)


def test_a_weight_under_fsdp(capsys):
    names = run(piece("fsdp"))
    assert float(capsys.readouterr().out) < 1e-4  # sums of 128 products of size 1, in float32
    jax, rows = names["jax"], names["rows"]

    def of_shards(W):
        cut = jax.shard_map(names["apply"], mesh=names["devices"], in_specs=(rows, names["columns"]), out_specs=rows)
        return (cut(names["x"], W) ** 2).sum()

    gradient = jax.grad(of_shards)(names["W"])
    whole = jax.grad(lambda W: ((names["x"] @ W.T) ** 2).sum())(names["W"])
    np.testing.assert_allclose(gradient, whole, rtol=1e-4, atol=1e-3)


def test_no_folder_is_crowded_and_no_module_hidden():
    found = size.house(size.read(ROOT / "afm_ref"))
    crowded = found[f"folders of more than {size.MODULES} modules"]
    assert crowded == found["modules shadowed by a name of their package"] == []


def tree(folder, **modules):
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    return size.read(folder)


def test_breaches_are_found(tmp_path):
    packed = "def pack():\n    pass\n\n\ndef unpack():\n    pass\n"
    found = size.house(tree(tmp_path, __init__="from .pack import pack\n", pack=packed, other="class pack: ...\n"))
    broken = {rule.split(" ")[-1]: len(where) for rule, where in found.items() if where}
    assert broken == {"package": 1, "modules": 1, "docstring": 3}
    assert found["modules shadowed by a name of their package"] == [str(tmp_path / "pack.py")]
    assert size.shadowed(tree(tmp_path, __init__="from . import pack\nfrom .pack import unpack\n")) == []


def test_wrapping_changes_no_count_of_tokens(tmp_path):
    one = 'def f(a, b):\n    """Add."""\n    return [a, b]\n'
    wrapped = 'def f(\n    a,\n    b,\n):\n    """Add\n    them.\n    """\n    return [a,  # first\n        b,\n    ]\n'
    counts = [size.count(file)["tokens"] for file in tree(tmp_path, one=one, wrapped=wrapped)]
    assert counts == [14, 14]


MODEL = """
import sys

class Refuse:
    \"\"\"Nothing but the standard library, NumPy and afm_ref itself may be found.\"\"\"

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ("numpy", "afm_ref"):
            raise ModuleNotFoundError(f"refused: {name}", name=name)

sys.meta_path.insert(0, Refuse())
for name in ("jax", "jaxtyping", "tqdm", "matplotlib"):
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        assert f"refused: {name}" in str(error)
    else:
        raise AssertionError(f"{name} was found")

import numpy as np
import afm_ref.config, afm_ref.losses, afm_ref.ops, afm_ref.transformer as transformer
cfg = afm_ref.config.AFMConfig(d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, d_ff=16, vocab_size=5)
params = transformer.init(cfg, 0)
tokens = np.array([[1, 2, 3]])
batch = afm_ref.losses.Batch(tokens, tokens, np.ones((1, 3)), np.zeros((1, 3), int))
total, count = afm_ref.losses.next_token(params, batch, cfg)
print(transformer.forward(params, tokens, cfg).shape, count, 0 < total < 30)
"""


def test_the_model_runs_with_numpy_alone():
    command = [sys.executable, "-W", "error", "-c", MODEL]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "(1, 3, 5) 3.0 True\n"), done.stderr

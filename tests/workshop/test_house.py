"""The rules of the house: no crowded folder, no hidden module; wrapping changes no count; the core needs NumPy."""

import subprocess
import sys
from pathlib import Path

from tools import size

ROOT = Path(__file__).resolve().parents[2]


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

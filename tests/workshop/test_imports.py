"""The core imports with NumPy alone."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
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

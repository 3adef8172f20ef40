"""Check an installed afm_ref from outside the repository: it is whole, its model predicts, its classifier judges.

Run as a script in a folder without the sources, by an environment that holds the wheel alone.
"""

import importlib
import pkgutil
from importlib import metadata, resources
from pathlib import Path

import numpy as np

import afm_ref
from afm_ref.assets import load_tiny, recording
from afm_ref.curation import quality
from afm_ref.transformer import forward

HERE = Path(__file__).resolve().parent.parent
package = Path(afm_ref.__file__).resolve().parent
assert HERE not in package.parents, f"this is the repository's afm_ref, not the installed one: {package}"
assert metadata.version("afm-ref") == afm_ref.__version__
assert resources.files("afm_ref").joinpath("py.typed").is_file(), "py.typed is not in the wheel"

modules = [module.name for module in pkgutil.walk_packages(afm_ref.__path__, "afm_ref.")]
for name in modules:  # with the package's own dependencies alone: no notebook, no test
    if not name.endswith("__main__"):
        importlib.import_module(name)

assert quality.shipped().score("The statement is used to bind names to values, and to change what objects hold.") > 0.5

assert recording("mdloo")["numbers"]["runs"], "no recordings in the wheel"
params, cfg, tokenizer = load_tiny()
tokens = np.asarray(tokenizer.encode("The for statement is used to"))[None]
logits = forward(params, tokens, cfg)
assert logits.shape == (*tokens.shape, cfg.vocab_size) and np.isfinite(logits).all()
print(f"afm_ref {afm_ref.__version__}: the tiny model goes on with {tokenizer.decode([int(logits[0, -1].argmax())])!r}")

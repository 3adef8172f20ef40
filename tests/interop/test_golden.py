"""Our logits against those of other people's code for the same weights (made by `python -m tests.golden.make`)."""

import dataclasses
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from afm_ref.containers import group
from afm_ref.interop import hugging_face
from afm_ref.transformer import forward
from tests.interop.models import assert_close, float32_unit

GOLDEN = Path(__file__).parents[1] / "golden"
EXPECTED = {
    "afm7": ("after_rope", "interleaved", True),
    "qwen3": ("before_rope", "half_split", False),
    "llama": (None, "half_split", True),
}


def read(oracle, dtype):
    params, cfg = hugging_face.load(GOLDEN / oracle, dtype=dtype)
    expected = load_file(GOLDEN / oracle / "expected.safetensors")
    return params, cfg, expected["tokens"], expected["logits"]


# NumPy on all; JAX, equal to NumPy by tests/transformer, once each way on models that differ in all that EXPECTED says.
WAYS = [(oracle, "numpy", dtype) for oracle in EXPECTED for dtype in ("float64", "float32")]
WAYS += [("afm7", "jax", "float32"), ("qwen3", "jax scan", "float64")]


@pytest.mark.parametrize("oracle, backend, dtype", WAYS)
def test_logits_equal_golden(oracle, backend, dtype):
    params, cfg, tokens, golden = read(oracle, dtype)
    assert (cfg.qk_norm, cfg.rope_layout, cfg.tie_embeddings) == EXPECTED[oracle]
    unit = float32_unit(params, tokens, cfg)
    with jax.enable_x64(dtype == "float64"):
        if backend != "numpy":
            params, tokens = jax.tree.map(jnp.asarray, params), jnp.asarray(tokens)
        if backend == "jax scan":
            params = params._replace(layers=group(params.layers))
        run = forward if backend == "numpy" else jax.jit(forward, static_argnums=2)
        ours = run(params, tokens, cfg)
        assert ours.dtype == dtype
    less_exact = "float32" if golden.dtype == np.float32 else dtype
    assert_close(ours, golden, unit, less_exact)


def test_golden_gains_tell_orders_and_layouts_apart():
    """A golden file with unit gains or one position could not fail: each other variant must be far away."""
    for oracle, (qk_norm, *_) in EXPECTED.items():
        params, cfg, tokens, golden = read(oracle, "float64")
        norms = {qk_norm} if qk_norm is None else {"after_rope", "before_rope"}
        for norm, layout in itertools.product(norms, ("interleaved", "half_split")):
            other = dataclasses.replace(cfg, qk_norm=norm, rope_layout=layout)
            assert other == cfg or np.abs(forward(params, tokens, other) - golden).max() > 1e-2, (oracle, norm, layout)

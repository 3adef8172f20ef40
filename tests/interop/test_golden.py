"""Our logits against those of other people's code for the same weights (made by `python -m tests.golden.make`)."""

import dataclasses
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


WAYS = [("numpy", "float64"), ("numpy", "float32"), ("jax", "float32"), ("jax scan", "float64")]


# NumPy on all; JAX, equal to NumPy by tests/transformer, once each way on models that differ in all that EXPECTED says.
QUICK = [*((oracle, way) for oracle in EXPECTED for way in WAYS[:2]), ("afm7", WAYS[2]), ("qwen3", WAYS[3])]


@pytest.mark.parametrize(
    "oracle, backend, dtype",
    [
        pytest.param(oracle, *way, marks=[] if (oracle, way) in QUICK else pytest.mark.slow)
        for oracle in sorted(EXPECTED)
        for way in WAYS
    ],
)
def test_logits_equal_golden(oracle, backend, dtype):
    params, cfg, tokens, golden = read(oracle, dtype)
    assert (cfg.qk_norm, cfg.rope_layout, cfg.tie_embeddings) == EXPECTED[oracle]
    unit = float32_unit(params, tokens, cfg)
    with jax.enable_x64(dtype == "float64"):
        if backend != "numpy":
            params, tokens = jax.tree.map(jnp.asarray, params), jnp.asarray(tokens)
        if backend == "jax scan":
            params = params._replace(layers=group(params.layers))
        ours = (
            jax.jit(forward, static_argnums=2)(params, tokens, cfg)
            if backend != "numpy"
            else forward(params, tokens, cfg)
        )
        assert ours.dtype == dtype
    less_exact = "float32" if golden.dtype == np.float32 else dtype
    assert_close(ours, golden, unit, less_exact)


@pytest.mark.parametrize("oracle", sorted(EXPECTED))
def test_golden_gains_tell_orders_and_layouts_apart(oracle):
    """A golden file with unit gains or one position could not fail: each other variant must be far away."""
    params, cfg, tokens, golden = read(oracle, "float64")
    norms = [None] if cfg.qk_norm is None else ["after_rope", "before_rope"]
    for qk_norm in norms:
        for layout in ("interleaved", "half_split"):
            other = dataclasses.replace(cfg, qk_norm=qk_norm, rope_layout=layout)
            distance = np.abs(forward(params, tokens, other) - golden).max()
            assert (distance < 1e-4) == (other == cfg) and (other == cfg or distance > 1e-2)

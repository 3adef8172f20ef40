"""Our logits against those of other people's code (made by `python -m tests.golden.make`); RoPE's two layouts."""

import dataclasses
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from afm_ref.containers import Remat, group, ungrouped
from afm_ref.interop import hugging_face
from afm_ref.interop.rope_layout import permute_rope_layout
from afm_ref.transformer import forward
from tests.interop import models
from tests.interop.models import SMALL, assert_close, float32_unit, logits_float64, random_params

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


@pytest.mark.parametrize("qk_norm, head_dim", [("after_rope", 8), ("before_rope", 6), (None, 2), (None, 8)])
@pytest.mark.parametrize("layout", ["interleaved", "half_split"])
def test_logits_do_not_change(qk_norm, head_dim, layout):
    cfg = dataclasses.replace(SMALL, qk_norm=qk_norm, head_dim=head_dim, rope_layout=layout)
    params, tokens = random_params(cfg), models.random_tokens(cfg)
    other = {"interleaved": "half_split", "half_split": "interleaved"}[layout]
    moved, moved_cfg = permute_rope_layout(params, cfg, other)
    assert moved_cfg == dataclasses.replace(cfg, rope_layout=other)
    expected = logits_float64(params, tokens, cfg)
    assert_close(logits_float64(moved, tokens, moved_cfg), expected, float32_unit(params, tokens, cfg), "float64")
    if head_dim > 2:  # with a single pair both layouts are the same
        assert np.abs(logits_float64(params, tokens, moved_cfg) - expected).max() > 1e-2
    back, back_cfg = permute_rope_layout(moved, moved_cfg, layout)
    assert back_cfg == cfg and models.same_weights(back, params)


def test_a_layout_conversion_reaches_into_containers_of_jax_arrays():
    params = random_params(SMALL)
    reusing = params.layers[1]._replace(wk=None, wv=None, k_norm=None)
    params = params._replace(layers=(*params.layers, reusing))
    expected, _ = permute_rope_layout(params, SMALL, "half_split")
    wrapped = jax.tree.map(jnp.asarray, params)
    moved, _ = permute_rope_layout(wrapped._replace(layers=Remat(group(wrapped.layers))), SMALL, "half_split")
    assert models.same_weights(jax.tree.map(np.asarray, ungrouped(moved)), expected)


def test_the_same_layout_changes_nothing_and_others_are_refused():
    params = random_params(SMALL)
    assert permute_rope_layout(params, SMALL, "interleaved") == (params, SMALL)
    with pytest.raises(ValueError, match="layout must be"):
        permute_rope_layout(params, SMALL, "neox")
    with pytest.raises(ValueError, match="wq is a object: merge it"):
        permute_rope_layout(params._replace(layers=(params.layers[0]._replace(wq=object()),)), SMALL, "half_split")
    with pytest.raises(ValueError, match="layers in a object"):
        permute_rope_layout(params._replace(layers=object()), SMALL, "half_split")

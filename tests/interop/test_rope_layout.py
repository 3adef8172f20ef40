"""The two RoPE layouts are one model with its channels in another order."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afm_ref.containers import Remat, group, ungrouped
from afm_ref.interop.rope_layout import permute_rope_layout
from tests.interop.models import (
    SMALL,
    assert_close,
    float32_unit,
    logits_float64,
    random_params,
    random_tokens,
    same_weights,
)


@pytest.mark.parametrize("qk_norm, head_dim", [("after_rope", 8), ("before_rope", 6), (None, 2), (None, 8)])
@pytest.mark.parametrize("layout", ["interleaved", "half_split"])
def test_logits_do_not_change(qk_norm, head_dim, layout):
    cfg = dataclasses.replace(SMALL, qk_norm=qk_norm, head_dim=head_dim, rope_layout=layout)
    params, tokens = random_params(cfg), random_tokens(cfg)
    other = {"interleaved": "half_split", "half_split": "interleaved"}[layout]
    moved, moved_cfg = permute_rope_layout(params, cfg, other)
    assert moved_cfg == dataclasses.replace(cfg, rope_layout=other)
    expected = logits_float64(params, tokens, cfg)
    assert_close(logits_float64(moved, tokens, moved_cfg), expected, float32_unit(params, tokens, cfg), "float64")
    if head_dim > 2:  # with a single pair both layouts are the same
        assert np.abs(logits_float64(params, tokens, moved_cfg) - expected).max() > 1e-2
    back, back_cfg = permute_rope_layout(moved, moved_cfg, layout)
    assert back_cfg == cfg and same_weights(back, params)


def test_it_reaches_into_containers_of_jax_arrays():
    params = random_params(SMALL)
    reusing = params.layers[1]._replace(wk=None, wv=None, k_norm=None)
    params = params._replace(layers=(*params.layers, reusing))
    expected, _ = permute_rope_layout(params, SMALL, "half_split")
    wrapped = jax.tree.map(jnp.asarray, params)
    moved, _ = permute_rope_layout(wrapped._replace(layers=Remat(group(wrapped.layers))), SMALL, "half_split")
    assert same_weights(jax.tree.map(np.asarray, ungrouped(moved)), expected)


def test_the_same_layout_changes_nothing_and_others_are_refused():
    params = random_params(SMALL)
    assert permute_rope_layout(params, SMALL, "interleaved") == (params, SMALL)
    with pytest.raises(ValueError, match="layout must be"):
        permute_rope_layout(params, SMALL, "neox")
    with pytest.raises(ValueError, match="wq is a object: merge it"):
        permute_rope_layout(params._replace(layers=(params.layers[0]._replace(wq=object()),)), SMALL, "half_split")
    with pytest.raises(ValueError, match="layers in a object"):
        permute_rope_layout(params._replace(layers=object()), SMALL, "half_split")

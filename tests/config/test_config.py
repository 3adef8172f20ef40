"""The config refuses what cannot be a model, and its arithmetic is that of facts anyone can rerun."""

import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref import config, transformer
from afm_ref.config import AFM_ON_DEVICE, AFM_TINY, AFMConfig

SMALL = dict(d_model=16, n_layers=2, n_heads=6, n_kv_heads=2, head_dim=4, d_ff=24, vocab_size=32)


def test_on_device_reproduces_the_published_counts():
    counts = config.parameters(AFM_ON_DEVICE)
    assert counts == {"non_embedding": 2_586_744_320, "embedding": 150_994_944, "total": 2_737_739_264}
    assert f"{counts['embedding'] / 1e9:.2f}" == "0.15"  # Table 1, and 2.58 when truncated
    assert int(counts["non_embedding"] / 1e7) == 258
    assert config.weight_bytes(AFM_ON_DEVICE) == 2 * counts["total"]
    assert config.kv_cache_bytes_per_token(AFM_ON_DEVICE) == 106_496
    assert config.kv_cache_bytes_per_token(AFM_ON_DEVICE) * 4096 == 416 * 2**20
    without_gqa = dataclasses.replace(AFM_ON_DEVICE, n_kv_heads=24)
    assert config.kv_cache_bytes_per_token(without_gqa) == 319_488


def test_on_device_attention_flops():
    long, short = (config.train_flops_per_token(AFM_ON_DEVICE, t) for t in (4096, 0))
    assert long - short == 6 * 26 * 3072 * 4096  # 1.96e9, facts of AXLearn's accounting
    assert 0.999 < short / (6 * 2_737_739_264) < 1  # 6N, less the gains, which multiply nothing out


@settings(max_examples=15)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.booleans(), st.sampled_from(["after_rope", None]))
def test_counts_equal_the_sizes_of_real_arrays(n_kv_heads, groups, layers, tied, qk_norm):
    cfg = AFMConfig(12, layers, n_kv_heads * groups, n_kv_heads, 6, 20, 11, qk_norm=qk_norm, tie_embeddings=tied)
    assert config.parameters(cfg)["total"] == sum(leaf.size for leaf in jax.tree.leaves(transformer.init(cfg, 0)))


def test_flops_equal_those_the_compiler_counts():
    # At d_model 256 the matmuls are nearly all of the work; XLA counts every elementwise operation as well, and
    # scores for all T keys where a causal model needs half of them.
    cfg = AFMConfig(256, 1, 4, 2, 64, 704, 4096)
    params = jax.eval_shape(lambda: jax.tree.map(jax.numpy.asarray, transformer.init(cfg, 0)))
    tokens = jax.ShapeDtypeStruct((1, 128), np.int32)
    cost = jax.jit(lambda p, t: transformer.forward(p, t, cfg)).lower(params, tokens).compile().cost_analysis()
    full_attention = config.forward_flops_per_token(cfg, 2 * 128) * 128
    assert full_attention < cost["flops"] < 1.03 * full_attention


@pytest.mark.parametrize("name", ["d_model", "n_layers", "n_heads", "n_kv_heads", "head_dim", "d_ff", "vocab_size"])
@pytest.mark.parametrize("bad, error", [(0, ValueError), (-2, ValueError), (4.0, TypeError), (True, TypeError)])
def test_dimensions_are_positive_ints(name, bad, error):
    with pytest.raises(error, match=name):
        AFMConfig(**(SMALL | {name: bad}))


BAD = dict(n_kv_heads=[4], head_dim=[5], rope_theta=[1.0, np.inf], norm_eps=[0.0, np.nan], qk_norm=["sometimes"])
BAD |= dict(rope_layout=[None], tie_embeddings=[1])


@pytest.mark.parametrize("field, bad", [(field, bad) for field, values in BAD.items() for bad in values])
def test_what_cannot_be_a_model_is_refused_by_name(field, bad):
    made = object.__new__(AFMConfig)  # past __init__, where these tests' type checker would refuse some before we do
    for name, value in (AFM_TINY.to_dict() | SMALL | {field: bad}).items():
        object.__setattr__(made, name, value)
    with pytest.raises(ValueError, match=field):
        made.__post_init__()


def test_config_is_frozen_and_survives_a_dict():
    with pytest.raises(dataclasses.FrozenInstanceError):
        AFM_TINY.d_model = 8
    assert AFMConfig.from_dict(AFM_TINY.to_dict()) == AFM_TINY
    with pytest.raises(ValueError, match=r"unknown.*dropout"):
        AFMConfig.from_dict(SMALL | {"dropout": 0.1})
    with pytest.raises(ValueError, match=r"missing.*d_ff"):
        AFMConfig.from_dict({k: v for k, v in SMALL.items() if k != "d_ff"})

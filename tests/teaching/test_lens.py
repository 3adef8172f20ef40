"""Watching attention must report the weights that attention used, and must not change it."""

import numpy as np

from afm_ref import ops, transformer
from afm_ref.config import AFMConfig
from afm_ref.teaching.lens import Watching, attention_weights
from afm_ref.transformer import Causal


def test_weights_average_the_values_as_attention_does():
    rng = np.random.default_rng((7, 0))
    B, T, N, K, H = 2, 11, 4, 2, 4  # more keys than channels, and not a multiple
    q, k, v = (rng.standard_normal((B, T, heads, H)) for heads in (N, K, K))
    positions = np.arange(T)[None]
    mask = Causal().mask(positions, positions)
    weights = attention_weights(q, k, mask)
    assert weights.shape == (B, T, N, T)
    values = np.repeat(v, N // K, axis=2)
    assert np.allclose(np.einsum("btns,bsnh->btnh", weights, values), ops.attention(q, k, v, mask), atol=1e-12)
    assert np.allclose(weights.sum(-1), 1, atol=1e-12)
    assert np.all(weights[:, 0, :, 1:] == 0)


def test_watching_changes_nothing():
    cfg = AFMConfig(d_model=16, n_layers=3, n_heads=4, n_kv_heads=2, head_dim=8, d_ff=16, vocab_size=20)
    params = transformer.init(cfg, seed=0)
    tokens = np.arange(10)[None] % cfg.vocab_size
    watching = Watching()
    seen = transformer.forward(params, tokens, cfg, attend=watching)
    assert np.array_equal(seen, transformer.forward(params, tokens, cfg))
    assert len(watching.weights) == cfg.n_layers and watching.weights[0].shape == (1, 10, 4, 10)

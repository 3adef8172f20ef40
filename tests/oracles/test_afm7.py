"""Our logits against mlx-lm's afm7, Apple's own open implementation of this block."""

import numpy as np
import pytest

from afm_ref.transformer import forward
from tests.interop.models import assert_close, float32_unit, logits_float64, random_tokens
from tests.oracles import peers

# (N, K, H, layers that reuse keys and values): groups of 1, 3 and 4, one head, half a head's pairs odd
CASES = [(4, 4, 6, 0), (6, 2, 10, 0), (8, 2, 4, 0), (1, 1, 14, 0), (6, 2, 6, 2), (4, 1, 8, 1)]


@pytest.mark.parametrize("N, K, H, reused", CASES)
def test_logits_equal_afm7(mlx_lm, N, K, H, reused):
    rest = dict(num_kv_reuse_layers=reused, vocab_size=23, hidden_dim_scale_factor=1.75)
    model = peers.random_afm7(N, N, K, H, 4, **rest)
    params, cfg = peers.afm7_params(model)
    assert sum(layer.wk is None for layer in params.layers) == reused
    tokens = random_tokens(cfg, (2, 37))
    theirs = peers.afm7_logits(model, tokens)
    exact, unit = logits_float64(params, tokens, cfg), float32_unit(params, tokens, cfg)
    assert theirs.dtype == np.float32
    assert_close(exact, theirs, unit, "float32")
    assert_close(forward(params, tokens, cfg), theirs, unit, "float32")

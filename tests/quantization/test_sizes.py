"""The sizes of a quantized model, counted by hand."""

import numpy as np
import pytest

from afm_ref import lora
from afm_ref.config import AFMConfig, weight_bytes
from afm_ref.layers import group
from afm_ref.quantization import quantize, sizes
from afm_ref.transformer import init

CFG = AFMConfig(vocab_size=50, d_model=32, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=16, d_ff=48)


def test_sizes_of_a_small_model_by_hand():
    matrices = {
        "wq": (32, 32),
        "wk": (16, 32),
        "wv": (16, 32),
        "wo": (32, 32),
        "w_gate": (48, 32),
        "w_up": (48, 32),
        "w_down": (32, 48),
    }
    bits = {(name, i): 2 if (name, i) == ("w_up", 1) else 4 for name in matrices for i in range(2)}
    found = sizes(quantize(init(CFG, 0), bits))
    weights = 2 * sum(out * n for out, n in matrices.values())
    codes = 4 * weights - 2 * 48 * 32
    tables = sum(out // 16 * 2 ** bits[name, i] * 16 + 16 for name, (out, _) in matrices.items() for i in range(2))
    embedding = 50 * 32 * 8 + 50 * 16 + 16
    gains = 32 * (2 * (2 * 32 + 2 * 16) + 32)
    assert found.projection_bits == pytest.approx(codes / weights, rel=1e-12)
    assert found.stored_bytes * 8 == codes + tables + embedding + gains
    parameters = weights + 50 * 32 + 2 * (2 * 32 + 2 * 16) + 32
    assert found.model_bits == pytest.approx((codes + tables + embedding + gains) / parameters, rel=1e-12)


def test_a_plain_model_counts_its_dtype():
    params = init(CFG, 0)
    found = sizes(params._replace(layers=group(params.layers)))
    assert found.projection_bits == found.model_bits == 32
    assert found.stored_bytes == weight_bytes(CFG, 32, 32) + 2 * (2 * (2 * 32 + 2 * 16) + 32)  # gains: 32 bits, not 16
    assert sizes(lora.attach(params)) == found


def test_model_bits_approach_projection_bits_with_large_matrices():
    """A table of 16 float16 entries for 16 rows of n weights costs 16 / n bits a weight."""
    from afm_ref.quantization import palettize

    w = palettize(np.random.default_rng(0).standard_normal((32, 512)), 4)
    assert w.stored_bits / (32 * 512) == pytest.approx(4 + 16 / 512 + 16 / (32 * 512))

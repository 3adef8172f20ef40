"""The sizes of a quantized model counted by hand; bytes and rates of decoding at true scale."""

import dataclasses

import pytest

from afm_ref import lora
from afm_ref.config import AFM_ON_DEVICE, AFM_TINY, AFMConfig, weight_bytes
from afm_ref.containers import group, matrices, replaced
from afm_ref.quantization import int8, quantize, sizes
from afm_ref.quantization.bits import storage
from afm_ref.transformer import init

CFG = AFMConfig(vocab_size=50, d_model=32, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=16, d_ff=48)


def test_sizes_of_a_small_model_by_hand():
    matrices = dict(wq=(32, 32), wk=(16, 32), wv=(16, 32), wo=(32, 32), w_gate=(48, 32), w_up=(48, 32), w_down=(32, 48))
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
    eight = replaced(params, {key: int8(w) for key, w in matrices(params).items()})
    assert sizes(eight).projection_bits == 8


def test_on_device_numbers():
    """Gigabytes to three digits, and 40 GB/s for 30 tokens/s at 3.7 bits."""
    rows = storage.true_scale()
    assert [row["projection_bits"] for row in rows] == [16, 3.7, 3.5]
    assert [round(row["gigabytes"], 2) for row in rows] == [5.48, 1.35, 1.28]
    assert round(rows[1]["gigabytes_per_s"]) == 40
    assert storage.tokens_per_s(AFM_ON_DEVICE, 3.7, 40.4e9) == pytest.approx(30, rel=0.01)
    assert storage.tokens_per_s(AFM_ON_DEVICE, 16, 40.4e9, embedding_bits=16) == pytest.approx(7.4, rel=0.01)


def test_an_untied_head_reads_one_of_two_matrices():
    """By hand for AFM_TINY: 4 layers of 430,080 weights, 1,856 gains, an embedding of 2048 x 192."""
    read = 4 * 430_080 * 3.5 / 8 + (4 * (2 * 192 + 2 * 32) + 192) * 2 + 2048 * 192
    for cfg in (AFM_TINY, dataclasses.replace(AFM_TINY, tie_embeddings=False)):
        assert storage.weight_bytes_per_token(cfg, 3.5) == pytest.approx(read)

"""Bytes and rates of decoding at true scale, and what an untied head reads."""

import dataclasses

import pytest

from afm_ref.config import AFM_ON_DEVICE, AFM_TINY
from afm_ref.quantization import costs


def test_on_device_numbers():
    """Gigabytes to three digits, and 40 GB/s for 30 tokens/s at 3.7 bits."""
    rows = costs.true_scale()
    assert [row["projection_bits"] for row in rows] == [16, 3.7, 3.5]
    assert [round(row["gigabytes"], 2) for row in rows] == [5.48, 1.35, 1.28]
    assert round(rows[1]["gigabytes_per_s"]) == 40
    assert costs.tokens_per_s(AFM_ON_DEVICE, 3.7, 40.4e9) == pytest.approx(30, rel=0.01)
    assert costs.tokens_per_s(AFM_ON_DEVICE, 16, 40.4e9, embedding_bits=16) == pytest.approx(7.4, rel=0.01)


def test_an_untied_head_reads_one_of_two_matrices():
    """By hand for AFM_TINY: 4 layers of 430,080 weights, 1,856 gains, an embedding of 2048 x 192."""
    read = 4 * 430_080 * 3.5 / 8 + (4 * (2 * 192 + 2 * 32) + 192) * 2 + 2048 * 192
    assert costs.bytes_per_token(AFM_TINY, 3.5) == pytest.approx(read)
    untied = dataclasses.replace(AFM_TINY, tie_embeddings=False)
    assert costs.bytes_per_token(untied, 3.5) == pytest.approx(read)


def test_no_bandwidth_is_refused():
    with pytest.raises(ValueError, match="above 0 bytes a second"):
        costs.tokens_per_s(AFM_TINY, 4, 0)

"""Bytes by hand; the grid compares them with compiled programs."""

from afm_ref.config import AFMConfig
from afm_ref.parallelism.predicted import traffic
from afm_ref.parallelism.sharded.strategies import Plan

CFG = AFMConfig(d_model=8, n_layers=2, n_heads=2, n_kv_heads=2, head_dim=4, d_ff=16, vocab_size=32)
B, T = 8, 16


def test_zero_3_sends_half_as_much_again():
    # In numbers of all matrices: gathered twice and scattered once, where an all-reduce counts as two.
    matrices = 2 * (4 * 8 * 8 + 3 * 8 * 16)
    for zero, gathers in ((3, 2), (2, 1), (1, 1)):
        got = traffic.bytes_sent(Plan(CFG, "fsdp=4", zero=zero), B, T)
        assert got["all-gather"] == 3 / 4 * (gathers * matrices + 32 * 8) * 4
        assert got["reduce-scatter"] == 3 / 4 * (matrices + 32 * 8) * 4


def test_tensor_parallel_by_hand():
    # Two layers of two half blocks, each way; the embedding's sum and the head's: 2 * 4 + 2 all-reduces of [B, T, D],
    # three numbers a token, and a gradient of 2 H a layer. Over two devices an all-reduce sends its size once.
    got = traffic.bytes_sent(Plan(CFG, "model=2"), B, T)
    assert got == {"all-reduce": ((2 * 4 + 2) * B * T * 8 + 3 * B * T + 2 * 2 * 4) * 4}

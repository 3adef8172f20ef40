"""Bytes by hand; the grid compares them with compiled programs."""

from afm_ref.config import AFM_TINY, AFMConfig, parameters
from afm_ref.parallelism.predicted import traffic
from afm_ref.parallelism.sharded.strategies import Plan

CFG = AFMConfig(d_model=8, n_layers=2, n_heads=2, n_kv_heads=2, head_dim=4, d_ff=16, vocab_size=32)
B, T = 8, 16


def test_data_parallel_by_hand():
    # An all-reduce of all gradients over 8: 2 * 7/8 of their bytes; and two scalars.
    got = traffic.bytes_sent(Plan(AFM_TINY, "data=8"), B, T)
    assert got == {"all-reduce": 2 * 7 / 8 * (parameters(AFM_TINY)["total"] + 2) * 4}


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


def test_norm_regions_send_what_the_all_reduces_sent():
    # All-gather and reduce-scatter are the two halves of an all-reduce: the activations cost the same.
    plain = traffic.bytes_sent(Plan(CFG, "model=2"), B, T)
    norm = traffic.bytes_sent(Plan(CFG, "model=2", sequence="norm"), B, T)
    activations = (2 * 4 + 2) * B * T * 8 * 4
    assert norm["all-gather"] + norm["reduce-scatter"] == activations
    assert norm["all-reduce"] == plain["all-reduce"] - activations + (2 * 2 + 1) * 8 * 4  # the gains' gradients


def test_ring_and_gather_send_the_same_keys():
    def keys(sequence):
        terms = traffic.terms(Plan(CFG, "seq=4", sequence=sequence), B, T)
        return sum(term.bytes_sent for term in terms if term.what.startswith(("keys", "their")))

    # k and v of the other three parts come, and as much gradient goes: 2 * 3 * [B, T/4, K, H] * 2 a layer
    assert keys("gather") == keys("ring") == 2 * 2 * 3 * B * 4 * 8 * 2 * 4


def test_pipeline_sends_a_microbatch_a_tick():
    got = traffic.bytes_sent(Plan(CFG, "pipe=2", microbatches=4), B, T)
    assert got["collective-permute"] == 2 * (4 + 1) * 2 * T * 8 * 4  # both ways, 5 ticks, 2 sequences

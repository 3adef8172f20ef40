"""What decoding on a device is bound by: every weight is read from memory once for every token."""

from ..config import AFM_ON_DEVICE, AFMConfig, parameters, weight_bytes


def bytes_per_token(cfg: AFMConfig, projection_bits: float, embedding_bits: float = 8) -> float:
    """Return the bytes of weights that one decoded token reads: all of them, for a sequence alone.

        weight_bytes - [head not tied] V D embedding_bits / 8

    A tied embedding is read whole, as the output's matrix. Of one that is not tied, the input's half is read at a
    single row, which is not counted; nor are tables, scales and the KV cache (`config.kv_cache_bytes_per_token`).

    Source: TR24 section 5 (decoding is bound by memory bandwidth) [inferred].
    Test: tests/quantization/test_costs.py::test_an_untied_head_reads_one_of_two_matrices
    """
    unread = 0 if cfg.tie_embeddings else parameters(cfg)["embedding"] / 2 * embedding_bits / 8
    return weight_bytes(cfg, projection_bits, embedding_bits) - unread


def tokens_per_s(
    cfg: AFMConfig, projection_bits: float, bandwidth_bytes_per_s: float, embedding_bits: float = 8
) -> float:
    """Return how many tokens a second a memory bandwidth allows at most: bandwidth / bytes_per_token.

    Raises ValueError for a bandwidth that is not above 0.

    Source: roofline of a memory-bound program [standard].
    Test: tests/quantization/test_costs.py::test_on_device_numbers
    """
    if not bandwidth_bytes_per_s > 0:
        raise ValueError(f"the bandwidth must be above 0 bytes a second, got {bandwidth_bytes_per_s}")
    return bandwidth_bytes_per_s / bytes_per_token(cfg, projection_bits, embedding_bits)


def true_scale(cfg: AFMConfig = AFM_ON_DEVICE, rate: float = 30.0) -> list[dict]:
    """Return a row for 16 bits, 3.7 and 3.5 with an 8-bit embedding: GB, and the GB/s that `rate` tokens/s need.

    AFM-on-device: 5.48, 1.35 and 1.28 GB; 40 GB/s for 30 tokens/s at 3.7 bits.

    Source: BLOG24 (30 tokens/s, 3.7 and 3.5 bits per weight) [confirmed]; the bytes and GB/s are ours [ours].
    Test: tests/quantization/test_costs.py::test_on_device_numbers
    """
    widths = ((16, 16), (3.7, 8), (3.5, 8))
    return [
        {
            "projection_bits": bits,
            "embedding_bits": ends,
            "gigabytes": weight_bytes(cfg, bits, ends) / 1e9,
            "gigabytes_per_s": rate * bytes_per_token(cfg, bits, ends) / 1e9,
        }
        for bits, ends in widths
    ]

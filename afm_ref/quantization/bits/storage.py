"""What a model in few bits takes, and what decoding it reads. Three sizes, never confused:

projection_bits   code bits per weight of the projections: the 3.5 and 3.7 that are spoken of
model_bits        everything that is stored (tables, scales, the embedding, gains) per parameter
stored_bytes      the same in bytes; the file adds its header: see `interop.palettized`
"""

import math
from dataclasses import is_dataclass
from typing import NamedTuple

from ...config import AFM_ON_DEVICE, AFMConfig, parameters, weight_bytes
from ...containers import map_matrices, matrices, ungrouped
from ...weights import Params
from ..palette.quantized_weights import Quantized


class StoredSizes(NamedTuple):
    """What a model takes."""

    projection_bits: float
    model_bits: float
    stored_bytes: int


def sizes(params: Params) -> StoredSizes:
    """Return the sizes of a model, quantized or not; a plain array counts the bits of its
    dtype, an adapter nothing.

        projection_bits = sum over matrices of bits * weights / sum of weights
        model_bits      = 8 stored_bytes / parameters

    Source: BLOG24 (bits per weight); which weights Apple counts is not stated, here the
        projections [inferred].
    Test: tests/quantization/test_allocation.py::test_sizes_of_a_small_model_by_hand
    """
    import jax

    def of_base(name, w, numbers):  # without adapters (NumPy's arrays have a base, too)
        return w.base if is_dataclass(w) and hasattr(w, "base") else w

    params = map_matrices(ungrouped(params), of_base)
    projections = matrices(params).values()
    everything = jax.tree.leaves(params, is_leaf=lambda w: isinstance(w, Quantized))
    # tables and scales are not in it
    code_bits = sum(
        (w.bits if isinstance(w, Quantized) else 8 * w.dtype.itemsize) * math.prod(w.shape)
        for w in projections
    )
    stored_bits = sum(
        w.stored_bits if isinstance(w, Quantized) else 8 * w.nbytes for w in everything
    )
    return StoredSizes(
        code_bits / sum(math.prod(w.shape) for w in projections),
        stored_bits / sum(math.prod(w.shape) for w in everything),
        stored_bits // 8,
    )


def stored_bits_per_weight(params: Params) -> float:
    """Return the bits of all that is stored for the projections, over their weights.

        (codes + tables + 16 (entries of A and B)) / weights

    So adapters count here, in 16 bits; a plain array counts the bits of its dtype.
    """
    bits = weights = 0
    for w in matrices(ungrouped(params)).values():
        while is_dataclass(w) and hasattr(w, "base"):
            bits += 16 * (w.a.size + w.b.size)
            w = w.base
        bits += w.stored_bits if isinstance(w, Quantized) else 8 * w.nbytes
        weights += math.prod(w.shape)
    return bits / weights


def weight_bytes_per_token(
    cfg: AFMConfig, projection_bits: float, embedding_bits: float = 8
) -> float:
    """Return the bytes of weights that one decoded token reads: all of them, for a sequence
    alone.

        weight_bytes - [head not tied] V D embedding_bits / 8

    A tied embedding is read whole, as the output's matrix. Of one that is not tied, the
    input's half is read at a single row, which is not counted; nor are tables, scales and
    the KV cache (`config.kv_cache_bytes_per_token`).

    Source: TR24 section 5 (decoding is bound by memory bandwidth) [inferred].
    Test: tests/quantization/test_allocation.py::test_an_untied_head_reads_one_of_two_matrices
    """
    unread = (
        0 if cfg.tie_embeddings else parameters(cfg)["embedding"] / 2 * embedding_bits / 8
    )
    return weight_bytes(cfg, projection_bits, embedding_bits) - unread


def tokens_per_s(
    cfg: AFMConfig,
    projection_bits: float,
    bandwidth_bytes_per_s: float,
    embedding_bits: float = 8,
) -> float:
    """Return how many tokens a second a memory bandwidth allows at most: bandwidth over
    bytes a token.

    Source: roofline of a memory-bound program [standard].
    Test: tests/quantization/test_allocation.py::test_on_device_numbers
    """
    return bandwidth_bytes_per_s / weight_bytes_per_token(
        cfg, projection_bits, embedding_bits
    )


def true_scale() -> list[dict]:
    """Return a row for AFM-on-device in 16 bits, 3.7 and 3.5 with an 8-bit embedding: GB,
    and the GB/s that 30 tokens/s need.

    5.48, 1.35 and 1.28 GB; 40 GB/s at 3.7 bits.

    Source: BLOG24 (30 tokens/s, 3.7 and 3.5 bits per weight) [confirmed]; the bytes and
        GB/s are ours [ours].
    Test: tests/quantization/test_allocation.py::test_on_device_numbers
    """
    return [
        {
            "projection_bits": bits,
            "embedding_bits": ends,
            "gigabytes": weight_bytes(AFM_ON_DEVICE, bits, ends) / 1e9,
            "gigabytes_per_s": 30 * weight_bytes_per_token(AFM_ON_DEVICE, bits, ends) / 1e9,
        }
        for bits, ends in ((16, 16), (3.7, 8), (3.5, 8))
    ]

"""Three sizes of a quantized model, never confused: bits a projection weight, bits a parameter, bytes of the file.

projection_bits   code bits per weight of the projections: the 3.5 and 3.7 that are spoken of
model_bits        everything that is stored (tables, scales, the embedding, gains) per parameter
stored_bytes      the same in bytes; the file adds its header: see `interop.palettized`
"""

import math
from typing import NamedTuple

from ..config import MATRICES
from ..layers import ungroup
from ..weights import Params
from .weights import Int8, Palettized


class Sizes(NamedTuple):
    """What a model takes."""

    projection_bits: float
    model_bits: float
    stored_bytes: int


def sizes(params: Params) -> Sizes:
    """Return the sizes of a model, quantized or not; a plain array counts the bits of its dtype. Adapters not included.

        projection_bits = sum over matrices of bits * weights / sum of weights
        model_bits      = 8 stored_bytes / parameters

    Source: BLOG24 (bits per weight); which weights Apple counts is not stated, here the projections [inferred].
    Test: tests/quantization/test_sizes.py::test_sizes_of_a_small_model_by_hand
    """
    layers = ungroup(params.layers)
    projections = [w for layer in layers for name in MATRICES if (w := base(getattr(layer, name))) is not None]
    gains = [w for layer in layers for name, w in layer._asdict().items() if name not in MATRICES and w is not None]
    ends = [w for w in (params.embed, params.unembed, params.final_norm) if w is not None]
    everything = [*projections, *gains, *ends]
    code_bits = sum(bits_of(w) * math.prod(w.shape) for w in projections)
    stored = sum(stored_bits(w) for w in everything)
    return Sizes(
        code_bits / sum(math.prod(w.shape) for w in projections),
        stored / sum(math.prod(w.shape) for w in everything),
        stored // 8,
    )


def base(w):
    """Return the weight below an adapter."""
    return w.base if hasattr(w, "base") and hasattr(w, "scale") else w


def bits_of(w) -> int:
    """Return the bits that one weight's code takes; tables and scales are not in it."""
    return w.bits if isinstance(w, Palettized) else 8 if isinstance(w, Int8) else 8 * w.dtype.itemsize


def stored_bits(w) -> int:
    """Return all bits that a weight is stored in."""
    return w.stored_bits if isinstance(w, Palettized | Int8) else 8 * w.nbytes

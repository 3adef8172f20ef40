"""From a matrix of floats to a palette or to 8-bit integers, and the same for the tree of a
model's parameters.
"""

import math
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ...containers import matrices, replaced, ungroup, ungrouped
from ...evaluation import bar
from ...weights import Layer, Params
from . import bit_packing, kmeans
from .quantized_weights import Int8, Palettized, Quantized

ROWS_PER_TABLE = 16
METHODS = {"fast": kmeans.fast, "exact": kmeans.exact}
# a table's largest entry stays below 2^15; float16 ends at 65504
LARGEST_FLOAT16_EXPONENT = 14


def palettize(
    matrix,
    bits: int,
    rows_per_table: int = ROWS_PER_TABLE,
    importance=None,
    method: str = "fast",
) -> Palettized:
    """Return the palette of least squared error for every `rows_per_table` rows of a matrix
    [out, in].

        minimise sum_i h_i (W_i - table[code_i])^2          i: the elements of those rows

    bits: 1 to 8. importance: h, [out, in] (a diagonal of the Fisher matrix) or [in] (second
    moments of the inputs), at least 0; 1 by default. method: "fast" or "exact", see
    `kmeans`. The last table serves fewer rows where rows_per_table does not divide `out`.
    Tables are in float16. Raises ValueError for weights that are not finite and settings
    that make no sense.

    Source: TR24 section 5 (K-means, one table for 16 rows) [confirmed]; float16 tables
        [ours].
    Test: tests/quantization/test_quantizers.py::test_error_is_that_of_the_optimal_palette
    """
    w = checked_matrix(matrix)
    group, _ = bit_packing.group_size(bits)
    if isinstance(rows_per_table, bool) or not 1 <= rows_per_table <= 2**30:
        raise ValueError(f"rows_per_table must be at least 1, got {rows_per_table!r}")
    if method not in METHODS:
        raise ValueError(f"method must be one of {sorted(METHODS)}, got {method!r}")
    if importance is not None:
        if np.shape(importance) not in (w.shape, w.shape[1:]):
            raise ValueError(
                f"importance must be of shape {w.shape} or {w.shape[1:]}, got {np.shape(importance)}"
            )
        importance = np.broadcast_to(np.asarray(importance, np.float64), w.shape)
    exponent = exponent_of(w)

    def encoded(start):
        """Return (codes, table) of the rows from `start` on."""
        rows = slice(start, start + rows_per_table)
        values = np.ldexp(w[rows], -exponent)
        h = None if importance is None else importance[rows]
        if h is not None and not h.any():  # nothing reads these weights: any table will do
            h = None
        # first rounded, then coded
        table = METHODS[method](values, 2**bits, h).astype(np.float16)
        codes = kmeans.nearest(values, table.astype(values.dtype))
        return bit_packing.pack(codes, bits), table

    # NumPy's sorts and loops let go of the GIL
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        codes, tables = zip(*pool.map(encoded, range(0, len(w), rows_per_table)))
    pad = -w.shape[1] % group
    return Palettized(
        np.concatenate(codes),
        np.stack(tables),
        np.asarray(exponent, np.int16),
        bits,
        int(rows_per_table),
        pad,
    )


def int8(matrix) -> Int8:
    """Return a matrix [V, D] as 8-bit integers with a scale for every row.

        scale_v = max_d |E_vd| / 127,   code = round(E / scale)

    Raises ValueError for NaN or infinite values.

    Source: TR24 section 5 (8-bit per-channel integers) [confirmed]; symmetric, by the
        largest value [ours].
    Test: tests/quantization/test_quantizers.py::test_int8_errs_by_half_a_step_at_most
    """
    w = checked_matrix(matrix)
    largest = _largest(w)
    # The largest scale just below float16's end: rows may be smaller than it by 9 orders of
    # magnitude.
    exponent = _exponent(largest / 127) - LARGEST_FLOAT16_EXPONENT if largest else 0
    codes, scale = np.empty(w.shape, np.int8), np.empty(len(w), np.float16)
    for rows in _row_blocks(w):
        block = np.ldexp(w[rows], -exponent)
        scale[rows] = (np.abs(block).max(axis=1) / 127).astype(np.float16)
        step = np.where(scale[rows] > 0, scale[rows], 1).astype(w.dtype)[:, None]
        codes[rows] = np.clip(np.rint(block / step), -127, 127)
    return Int8(codes, scale, np.asarray(exponent, np.int16))


def quantize(
    params: Params,
    bits: int | Mapping[tuple[str, int], int] = 4,
    rows_per_table: int = ROWS_PER_TABLE,
    progress: bool = False,
) -> Params:
    """Return the params with a palette for every matrix of every layer and 8-bit integers
    for the embedding.

    bits: one number, or {(matrix, layer): bits} as `allocate` returns it. Layers come back
    as a tuple, gains as they were.

    Source: TR24 section 5 [confirmed].
    Test: tests/quantization/test_quantizers.py::test_a_quantized_model_runs_under_numpy_and_jax
    """
    params = ungrouped(params)
    plain = matrices(params)
    bits = bits if isinstance(bits, Mapping) else dict.fromkeys(plain, bits)
    if set(bits) != set(plain):
        raise ValueError(
            f"bits must name every matrix once; missing or unknown: {sorted(set(bits) ^ set(plain))[:4]}"
        )
    done = {
        key: palettize(w, bits[key], rows_per_table)
        for key, w in bar(plain.items(), "palettize", progress)
    }
    unembed = None if params.unembed is None else int8(params.unembed)
    return replaced(params, done)._replace(embed=int8(params.embed), unembed=unembed)


def dequantize(params: Params, dtype=np.float32) -> Params:
    """Return plain params that compute the same, every quantized weight as a matrix of
    floats.
    """

    def dense(w):
        return w.dense(dtype) if isinstance(w, Quantized) else w

    layers = tuple(Layer(*map(dense, layer)) for layer in ungroup(params.layers))
    return Params(*map(dense, params._replace(layers=layers)))


def checked_matrix(matrix) -> np.ndarray:
    """Return a matrix as float32 or float64; ValueError for anything else, for NaN and
    infinity.
    """
    if not hasattr(matrix, "__array_namespace__"):
        raise ValueError(
            f"a {type(matrix).__name__} cannot be quantized: merge or dequantize it into an array first"
        )
    w = kmeans.floats(matrix)
    if w.ndim != 2 or 0 in w.shape:
        raise ValueError(
            f"expected a matrix [out, in], got shape {w.shape}; unstack the layers first"
        )
    if not np.isfinite(w).all():
        raise ValueError(
            f"{int((~np.isfinite(w)).sum())} of {w.size} weights are NaN or infinite: train or load it again"
        )
    return w


def exponent_of(w: np.ndarray) -> int:
    """Return e such that w / 2^e has a root mean square in [1, 2), or less where its
    largest would not fit float16.
    """
    largest = _largest(w)
    if largest == 0:
        return 0
    squares = sum(
        float(np.square(w[rows] / w.dtype.type(largest), dtype=np.float64).sum())
        for rows in _row_blocks(w)
    )
    rms = largest * math.sqrt(squares / w.size)
    return max(_exponent(rms), _exponent(largest) - LARGEST_FLOAT16_EXPONENT)


def _exponent(x):
    return math.frexp(x)[1] - 1


def _largest(w):
    return float(max(w.max(), -w.min()))


def _row_blocks(w):
    """Return slices of rows, some 0.5 MB each: temporary arrays stay small whatever the
    matrix is.
    """
    step = max(1, 2**17 // w.shape[1])
    return [slice(start, start + step) for start in range(0, len(w), step)]

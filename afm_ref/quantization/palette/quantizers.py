"""From a matrix of floats to a palette or to 8-bit integers, and the same for the tree of a model's parameters."""

import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ...layers import matrices, replaced, ungroup, ungrouped
from ...weights import Layer, Params
from . import bit_packing, kmeans
from .quantized_weights import Int8, Palettized

ROWS_PER_TABLE = 16
TABLES_AT_A_TIME = 8  # begun together by the threads, then finished by one: more would not stay in its cache
# name: (what threads share, what then one does alone)
METHODS: dict[str, tuple[Callable, Callable]] = {
    "fast": (kmeans.prepare, kmeans.finish),
    "exact": (kmeans.exact, lambda centres, k: centres),
}
LARGEST_FLOAT16_EXPONENT = 14  # a table's largest entry stays below 2^15; float16 ends at 65504


def palettize(
    matrix, bits: int, rows_per_table: int = ROWS_PER_TABLE, importance=None, method: str = "fast", threads: int = 0
) -> Palettized:
    """Return the palette of least squared error for every `rows_per_table` rows of a matrix [out, in].

        minimise sum_i h_i (W_i - table[code_i])^2          i: the elements of those rows, h = 1 or `importance`

    bits: 1 to 8 a weight. rows_per_table need not divide `out`: the last table then serves fewer rows. importance:
    [out, in] (a diagonal of the Fisher matrix) or [in] (second moments of the inputs), at least 0. method: "fast", or
    "exact" for the optimum (some 0.3 s for 16 rows of 3072). threads: 0 takes all cores; the result is the same.

    Tables are rounded to float16 and codes then point to the nearest rounded entry. Weights of any size work: they are
    divided by one power of two a matrix first. A table of fewer distinct weights than entries is exact to float16.
    Raises ValueError for NaN or infinite weights, for bits, rows and importance that make no sense.

    Source: TR24 section 5 (K-means, one table for 16 rows) [confirmed]; optimum and float16 tables [ours].
    Test: tests/quantization/test_quantizers.py::test_error_is_that_of_the_optimal_palette
    """
    w = checked_matrix(matrix)
    bit_packing.group_size(bits)
    if isinstance(rows_per_table, bool) or not 1 <= rows_per_table <= 2**30:
        raise ValueError(f"rows_per_table must be at least 1, got {rows_per_table!r}")
    if method not in METHODS:
        raise ValueError(f"method must be one of {sorted(METHODS)}, got {method!r}")
    importance = _checked_importance(importance, w.shape)
    exponent = exponent_of(w)
    starts = range(0, len(w), rows_per_table)
    prepare, finish = METHODS[method]

    def values_of(start):
        return np.ldexp(w[start : start + rows_per_table], -exponent)

    def begin(start):
        h = None if importance is None else importance[start : start + rows_per_table]
        if h is not None and not h.any():  # nothing reads these weights: any table will do
            h = None
        return prepare(values_of(start), 2**bits, h)

    def encode(start, table):
        values = values_of(start)
        return bit_packing.pack(kmeans.nearest(values, table.astype(values.dtype)), bits)

    tables, codes = [], []
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:  # NumPy's sorts and loops let go of the GIL
        for first in range(0, len(starts), TABLES_AT_A_TIME):
            some = starts[first : first + TABLES_AT_A_TIME]
            found = [finish(prepared, 2**bits).astype(np.float16) for prepared in list(pool.map(begin, some))]
            codes += pool.map(encode, some, found)
            tables += found
    pad = -w.shape[1] % bit_packing.group_size(bits)[0]
    return Palettized(
        np.concatenate(codes), np.stack(tables), np.asarray(exponent, np.int16), bits, int(rows_per_table), pad
    )


def int8(matrix) -> Int8:
    """Return a matrix [V, D] as 8-bit integers with a scale for every row.

        scale_v = max_d |E_vd| / 127,   code = round(E / scale)

    Raises ValueError for NaN or infinite values.

    Source: TR24 section 5 (8-bit per-channel integers) [confirmed]; symmetric, by the largest value [ours].
    Test: tests/quantization/test_quantizers.py::test_int8_errs_by_half_a_step_at_most
    """
    w = checked_matrix(matrix)
    largest = _largest(w)
    # The largest scale just below float16's end: rows may be smaller than it by 9 orders of magnitude.
    exponent = math.frexp(largest / 127)[1] - 1 - LARGEST_FLOAT16_EXPONENT if largest else 0
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
    importance: Mapping | None = None,
    method: str = "fast",
    progress: bool = False,
) -> Params:
    """Return the params with a palette for every matrix of every layer and 8-bit integers for the embedding.

    bits: one number, or {(matrix, layer): bits} as `allocate` returns it, for example {("wq", 0): 2, ...}.
    importance: {(matrix, layer): array}, see `palettize`. Layers come back as a tuple, gains as they were.

    Source: TR24 section 5 [confirmed].
    Test: tests/quantization/test_quantizers.py::test_a_quantized_model_runs_under_numpy_and_jax
    """
    from tqdm.auto import tqdm

    params = ungrouped(params)
    plain = matrices(params)
    if isinstance(bits, Mapping):
        if set(bits) != set(plain):
            raise ValueError(
                f"bits must name every matrix once; missing or unknown: {sorted(set(bits) ^ set(plain))[:4]}"
            )
    else:
        bits = dict.fromkeys(plain, bits)
    done = {}
    for key in tqdm(plain, desc="palettize", unit="matrix", disable=not progress, leave=False):
        h = None if importance is None else importance[key]
        done[key] = palettize(plain[key], bits[key], rows_per_table, h, method)
    unembed = None if params.unembed is None else int8(params.unembed)
    return replaced(params, done)._replace(embed=int8(params.embed), unembed=unembed)


def dequantize(params: Params, dtype=np.float32) -> Params:
    """Return plain params that compute the same, every quantized weight as a matrix of floats.

    Source: none [ours].
    Test: tests/quantization/test_quantizers.py::test_a_quantized_model_runs_under_numpy_and_jax
    """

    def dense(w):
        return w.dense(dtype) if isinstance(w, Palettized | Int8) else w

    layers = tuple(Layer(*map(dense, layer)) for layer in ungroup(params.layers))
    return Params(dense(params.embed), layers, params.final_norm, dense(params.unembed))


def checked_matrix(matrix) -> np.ndarray:
    """Return a matrix as float32 or float64; ValueError for anything else, for NaN and infinity."""
    if not hasattr(matrix, "__array_namespace__"):
        raise ValueError(f"a {type(matrix).__name__} cannot be quantized: merge or dequantize it into an array first")
    w = np.asarray(matrix)
    if w.ndim != 2 or 0 in w.shape:
        raise ValueError(f"expected a matrix [out, in], got shape {w.shape}; unstack the layers first")
    w = w.astype(np.float64 if w.dtype == np.float64 else np.float32, copy=False)
    if not np.isfinite(w).all():
        raise ValueError(
            f"{int((~np.isfinite(w)).sum())} of {w.size} weights are NaN or infinite: train or load it again"
        )
    return w


def exponent_of(w: np.ndarray) -> int:
    """Return e such that w / 2^e has a root mean square in [1, 2), or less where its largest would not fit float16."""
    largest = _largest(w)
    if largest == 0:
        return 0
    squares = sum(float(np.square(w[rows] / w.dtype.type(largest), dtype=np.float64).sum()) for rows in _row_blocks(w))
    rms = largest * math.sqrt(squares / w.size)
    return max(math.frexp(rms)[1] - 1, math.frexp(largest)[1] - 1 - LARGEST_FLOAT16_EXPONENT)


def _largest(w):
    return float(max(w.max(), -w.min()))


def _row_blocks(w):
    """Return slices of rows, some 0.5 MB each: temporary arrays stay small whatever the matrix is."""
    step = max(1, 2**17 // w.shape[1])
    return [slice(start, start + step) for start in range(0, len(w), step)]


def _checked_importance(importance, shape):
    if importance is None:
        return None
    importance = np.asarray(importance, np.float64)
    if importance.shape not in (shape, shape[1:]):
        raise ValueError(f"importance must have the shape {shape} or {shape[1:]}, got {importance.shape}")
    if not np.isfinite(importance).all() or importance.min() < 0:
        raise ValueError("importance must be finite and at least 0 everywhere")
    return np.broadcast_to(importance, shape)

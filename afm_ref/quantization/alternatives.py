"""What palettes are compared with: uniform grids, and codes that make up for each other's
errors (GPTQ).

                 nearest code               errors compensated
    palette      palettize                  gptq_palette
    grid         uniform_grid               uniform_grid, given a hessian

Every one says how many bits a weight it takes with all that it stores, so that equals are
compared with equals.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from .palette import bit_packing
from .palette.quantized_weights import Palettized
from .palette.quantizers import checked_matrix, palettize

DAMPING = 0.01  # of the Hessian's mean diagonal, as in Frantar et al.
FLOAT16_BITS = 16


class UniformGrid(NamedTuple):
    """A matrix whose weights lie on uniform grids, one for each block."""

    matrix: np.ndarray  # [out, in] float32
    # codes, and a scale and a minimum of 16 bits each for every block
    bits_per_weight: float


def uniform_grid(
    matrix, bits: int, hessian=None, rows: int = 1, inputs: int | None = 32, ranges=(1.0,)
) -> UniformGrid:
    """Return a matrix [out, in] with every weight at the nearest point of its block's
    uniform grid, errors compensated as in `gptq_palette` if there is a hessian.

        points: low + scale k,   k = 0 .. 2^bits - 1,   scale = (high - low) / (2^bits - 1)

    low and high are the block's least and greatest weight; of several ranges, these about
    their middle times each factor, a block takes the one of least squared error: a clipped
    grid.

    A block is `rows` rows by `inputs` inputs (None: all); scale and minimum are float16 and
    count. 1 by 32 is the usual 4-bit format; 16 by all has the blocks of Apple's palettes.
    A grid is set when its first column is reached, from the weights as they have become by
    then. Raises ValueError for NaN, for blocks that make no sense, and for weights that
    float16 cannot hold.

    Source: asymmetric round-to-nearest and GPTQ with groups, Frantar et al. 2022
        [standard].
    Test: tests/quantization/test_quantizers.py::test_grid_by_hand,
        tests/quantization/test_quantizers.py::test_compensation_lowers_the_error_of_the_outputs
    """
    w = checked_matrix(matrix).astype(np.float64)
    bit_packing.group_size(bits)
    out, n = w.shape
    inputs = n if inputs is None else inputs
    if rows < 1 or inputs < 1:
        raise ValueError(f"a block has at least 1 row and 1 input, got {rows} x {inputs}")
    starts = np.arange(0, out, rows)

    def entries(w, column):
        block = w[:, column : column + inputs]
        low = np.minimum.reduceat(block.min(axis=1), starts)
        high = np.maximum.reduceat(block.max(axis=1), starts)
        narrowed = np.asarray(ranges)[:, None] * (high - low)  # [ranges, blocks]
        with np.errstate(over="ignore"):  # said below
            stored = np.stack(
                [(low + high - narrowed) / 2, narrowed / (2**bits - 1)]
            ).astype(np.float16)
        if not np.isfinite(stored).all():
            raise ValueError(
                f"weights up to {np.abs(block).max():.3g} do not fit a float16 minimum and scale"
            )
        low, scale = np.repeat(stored.astype(np.float64), rows, axis=2)[..., :out]
        points = low[..., None] + scale[..., None] * np.arange(
            2**bits
        )  # [ranges, out, points]
        errors = np.array(
            [((block - _nearest(block, p)[1]) ** 2).sum(axis=1) for p in points]
        )
        best = np.add.reduceat(errors, starts, axis=1).argmin(axis=0)  # [blocks]
        return points[np.repeat(best, rows)[:out], np.arange(out)]

    _, dense = _compensated(w, hessian, DAMPING, entries, inputs)
    blocks = len(starts) * -(-n // inputs)
    return UniformGrid(dense.astype(np.float32), bits + 2 * FLOAT16_BITS * blocks / w.size)


def gptq_palette(matrix, bits: int, hessian, damping: float = DAMPING) -> Palettized:
    """Return a palette whose codes are chosen column by column, each column's error made up
    for by those to come.

        for i = 0 .. in - 1:   q_i = nearest entry to w_i
                               w_j <- w_j - (w_i - q_i) U_ij / U_ii   for j > i
        H + damping mean(diag H) I = (U^T U)^{-1},   U upper triangular

    It descends sum_o (W - Q)_o H (W - Q)_o^T, the squared error of the outputs. The tables
    are those of `palettize`: only the codes differ. hessian: H [in, in], `input_moments`
    with full=True; None compensates nothing. Raises ValueError for one of another shape,
    not symmetric and finite, or with a negative eigenvalue beyond the damping.

    Source: Frantar et al. 2022, GPTQ, algorithm 1 without its blocks; on k-means tables
        [ours].
    Test: tests/quantization/test_quantizers.py::test_three_columns_follow_the_conditional_optimum
    """
    start = palettize(matrix, bits)
    w = np.ldexp(checked_matrix(matrix).astype(np.float64), -int(start.exponent))
    # [out, entries]
    tables = np.repeat(start.tables.astype(np.float64), start.rows_per_table, axis=0)[
        : len(w)
    ]
    codes, _ = _compensated(w, hessian, damping, lambda w, column: tables, w.shape[1])
    return dataclasses.replace(start, codes=bit_packing.pack(codes, bits))


def _compensated(w, hessian, damping, entries, inputs):
    """Return (codes uint8, values) [out, in]; entries(w, column) -> [out, 2^bits] is asked
    every `inputs` columns.
    """
    w, upper = w.copy(), _inverse_root(hessian, w.shape[1], damping)
    codes, values = np.empty(w.shape, np.uint8), np.empty(w.shape)
    for i in range(w.shape[1]):
        if i % inputs == 0:
            table = entries(w, i)
        codes[:, i : i + 1], values[:, i : i + 1] = _nearest(w[:, i : i + 1], table)
        if upper is not None:
            w[:, i + 1 :] -= np.outer(
                (w[:, i] - values[:, i]) / upper[i, i], upper[i, i + 1 :]
            )
    return codes, values


def _nearest(w, table):
    """Return (codes, values) [out, n] of the entry of each row's rising table that is nearest."""
    middles = (table[:, 1:] + table[:, :-1]) / 2
    codes = (w[:, :, None] > middles[:, None]).sum(axis=2)
    return codes, np.take_along_axis(table, codes, axis=1)


def _inverse_root(hessian, n, damping):
    """Return the upper triangular U with (H + damping mean(diag H) I)^{-1} = U^T U."""
    if hessian is None:
        return None
    h = np.asarray(hessian, np.float64)
    if (
        h.shape != (n, n)
        or not np.isfinite(h).all()
        or not np.allclose(h, h.T, rtol=1e-6, atol=1e-6 * abs(h).max())
    ):
        raise ValueError(
            f"the hessian must be a finite symmetric matrix [{n}, {n}], got shape {h.shape}"
        )
    if not h.any():  # nothing reads these inputs
        return None
    try:
        damped = h + damping * np.mean(np.diag(h)) * np.eye(n)
        return np.linalg.cholesky(np.linalg.inv(damped)).T
    except np.linalg.LinAlgError:
        raise ValueError(
            "the hessian has eigenvalues below 0, or of 0 and no damping: raise damping"
        ) from None

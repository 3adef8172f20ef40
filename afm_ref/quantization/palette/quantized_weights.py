"""Weights in few bits, that know how to be applied: a palette for the projections, 8-bit
integers for the embedding.

Both are weights like any other: NumPy or JAX arrays inside, under jit, stacked, below an
adapter, cut over devices.
"""

import dataclasses
from typing import Any

import numpy as np

from ... import ops
from ...weights import weight
from . import bit_packing


class Quantized:
    """A matrix in few bits."""

    @property
    def stored_bits(self) -> int:
        """Return the bits of everything that is stored: codes, tables or scales, exponent."""
        return 8 * sum(getattr(x, "nbytes", 0) for x in vars(self).values())


@weight
class Palettized(Quantized):
    """A matrix of codes into look-up tables, one table for every `rows_per_table` rows.

        W_oi = 2^exponent table[o // rows_per_table, code_oi]          W: [out, in]

    codes: bytes [out, packed in], see `bit_packing`. tables: [tables, 2^bits] float16, near
    1 in size whatever the size of W, which the exponent carries. pad: codes that fill a
    row's last byte, beyond `in`.

    Source: TR24 section 5 (4-bit K-means, 16 rows share one table) [confirmed]; the
        exponent [ours].
    Test: tests/quantization/test_quantized_weights.py::test_apply_is_the_product_with_the_dense_matrix
    """

    codes: Any
    tables: Any
    exponent: Any  # int16, no axis
    bits: int
    rows_per_table: int
    pad: int = 0

    @property
    def shape(self):
        """Return the shape of the whole matrix, [out, in]."""
        *rows, n_bytes = self.codes.shape
        return *rows, 8 * n_bytes // self.bits - self.pad

    @property
    def bits_per_weight(self) -> float:
        """Return the stored bits over the number of weights."""
        return self.stored_bits / (self.shape[0] * self.shape[1])

    def normalized(self, dtype):
        """Return W / 2^exponent as a plain matrix [out, in]."""
        codes = bit_packing.unpack(self.codes, self.bits, self.shape[-1])
        return look_up(self.tables.astype(dtype), codes, self.rows_per_table)

    def dense(self, dtype=np.float32):
        """Return W as a plain matrix [out, in]."""
        return self.normalized(dtype) * power_of_two(self.exponent, dtype)

    def apply(self, x):
        """Return W x, the power of two applied to the result, where it costs nothing and
        loses nothing.

        In float32 at least, for W / 2^exponent is about 1: in float16 its products would
        overflow where those of W fit.
        """
        wide = ops.wide(x)
        y = ops.linear(wide, self.normalized(wide.dtype)) * power_of_two(
            self.exponent, wide.dtype
        )
        return ops.narrow(y, x.dtype)

    def spec(self):
        """Return the names of the leaves' dimensions, for the placements of
        `afm_ref.parallelism`.
        """
        from jax.sharding import PartitionSpec

        return dataclasses.replace(
            self,
            codes=PartitionSpec("out", "in"),
            tables=PartitionSpec("out", None),
            exponent=PartitionSpec(),
        )


@weight
class Int8(Quantized):
    """An embedding of 8-bit integers with one scale for every row (token), used on both
    ends of the model.

        E_vd = 2^exponent scale_v code_vd,   code in -127 .. 127

    codes: [V, D] int8. scale: [V] float16, whatever the size of E, which the exponent
    carries.

    Source: TR24 section 5 (the embedding: 8-bit integers, per channel) [confirmed]; channel
        = token [ours].
    Test: tests/quantization/test_quantized_weights.py::test_both_ends_of_the_embedding
    """

    codes: Any
    scale: Any
    exponent: Any
    bits = 8

    @property
    def shape(self):
        """Return the shape of the whole matrix, [V, D]."""
        return self.codes.shape

    def dense(self, dtype=np.float32):
        """Return E as a plain matrix [V, D]."""
        return self.codes.astype(dtype) * self.row_scale(dtype)[..., None]

    def row_scale(self, dtype):
        """Return the scale of every row with the power of two in it, [V]."""
        return self.scale.astype(dtype) * power_of_two(self.exponent, dtype)

    def lookup(self, tokens):
        """Return the rows that the tokens name, float32 [..., D]."""
        return (
            self.codes[tokens].astype(np.float32)
            * self.row_scale(np.float32)[tokens][..., None]
        )

    def apply(self, x):
        """Return E x: the integers first, in float32 at least, then one factor a row."""
        wide = ops.wide(x)
        return ops.narrow(
            ops.linear(wide, self.codes.astype(wide.dtype)) * self.row_scale(wide.dtype),
            x.dtype,
        )

    def spec(self):
        """Return the names of the leaves' dimensions, for the placements of
        `afm_ref.parallelism`.
        """
        from jax.sharding import PartitionSpec

        return Int8(PartitionSpec("out", "in"), PartitionSpec("out"), PartitionSpec())


def look_up(tables, codes, rows_per_table: int):
    """Return table[row // rows_per_table, code] for every code [out, in]; tables [tables,
    entries].

    For JAX a tree of selections instead of a gather: the bits of the code halve the entries
    from 2^bits to one. On a CPU that is 15 vector operations for 4 bits, where a gather
    takes the elements one by one.
    """
    if isinstance(codes, np.ndarray):
        which = np.arange(codes.shape[0])[:, None] // rows_per_table
        return tables[which, codes]
    import jax.numpy as jnp

    by_row = jnp.repeat(tables, rows_per_table, axis=0)[: codes.shape[0]]  # [out, entries]
    level = [by_row[:, i, None] for i in range(tables.shape[1])]
    bit = 0
    while len(level) > 1:
        chosen = (codes >> bit) & 1 == 1
        level = [jnp.where(chosen, high, low) for low, high in zip(level[::2], level[1::2])]
        bit += 1
    return level[0]


def power_of_two(exponent, dtype):
    """Return 2^exponent, exact in every float dtype that reaches so far."""
    xp = (
        np
        if isinstance(exponent, np.ndarray | np.generic)
        else exponent.__array_namespace__()
    )
    return xp.ldexp(xp.ones((), dtype), exponent.astype(np.int32))

"""Small integers packed into bytes, row by row, so that a row or a range of whole bytes can
be cut out of a matrix.

    bits 1, 2, 4, 8   8 / bits codes a byte, the first in the lowest bits
    bits 3, 5, 6, 7   8 codes in `bits` bytes, the same way: one little-endian number of 8 * bits bits

Works on NumPy and JAX arrays.
"""

import math

import numpy as np

WIDTHS = range(1, 9)


def group_size(bits: int) -> tuple[int, int]:
    """Return (codes, bytes) of the smallest group that fills whole bytes: 8 codes in 3
    bytes for 3 bits.
    """
    if bits not in WIDTHS:
        raise ValueError(f"codes take 1 to 8 bits, got {bits!r}")
    common = math.gcd(8, bits)
    return 8 // common, bits // common


def packed_bytes(n_codes: int, bits: int) -> int:
    """Return the bytes of a row of n codes: whole groups."""
    codes, size = group_size(bits)
    return -(-n_codes // codes) * size


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Return codes [..., n] of 0 .. 2^bits - 1 as bytes [..., packed_bytes(n)]; the last
    group is filled with zeros.

    Raises ValueError for a code that does not fit.
    """
    n_codes, size = group_size(bits)
    codes = np.asarray(codes)
    if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) < 2**bits:
        raise ValueError(
            f"codes run from {codes.min()} to {codes.max()}; {bits} bits hold 0 to {2**bits - 1}"
        )
    pad = -codes.shape[-1] % n_codes
    codes = np.pad(codes.astype(np.uint8), [(0, 0)] * (codes.ndim - 1) + [(0, pad)])
    # [..., groups, codes of a group]
    groups = codes.reshape(*codes.shape[:-1], -1, n_codes)
    if size == 1:  # by far the most common, 4 times as fast by shifts of bytes
        out = groups[..., 0].copy()
        for i in range(1, n_codes):
            out |= groups[..., i] << np.uint8(i * bits)
        return out
    # a group as one number, of which the lowest `size` bytes are kept
    numbers = groups @ (1 << np.arange(0, n_codes * bits, bits, dtype="<u8"))
    return numbers[..., None].view(np.uint8)[..., :size].reshape(*codes.shape[:-1], -1)


def unpack(packed, bits: int, n: int | None = None):
    """Return the first n codes of every row, [..., n] uint8; by default all that the bytes
    hold.
    """
    xp = packed.__array_namespace__()
    if 8 % bits == 0:  # by far the most common
        shifts = xp.arange(0, 8, bits, dtype=xp.uint8)
        codes = (packed[..., None] >> shifts) & xp.uint8(2**bits - 1)
    else:
        each_bit = xp.unpackbits(packed, axis=-1, bitorder="little")
        groups = each_bit.reshape(*packed.shape[:-1], -1, bits)
        codes = groups @ (1 << xp.arange(bits, dtype=xp.uint8))
    return codes.reshape(*packed.shape[:-1], -1)[..., :n]

"""Codes in bytes and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref.quantization.palette import bit_packing


@settings(max_examples=100)
@given(st.sampled_from(bit_packing.WIDTHS), st.integers(1, 5), st.integers(1, 41), st.integers(0, 9))
def test_unpack_undoes_pack(bits, rows, columns, seed):
    codes = np.random.default_rng(seed).integers(0, 2**bits, (rows, columns)).astype(np.uint8)
    packed = bit_packing.pack(codes, bits)
    assert packed.dtype == np.uint8
    assert packed.shape == (rows, bit_packing.packed_bytes(columns, bits))
    assert packed.shape[1] * 8 < columns * bits + 64 and packed.shape[1] * 8 >= columns * bits
    np.testing.assert_array_equal(bit_packing.unpack(packed, bits, columns), codes)


def test_the_layout_by_hand():
    """The first code is in the lowest bits; three bits run over the end of a byte."""
    assert bit_packing.pack(np.array([[1, 2, 3, 0]]), 2).tolist() == [[0b00_11_10_01]]
    assert bit_packing.pack(np.array([[0xA, 0xB]]), 4).tolist() == [[0xBA]]
    of_three = bit_packing.pack(np.array([[1, 2, 4, 0, 0, 0, 0, 7]]), 3)
    assert of_three.tolist() == [[0b00_010_001, 0b1, 0b111_00000]]


def test_codes_that_do_not_fit_are_refused():
    for code, bits, why in ((4, 2, "2 bits hold 0 to 3"), (-1, 2, "-1"), (0, 0, "1 to 8 bits"), (0, 9, "1 to 8 bits")):
        with pytest.raises(ValueError, match=why):
            bit_packing.pack(np.array([[code]]), bits)

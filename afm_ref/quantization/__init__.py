"""Weights in few bits: palettes of 2 and 4 bits, an 8-bit embedding, and what it takes to choose and to recover.

quantized = quantize(params, bits=4)             # a palette a matrix, or {(matrix, layer): bits}
sizes(quantized)                                 # projection_bits, model_bits, stored_bytes
"""

from .palettize import dequantize, int8, palettize, quantize
from .sizes import Sizes, sizes
from .weights import Int8, Palettized

__all__ = ["Int8", "Palettized", "Sizes", "dequantize", "int8", "palettize", "quantize", "sizes"]

"""Weights in few bits: palettes of 2 and 4 bits, an 8-bit embedding, and what it takes to choose and to recover.

quantized = quantize(params, bits=4)             # a palette a matrix, or {(matrix, layer): bits}
sizes(quantized)                                 # projection_bits, model_bits, stored_bytes
costs = measured(params, cfg, batches)           # the loss that each matrix costs at 2 and 4 bits
bits = allocate(costs, weight_counts(cfg), 3.5)  # the best that an average of 3.5 bits allows
"""

from .allocation import allocate, frontier, greedy, lagrangian, lower_bound, weight_counts
from .alternatives import gptq_grid, gptq_palette, round_to_nearest
from .palettize import dequantize, int8, palettize, quantize
from .sensitivity import fisher, input_moments, measured, predicted
from .sizes import Sizes, sizes
from .weights import Int8, Palettized

__all__ = [
    "Int8",
    "Palettized",
    "Sizes",
    "allocate",
    "dequantize",
    "fisher",
    "frontier",
    "gptq_grid",
    "gptq_palette",
    "greedy",
    "input_moments",
    "int8",
    "lagrangian",
    "lower_bound",
    "measured",
    "palettize",
    "predicted",
    "quantize",
    "round_to_nearest",
    "sizes",
    "weight_counts",
]

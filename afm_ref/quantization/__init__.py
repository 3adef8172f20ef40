"""Weights in few bits: palettes of 2 and 4 bits, an 8-bit embedding, and what it takes to
choose and to recover.

quantized = quantize(params, bits=4)             # a palette a matrix, or {(matrix, layer): bits}
sizes(quantized)                                 # projection_bits, model_bits, stored_bytes
costs = measured_costs(params, cfg, batches)     # the loss that each matrix costs at 2 and 4 bits
bits = allocate(costs, weight_counts(cfg), 3.5)  # the best that an average of 3.5 bits allows
"""

from .alternatives import gptq_palette, uniform_grid
from .bits.allocation import (
    allocate,
    frontier,
    greedy,
    lagrangian,
    lower_bound,
    weight_counts,
)
from .bits.sensitivity import fisher, input_moments, measured_costs, predicted_costs
from .bits.storage import StoredSizes, sizes, stored_bits_per_weight
from .palette.quantized_weights import Int8, Palettized
from .palette.quantizers import dequantize, int8, palettize, quantize

__all__ = [
    "Int8",
    "Palettized",
    "StoredSizes",
    "allocate",
    "dequantize",
    "fisher",
    "frontier",
    "gptq_palette",
    "greedy",
    "input_moments",
    "int8",
    "lagrangian",
    "lower_bound",
    "measured_costs",
    "palettize",
    "predicted_costs",
    "quantize",
    "sizes",
    "stored_bits_per_weight",
    "uniform_grid",
    "weight_counts",
]

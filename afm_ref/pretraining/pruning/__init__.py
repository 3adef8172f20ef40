"""Structural pruning of the feed-forward width: learn which channels stay, then cut the
others out.

    masked = with_masks(params, k)                          # a mask of F weights on the input of every w_down
    result = learn_masks(masked, cfg, batches, optimizer, steps, annealing)     # masks and weights together
    student, student_cfg = slice_ffn(result.params, cfg, k)                     # a smaller real model: d_ff = k

The operator is in `top_k`, scores that need no learning in `criteria`.
"""

from .ffn import (
    Annealed,
    Annealing,
    Masked,
    learn_masks,
    mask_values,
    slice_ffn,
    undecided,
    with_masks,
)

__all__ = [
    "Annealed",
    "Annealing",
    "Masked",
    "learn_masks",
    "mask_values",
    "slice_ffn",
    "undecided",
    "with_masks",
]

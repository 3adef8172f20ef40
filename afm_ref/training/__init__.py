"""One training loop for every loss: steps, history, checkpoints that survive a kill,
several devices.

result = training.fit(params, loss, batches, optimizer, steps)  # loss(params, batch) -> (sum, count)
"""

from .history import History
from .loop import FitResult, fit
from .step import TrainState, global_norm, make_step, merge, split, where

__all__ = [
    "FitResult",
    "History",
    "TrainState",
    "fit",
    "global_norm",
    "make_step",
    "merge",
    "split",
    "where",
]

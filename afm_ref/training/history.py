"""The history of a training run: what `training.fit` records."""

import dataclasses
import json
from pathlib import Path

import numpy as np

from ..disk import atomic

PER_STEP = {
    "loss": np.float64,
    "count": np.float64,
    "grad_norm": np.float64,
    "changed": bool,
    "seconds": np.float64,
}


@dataclasses.dataclass
class History:
    """What happened, one entry a step: arrays of equal length, and what `evaluate` returned
    at some steps.

    loss is the mean before the step's update; count what it was averaged over (tokens,
    pairs, ...); grad_norm the gradient's norm before any clipping; changed is False where
    the optimizer skipped the step; seconds is the wall time since the start, without the
    time between an interruption and its resumption.
    """

    loss: np.ndarray
    count: np.ndarray
    grad_norm: np.ndarray
    changed: np.ndarray
    seconds: np.ndarray
    # {"step": steps done, name: value, ...}
    evaluations: list[dict] = dataclasses.field(default_factory=list)

    def __len__(self):
        return len(self.loss)

    def evaluation(self, name: str):
        """Return (steps, values) of one number that `evaluate` returned, ready to plot."""
        rows = [row for row in self.evaluations if name in row]
        return tuple(np.array([row[key] for row in rows]) for key in ("step", name))

    def save(self, path):
        """Write the history as JSON."""
        content = self.columns() | {"evaluations": self.evaluations}
        atomic.write(path, json.dumps(content))

    @classmethod
    def load(cls, path):
        """Return the history that `save` wrote."""
        return cls.of(**json.loads(Path(path).read_text(encoding="utf-8")))

    @classmethod
    def of(cls, evaluations, **columns):
        """Return the history of these lists, one of each quantity."""
        arrays = {name: np.array(columns[name], dtype) for name, dtype in PER_STEP.items()}
        return cls(**arrays, evaluations=list(evaluations))

    def columns(self):
        """Return {quantity: list}, without the evaluations."""
        return {name: getattr(self, name).tolist() for name in PER_STEP}

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
        return np.array([row["step"] for row in rows]), np.array(
            [row[name] for row in rows]
        )

    def save(self, path):
        """Write the history as JSON."""
        content = {name: getattr(self, name).tolist() for name in PER_STEP} | {
            "evaluations": self.evaluations
        }
        atomic.write(path, json.dumps(content))

    @classmethod
    def load(cls, path):
        """Return the history that `save` wrote."""
        return cls._of(json.loads(Path(path).read_text(encoding="utf-8")))

    @classmethod
    def from_records(cls, records, evaluations):
        """Return a history from one {name: value} a step."""
        columns = {name: [record[name] for record in records] for name in PER_STEP}
        return cls._of(columns | {"evaluations": evaluations})

    @classmethod
    def _of(cls, content):
        columns = {name: np.array(content[name], dtype) for name, dtype in PER_STEP.items()}
        return cls(**columns, evaluations=list(content["evaluations"]))

    def records(self):
        """Return one {name: value} a step, the other way round."""
        columns = [getattr(self, name).tolist() for name in PER_STEP]
        return [dict(zip(PER_STEP, row)) for row in zip(*columns)]

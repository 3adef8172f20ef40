"""Scores for channels that need no learning: by size of the weights, by size of the activation, by lot."""

import dataclasses
from typing import Any

import numpy as np

from .. import ops
from ..config import AFMConfig
from ..losses import Batch
from ..transformer import Causal, Params, hidden, ungroup


def by_magnitude(params: Params) -> list:
    """Return one score [F] a layer: the product of the lengths of a channel's three vectors.

        s_f = |W_gate[f]| |W_up[f]| |W_down[:, f]|

    The product, and not the sum, because what a channel adds does not change when W_up[f] is doubled and W_down[:, f]
    halved.

    Source: magnitude pruning, for channels (as in Li et al. 2017) [standard]; the product [ours].
    Test: tests/pretraining/test_pruning.py::test_criteria_by_hand
    """
    layers = ungroup(params.layers)
    return [_lengths(layer.w_gate, 1) * _lengths(layer.w_up, 1) * _lengths(layer.w_down, 0) for layer in layers]


def _lengths(w, axis):
    """Return the length of each of a matrix's vectors along an axis."""
    return np.linalg.norm(ops.wide(np.asarray(w)), axis=axis)


def by_activation(params: Params, batch: Batch, cfg: AFMConfig) -> list:
    """Return one score [F] a layer: the mean size of what a channel adds to the stream, over one batch.

        s_f = mean_t |h_tf| |W_down[:, f]|,   h_t = silu(W_gate x_t) * (W_up x_t)

    Over the positions of weight above 0.

    Source: pruning by mean activation, as in Molchanov et al. 2017 [standard]; weighed by what it leads to [ours].
    Test: tests/pretraining/test_pruning.py::test_criteria_by_hand
    """
    counted = np.asarray(batch.weights) > 0
    taps = [_Tap(np.asarray(layer.w_down), counted, []) for layer in ungroup(params.layers)]
    layers = tuple(layer._replace(w_down=tap) for layer, tap in zip(ungroup(params.layers), taps, strict=True))
    hidden(params._replace(layers=layers), batch.tokens, cfg, attend=Causal(batch.documents))
    return [tap.seen[0] * _lengths(tap.base, 0) for tap in taps]


def by_lot(params: Params, seed: int) -> list:
    """Return one random score [F] a layer."""
    rng = np.random.default_rng((seed, 77))
    return [rng.standard_normal(layer.w_down.shape[-1], dtype=np.float32) for layer in ungroup(params.layers)]


def standardised(scores: list) -> list:
    """Return the logarithms of positive scores, of mean 0 and standard deviation 1 within each layer, in float32.

    A start for learning: eps 1 is then soft whatever the model's scale, and the order is that of the criterion.

    Source: none [ours].
    Test: tests/pretraining/test_pruning.py::test_standardised_keeps_the_order
    """
    logs = [np.log(np.maximum(np.asarray(s, np.float64), 1e-30)) for s in scores]
    return [((s - s.mean()) / max(s.std(), 1e-12)).astype(np.float32) for s in logs]


@dataclasses.dataclass(frozen=True, eq=False)
class _Tap:
    """A w_down that notes the mean size of its input's channels as it is applied."""

    base: Any
    counted: Any  # [B, T]
    seen: list

    def apply(self, x):
        self.seen.append(np.abs(ops.wide(np.asarray(x)))[self.counted].mean(axis=0))
        return ops.linear(x, self.base)

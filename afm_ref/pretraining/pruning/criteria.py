"""Scores for channels that need no learning: by size of the weights, by size of the
activation, by lot.
"""

import numpy as np

from ... import ops
from ...config import AFMConfig
from ...containers import Tap, ungroup
from ...losses import Batch
from ...transformer import Causal, hidden
from ...weights import Params


def by_magnitude(params: Params) -> list:
    """Return one score [F] a layer: the product of the lengths of a channel's three
    vectors.

        s_f = |W_gate[f]| |W_up[f]| |W_down[:, f]|

    The product, and not the sum, because what a channel adds does not change when W_up[f]
    is doubled and W_down[:, f] halved.

    Source: magnitude pruning, for channels (as in Li et al. 2017) [standard]; the product
        [ours].
    Test: tests/pretraining/test_pruning.py::test_criteria_by_hand
    """
    return [
        _lengths(layer.w_gate, 1) * _lengths(layer.w_up, 1) * _lengths(layer.w_down, 0)
        for layer in ungroup(params.layers)
    ]


def _lengths(w, axis):
    """Return the length of each of a matrix's vectors along an axis."""
    return np.linalg.norm(ops.wide(np.asarray(w)), axis=axis)


def by_activation(params: Params, batch: Batch, cfg: AFMConfig) -> list:
    """Return one score [F] a layer: the mean size of what a channel adds to the stream,
    over one batch.

        s_f = mean_t |h_tf| |W_down[:, f]|,   h_t = silu(W_gate x_t) * (W_up x_t)

    Over the positions of weight above 0.

    Source: pruning by mean activation, as in Molchanov et al. 2017 [standard]; weighed by
        what it leads to [ours].
    Test: tests/pretraining/test_pruning.py::test_criteria_by_hand
    """
    counted, sizes = np.asarray(batch.weights) > 0, []  # [B, T]

    def note(h, _):  # h: [B, T, F]
        sizes.append(np.abs(ops.wide(np.asarray(h)))[counted].mean(axis=0))

    layers = ungroup(params.layers)
    tapped = tuple(
        layer._replace(w_down=Tap(np.asarray(layer.w_down), note)) for layer in layers
    )
    hidden(
        params._replace(layers=tapped), batch.tokens, cfg, attend=Causal(batch.documents)
    )
    return [
        size * _lengths(layer.w_down, 0) for size, layer in zip(sizes, layers, strict=True)
    ]


def by_lot(params: Params, seed: int) -> list:
    """Return one random score [F] a layer."""
    rng = np.random.default_rng((seed, 77))
    return [
        rng.standard_normal(layer.w_down.shape[-1], dtype=np.float32)
        for layer in ungroup(params.layers)
    ]


def starting_scores(scores: list) -> list:
    """Return the logarithms of positive scores, of mean 0 and standard deviation 1 within
    each layer, in float32.

    A start for learning: eps 1 is then soft whatever the model's scale, and the order is
    that of the criterion.
    """
    logs = [np.log(np.maximum(np.asarray(s, np.float64), 1e-30)) for s in scores]
    return [((s - s.mean()) / max(s.std(), 1e-12)).astype(np.float32) for s in logs]

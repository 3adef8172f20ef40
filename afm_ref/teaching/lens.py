"""Look inside the forward function: an `attend` that writes down where it looked."""

import numpy as np

from .. import ops
from ..transformer import Causal


def attention_weights(q, k, mask):
    """Return the attention weights [B, T, N, S]: ops.attention of one-hot values.

        o_t = sum_s w_ts v_s   with v_s the s-th unit vector   is   w_t

    A head has only H channels, so S keys are read H at a time.

    Source: textbook [standard].
    Test: tests/teaching/test_helpers.py::test_weights_average_the_values_as_attention_does
    """
    B, S, K, H = k.shape
    parts = []
    for start in range(0, S, H):
        # row s has its one in column s - start
        one_hot = np.eye(S, H, k=-start, dtype=k.dtype)
        v = np.broadcast_to(one_hot[:, None], (B, S, K, H))
        parts.append(np.asarray(ops.attention(q, k, v, mask)))
    return np.concatenate(parts, axis=-1)[..., :S]


class Watching(Causal):
    """Causal attention that keeps its weights: `weights[layer]` is [B, T, N, S]."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def __call__(self, q, kv, positions):
        """Return what Causal returns, after writing down the weights."""
        k, _, key_positions = kv
        self.weights.append(attention_weights(q, k, self.mask(positions, key_positions)))
        return super().__call__(q, kv, positions)

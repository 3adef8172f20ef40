"""Small models and one batch in float64, shared by the tests of pruning and distillation."""

import jax
import numpy as np

from afm_ref.config import AFMConfig
from afm_ref.losses import Batch
from afm_ref.transformer import init

CFG = AFMConfig(d_model=8, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=4, d_ff=12, vocab_size=7)


def params64(seed=0, cfg=CFG):
    """Return NumPy weights in float64."""
    return jax.tree.map(np.float64, init(cfg, seed))


def batch():
    """Return two rows of six tokens in two documents each, the last two targets of the second row padding."""
    row = np.random.default_rng((0, 3)).integers(0, CFG.vocab_size, (2, 7), dtype=np.int32)
    weights = (np.arange(12.0) < 10).astype(float).reshape(2, 6)
    return Batch(row[:, :-1], row[:, 1:], weights, np.array([[0, 0, 0, 1, 1, 1], [2, 2, 2, 2, -1, -1]]))

"""Small models with adapters whose B is not zero, shared by these tests."""

import dataclasses

import jax
import numpy as np

from afm_ref import lora
from afm_ref.config import AFMConfig
from afm_ref.containers import Stacked, group, map_matrices
from afm_ref.lora.adapter import LoRA
from afm_ref.transformer import forward, init

CFG = AFMConfig(d_model=12, n_layers=3, n_heads=6, n_kv_heads=2, head_dim=4, d_ff=10, vocab_size=17)

run = jax.jit(forward, static_argnums=2)  # one for all tests, so that equal structures are compiled once


def base_params(cfg=CFG, seed=0):
    return init(cfg, seed)


def stacked(params):
    """Return the params with all layers in one Stacked."""
    params = params._replace(layers=group(params.layers))
    assert isinstance(params.layers[0], Stacked)
    return params


def random_adapter(params, seed=1, **settings):
    """Return the params with an adapter that does something: B is drawn as well."""
    rng = np.random.default_rng((seed, 9))

    def drawn(name, w, numbers):
        if not isinstance(w, LoRA):
            return w
        b = rng.standard_normal(w.b.shape) * 0.3 * w.b.shape[-1] ** -0.5
        return dataclasses.replace(w, b=b.astype(w.b.dtype))

    return map_matrices(lora.attach(params, seed=seed, **settings), drawn)


def float64(params):
    """Return the params with every float in float64."""
    return jax.tree.map(lambda m: np.asarray(m, np.float64), params)


def tokens(cfg=CFG, shape=(2, 7), seed=0):
    return np.random.default_rng((seed, 2)).integers(0, cfg.vocab_size, shape, dtype=np.int32)

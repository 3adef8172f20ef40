"""Small models for these tests, and the unit in which their logits may differ."""

import dataclasses
import tracemalloc

import jax
import numpy as np

from afm_ref.config import AFMConfig
from afm_ref.transformer import forward, init
from afm_ref.weights import Params

SMALL = AFMConfig(d_model=12, n_layers=2, n_heads=6, n_kv_heads=2, head_dim=4, d_ff=10, vocab_size=17)
QWEN3 = dataclasses.replace(SMALL, qk_norm="before_rope", rope_layout="half_split", tie_embeddings=False)
LLAMA = dataclasses.replace(SMALL, qk_norm=None, rope_layout="half_split")


def random_params(cfg: AFMConfig, seed: int = 0) -> Params:
    """Return weights whose gains are far from one: with unit gains the order of qk-norm and RoPE does not show."""
    rng = np.random.default_rng((seed, 1))

    def random_gain(w):
        return w if w.ndim > 1 else (w * (1 + 0.5 * rng.standard_normal(w.shape))).astype(w.dtype)

    return map_weights(random_gain, init(cfg, seed))


def map_weights(function, params: Params) -> Params:
    """Return the params with the function applied to every array."""
    layers = jax.tree.map(function, params.layers)  # first: the noise of trl_rl_peer.py is drawn in this order
    return jax.tree.map(function, params._replace(layers=()))._replace(layers=layers)


def same_weights(a: Params, b: Params) -> bool:
    """Return whether both hold the same arrays, bit for bit."""
    a, b = (jax.tree.map(lambda w: (str(w.dtype), w.shape, w.tobytes()), params) for params in (a, b))
    return a == b


def random_tokens(cfg: AFMConfig, shape=(2, 11), seed: int = 0):
    """Return token ids [B, T]."""
    return np.random.default_rng((seed, 2)).integers(0, cfg.vocab_size, shape, dtype=np.int32)


def logits_float64(params, tokens, cfg):
    """Return the logits of our forward function in NumPy float64."""
    return forward(map_weights(lambda w: w.astype(np.float64), params), tokens, cfg)


def traced(call):
    """Return (what the call returns, the most bytes that Python held meanwhile), of its second run: not of imports."""
    call()
    tracemalloc.start()
    found = call(), tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def float32_unit(params, tokens, cfg) -> float:
    """Return how far float32 takes this model's logits from float64: the unit of every tolerance here.

    It is measured, and so includes how this model amplifies rounding; but no more than 100 roundings of the largest
    logit are believed, so that an error in our float32 cannot excuse itself.
    """
    exact = logits_float64(params, tokens, cfg)
    unit = np.abs(forward(map_weights(lambda w: w.astype(np.float32), params), tokens, cfg) - exact).max()
    limit = 100 * np.finfo(np.float32).eps * np.abs(exact).max()
    assert 0 < unit < limit, f"float32 is {unit:.1e} from float64, expected below {limit:.1e}"
    return float(unit)


# Another implementation adds in another order. Its rounding is of the size of ours, but the largest of a few hundred
# such differences scatters: measured ratios are 0.7 to 3.7 (pytest tests/oracles -rP), and a fault starts at 1e4.
FACTOR = 16
FLOAT64_PER_FLOAT32 = float(np.finfo(np.float64).eps / np.finfo(np.float32).eps)


def assert_close(ours, theirs, unit: float, dtype: str):
    """Assert that no logit is further away than FACTOR units, scaled to the less exact of the two dtypes."""
    scaled = unit * {"float32": 1.0, "float64": FLOAT64_PER_FLOAT32}[dtype]
    distance = float(np.abs(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)).max())
    print(f"distance {distance:.2e} = {distance / scaled:.2f} units of {scaled:.1e} ({dtype})")  # shown by pytest -rP
    assert distance <= FACTOR * scaled, f"largest distance {distance:.2e}, allowed {FACTOR * scaled:.2e} ({dtype})"

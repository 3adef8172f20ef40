"""Small models, random rows and pairs, shared by these tests."""

import jax
import numpy as np

from afm_ref import assets
from afm_ref.config import AFMConfig
from afm_ref.data.tasks import Rendered
from afm_ref.interop import hugging_face
from afm_ref.post_training import reward_model
from afm_ref.post_training.losses import Pairs
from afm_ref.post_training.rows import Padded, pad
from afm_ref.transformer import init

CFG = AFMConfig(d_model=12, n_layers=1, n_heads=3, n_kv_heads=1, head_dim=4, d_ff=10, vocab_size=17)
TEXT_CFG = AFMConfig(d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, d_ff=8, vocab_size=2048)


def tokenizer():
    return hugging_face.load_tokenizer(assets.FOLDER)


def float64(tree):
    """Return the tree with every float leaf in float64, so that NumPy computes in it."""
    return jax.tree.map(lambda w: np.asarray(w, np.float64) if np.asarray(w).dtype.kind == "f" else w, tree)


def params64(seed=0, cfg=CFG):
    return float64(init(cfg, seed))


def chats(count, seed=0, cfg=CFG, longest=9):
    """Return conversations of random tokens, prompts and responses of 1 to `longest` tokens."""
    rng = np.random.default_rng((seed, 5))
    sides = [[rng.integers(1, cfg.vocab_size, rng.integers(1, longest + 1)) for _ in range(2)] for _ in range(count)]
    return [Rendered(np.concatenate(both).astype(np.int32), len(both[0])) for both in sides]


def random_pairs(B=4, seed=0, cfg=CFG):
    """Return pairs of random tokens with random labels, grades and reference log-probabilities (float64)."""
    rng = np.random.default_rng((seed, 6))
    rows, grades = pad(chats(2 * B, seed, cfg)), rng.integers(0, 3, (2, B, 4)).astype(np.int32)
    return two_sided(rows, rng.uniform(0.5, 1, B), grades, -20 * rng.random((2, B)))


def two_sided(rows, labels, grades, reference):
    """Return pairs of rows [2 B], the chosen responses first; labels [B], grades [2, B, 4], reference [2, B]."""
    places = np.arange(2 * len(labels)).reshape(2, -1)
    return Pairs(Padded(*rows), places, labels, grades, np.ones(len(labels)), reference.reshape(-1))


def random_reward_model(seed=0, cfg=CFG, width=5):
    """Return a reward model none of whose heads is zero, in float64."""
    model = reward_model.init_reward_model(init(cfg, seed), cfg, seed, width)
    rng = np.random.default_rng((seed, 8))
    heads = {name: rng.standard_normal(getattr(model, name).shape) for name in model._fields[1:]}
    return float64(model._replace(**heads))


def slope(function, tree, seed=0, step=1e-6):
    """Return (the central difference of function along a random direction, the gradient along it by JAX in float64)."""
    rng = np.random.default_rng((seed, 9))
    direction = jax.tree.map(lambda w: rng.standard_normal(w.shape), tree)
    plus, minus = (jax.tree.map(lambda w, d, s=s: w + s * step * d, tree, direction) for s in (1, -1))
    with jax.enable_x64(True):
        grads = jax.jit(jax.grad(function))(jax.tree.map(jax.numpy.asarray, tree))
    leaves = zip(jax.tree.leaves(grads), jax.tree.leaves(direction), strict=True)
    dot = sum(float((np.asarray(g) * d).sum()) for g, d in leaves)
    return float(function(plus) - function(minus)) / (2 * step), dot

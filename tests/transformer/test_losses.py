"""The loss and what is measured with it against definitions and closed forms."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from afm_ref import evaluation, losses, transformer
from afm_ref.config import AFMConfig
from tests.post_training.models import params64

CFG = AFMConfig(d_model=12, n_layers=2, n_heads=3, n_kv_heads=1, head_dim=4, d_ff=20, vocab_size=17)


def batch(B=2, T=6, seed=0):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, CFG.vocab_size, (B, T + 1)).astype(np.int32)
    weights = (rng.random((B, T)) < 0.7).astype(np.float32)
    documents = np.sort(rng.integers(0, 3, (B, T)), axis=1).astype(np.int32)
    return losses.Batch(tokens[:, :-1], tokens[:, 1:], weights, documents)


def test_token_log_probs_closed_form():
    # p = (1, 2, 5) / 8 whatever constant is added, also one that overflows exp
    for shift in (0.0, 5000.0, -5000.0):
        logits = np.log([[1.0, 2.0, 5.0]] * 3) + shift
        got = losses.token_log_probs(logits, np.array([0, 1, 2]))
        np.testing.assert_allclose(got, np.log([1 / 8, 2 / 8, 5 / 8]), rtol=1e-11)


def test_next_token_equals_its_definition():
    b, p = batch(), params64(cfg=CFG)
    total, count = losses.next_token(p, b, CFG)
    want = 0.0
    for row in range(2):
        for doc in np.unique(b.documents[row]):  # a document alone sees exactly what it may see in the pack
            at = np.flatnonzero(b.documents[row] == doc)
            z = transformer.forward(p, b.tokens[row : row + 1, at], CFG)[0]
            log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
            want -= sum(b.weights[row, t] * log_p[i, b.targets[row, t]] for i, t in enumerate(at))
    assert math.isclose(total, want, rel_tol=1e-10)
    assert count == b.weights.sum()


def test_gradients_equal_finite_differences():
    """Along a random direction in every leaf, in float64: central differences of JAX's own gradient."""
    with jax.enable_x64(True):
        cfg = dataclasses.replace(CFG, n_layers=1)
        b, p = batch(), params64(cfg=cfg)
        b = b._replace(weights=b.weights.astype(np.float64))
        # gains away from one, so that the norms' own gradients are not special
        rng, loss = np.random.default_rng(1), lambda p: losses.next_token(p, b, cfg)[0]
        p = jax.tree.map(lambda a: a + 0.1 * rng.standard_normal(a.shape), p)
        flat, tree = jax.tree.flatten(p)
        grads = list(map(np.asarray, jax.tree.leaves(jax.jit(jax.grad(loss))(p))))
        h = 1e-5  # error h^2 = 1e-10 from the third derivative, 1e-16 / h = 1e-11 from rounding
        for i, (leaf, grad) in enumerate(zip(flat, grads)):
            direction = rng.standard_normal(leaf.shape)
            shifted = [flat[:i] + [leaf + s * h * direction] + flat[i + 1 :] for s in (1, -1)]
            up, down = (loss(jax.tree.unflatten(tree, leaves)) for leaves in shifted)
            numeric = (up - down) / (2 * h)
            assert numeric == pytest.approx(float((grad * direction).sum()), rel=1e-6, abs=1e-7)


UNIFORM = transformer.init(CFG, 0)._replace(embed=np.zeros((17, 12), np.float32))
TOKENS = np.zeros((2, 5), np.int32)
BATCH = losses.Batch(TOKENS, TOKENS, np.float32([[1, 1, 1, 1, 0]] * 2))


def test_a_uniform_model_needs_log2_V_bits_a_token():
    # 3 batches x 2 rows x 4 weighted tokens, over 12 bytes
    got = evaluation.bits_per_byte(UNIFORM, CFG, [BATCH] * 3, n_bytes=12, progress=False)
    assert math.isclose(got, 24 * math.log2(17) / 12, rel_tol=1e-6)


def test_nothing_to_evaluate_is_refused():
    for batches, n_bytes, why in (([], 3, "no batches"), ([BATCH], 0, "n_bytes")):
        with pytest.raises(ValueError, match=why):
            evaluation.bits_per_byte(UNIFORM, CFG, batches, n_bytes=n_bytes, progress=False)


def test_interval_against_a_table_of_t():
    # n = 3, s = 1: 4.303 / sqrt(3), from any printed table of Student's t at 2 degrees of freedom
    mean, low, high = evaluation.mean_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert high - mean == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)
    assert mean - low == pytest.approx(high - mean)
    with pytest.raises(ValueError, match="at least 2"):
        evaluation.mean_interval([1.0])

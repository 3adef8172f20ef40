"""Adapters in training: gradients by hand, the base untouched, a start that can move."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afm_ref import lora, losses, training
from afm_ref.lora.adapter import LoRA, adapters
from afm_ref.pretraining import afm_optimizer, warmup_cosine
from tests.lora.models import CFG, base_params, stacked, tokens

ONE = dataclasses.replace(CFG, n_layers=1)  # a quarter of the time to compile


def batch():
    row = tokens(shape=(4, 8))
    return losses.Batch(row[:, :-1], row[:, 1:], np.ones((4, 7), np.float32))


@pytest.mark.parametrize("container, cfg", [(lambda p: p, ONE), pytest.param(stacked, CFG, marks=pytest.mark.slow)])
def test_fit_trains_the_adapter_and_leaves_the_base_bit_identical(container, cfg):
    base = container(base_params(cfg))
    before = [np.array(leaf) for leaf in jax.tree.leaves(base)]
    start = lora.attach(base, rank=2)
    optimizer = afm_optimizer(0.01, warmup_cosine(0, 20))
    loss, options = partial(losses.next_token, cfg=cfg), dict(select=lora.trainable, progress=False)
    result = training.fit(start, loss, lambda step: batch(), optimizer, 12, **options)
    after = jax.tree.leaves(lora.detach(result.params))
    assert all(new is mine for new, mine in zip(after, jax.tree.leaves(base), strict=True))
    assert all(new.tobytes() == old.tobytes() for new, old in zip(map(np.asarray, after), before, strict=True))
    for key, w in adapters(result.params).items():
        fresh = adapters(start)[key]
        assert not np.array_equal(w.a, fresh.a) and np.abs(w.b).max() > 0
    assert result.history.loss[-1] < result.history.loss[0] - 0.05


def test_gradients_by_hand():
    """dL/dB = s G (A x)^T and dL/dA = s B^T G x^T, summed over the rows, G = dL/dy."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        w, a, b, x, g = (jnp.asarray(rng.standard_normal(s)) for s in ((5, 7), (3, 7), (5, 3), (4, 7), (4, 5)))
        loss = lambda a, b: (LoRA(w, a, b, 0.7).apply(x) * g).sum()  # noqa: E731
        da, db = jax.jit(jax.grad(loss, (0, 1)))(a, b)
    np.testing.assert_allclose(db, 0.7 * np.einsum("no,nr->or", g, np.einsum("ri,ni->nr", a, x)), rtol=1e-12)
    np.testing.assert_allclose(da, 0.7 * np.einsum("or,no,ni->ri", b, g, x), rtol=1e-12)


def test_with_both_at_zero_nothing_moves():
    """Each gradient has the other factor in it: from A = B = 0 no step leads away, from B = 0 alone B moves first."""
    x = np.random.default_rng(0).standard_normal((3, 12)).astype(np.float32)
    fresh = lora.attach(base_params(ONE), targets="wq", rank=2).layers[0].wq
    slope = jax.jit(jax.grad(lambda w: (w.apply(x) ** 2).sum()))
    at_start, dead = slope(fresh), slope(dataclasses.replace(fresh, a=0 * fresh.a))
    assert not np.any(at_start.a) and np.any(at_start.b)
    assert not np.any(dead.a) and not np.any(dead.b)

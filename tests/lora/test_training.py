"""Adapters in training: gradients by hand and by finite differences, the base untouched, a start that can move."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from afm_ref import containers, lora, losses, training
from afm_ref.lora.adapter import LoRA, adapters
from afm_ref.pretraining import afm_optimizer, warmup_cosine
from tests.lora.models import CFG, base_params, float64, random_adapter, stacked, tokens

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
    result = training.fit(start, partial(losses.next_token, cfg=cfg), lambda step: batch(), optimizer, 12,
                          select=lora.trainable, progress=False)  # fmt: skip
    after = jax.tree.leaves(lora.detach(result.params))
    assert all(new.tobytes() == old.tobytes() for new, old in zip(map(np.asarray, after), before, strict=True))
    assert all(new is mine for new, mine in zip(after, jax.tree.leaves(base), strict=True))
    for key, w in adapters(result.params).items():
        fresh = adapters(start)[key]
        assert not np.array_equal(w.a, fresh.a) and np.abs(w.b).max() > 0
    assert result.history.loss[-1] < result.history.loss[0] - 0.05


@pytest.mark.parametrize("container", [lambda p: p, stacked])
def test_the_optimizer_holds_states_of_the_adapter_alone(container):
    params = lora.attach(container(base_params()), rank=2)
    weights, frozen = training.split(params, lora.trainable)
    moments = jax.eval_shape(optax.adam(1e-3).init, weights)[0].mu
    count = sum(leaf.size for leaf in jax.tree.leaves(moments))
    assert count == sum(w.a.size + w.b.size for w in adapters(params).values())
    assert len(jax.tree.leaves(frozen)) == len(jax.tree.leaves(container(base_params())))
    merged = training.merge(weights, frozen)
    assert jax.tree.structure(merged) == jax.tree.structure(params)
    assert all(a is b for a, b in zip(jax.tree.leaves(merged), jax.tree.leaves(params), strict=True))


def test_gradients_by_hand():
    """dL/dB = s G (A x)^T and dL/dA = s B^T G x^T, summed over the rows, G = dL/dy."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        w, a, b, x, g = (jnp.asarray(rng.standard_normal(s)) for s in ((5, 7), (3, 7), (5, 3), (4, 7), (4, 5)))
        loss = lambda a, b: (LoRA(w, a, b, 0.7).apply(x) * g).sum()  # noqa: E731
        da, db = jax.jit(jax.grad(loss, (0, 1)))(a, b)
    np.testing.assert_allclose(db, 0.7 * np.einsum("no,nr->or", g, np.einsum("ri,ni->nr", a, x)), rtol=1e-12)
    np.testing.assert_allclose(da, 0.7 * np.einsum("or,no,ni->ri", b, g, x), rtol=1e-12)


def test_gradients_by_finite_differences_through_the_model():
    def loss_of(params):
        total, count = losses.next_token(params, batch(), ONE)
        return total / count

    with jax.enable_x64(True):
        params = float64(random_adapter(base_params(ONE), rank=2))
        weights, frozen = training.split(params, lora.trainable)
        value = lambda t: loss_of(training.merge(t, frozen))  # noqa: E731
        grads = jax.jit(jax.grad(value))(weights)
        rng = np.random.default_rng(0)
        way = jax.tree.map(lambda m: rng.standard_normal(m.shape), weights)
        step = lambda h: value(jax.tree.map(lambda m, d: m + h * d, weights, way))  # noqa: E731 - in NumPy
        slope = (step(1e-6) - step(-1e-6)) / 2e-6
        predicted = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (np.asarray(g) * d).sum(), grads, way)))
    assert float(predicted) == pytest.approx(float(slope), rel=1e-5)  # h^2 f'''/6, seen to fall with h^2


def test_with_both_at_zero_nothing_moves():
    """Each gradient has the other factor in it: from A = B = 0 no step leads away, from B = 0 alone B moves first."""
    params = lora.attach(base_params(ONE), rank=2)
    slope = jax.jit(jax.grad(lambda t, frozen: losses.next_token(training.merge(t, frozen), batch(), ONE)[0]))

    def grads(params):
        weights, frozen = training.split(params, lora.trainable)
        return adapters(training.merge(jax.tree.map(np.asarray, slope(weights, frozen)), frozen))

    for w in grads(params).values():
        assert (w.a == 0).all() and np.abs(w.b).max() > 0
    dead = containers.map_matrices(params, lambda n, w, i: LoRA(w.base, 0 * w.a, w.b, w.scale))
    for w in grads(dead).values():
        assert (w.a == 0).all() and (w.b == 0).all()

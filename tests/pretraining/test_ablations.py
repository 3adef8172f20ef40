"""The update with one term changed, against optax's transformations, which were written by others."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from afm_ref.pretraining import ablations, afm_optimizer
from afm_ref.pretraining.optimizer import block_update
from afm_ref.training.step import QUICK

OFF = dict(weight_decay=0.0, clip_norm=math.inf, skip_norm=math.inf)


def run(optimizer, rank_one=False, steps=12):
    """Return a matrix and a gain after so many steps of heavy-tailed gradients, in float64."""
    rng = np.random.default_rng(2)
    params = {"wq": jnp.asarray(rng.standard_normal((8, 5))), "gain": jnp.asarray(rng.standard_normal(7))}
    state, step = optimizer.init(params), jax.jit(optimizer.update, compiler_options=QUICK)
    for size in rng.choice([0.02, 0.3, 1.5], steps):
        matrix = np.outer(np.arange(1.0, 9), np.arange(1.0, 6)) if rank_one else rng.standard_t(2, (8, 5))
        updates, state = step({"wq": size * matrix, "gain": size * rng.standard_t(2, 7)}, state, params)
        params = optax.apply_updates(params, updates)
    return params


def ours(rule, **settings):
    return afm_optimizer(0.1, lambda t: 1.0, **OFF | {"rule": rule} | settings)


def assert_same(a, b):
    """Float64 over twelve steps of some ten roundings each, of weights and steps of size 1: 1e-12 is generous."""
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-12), a, b)


CASES = {  # name: (rule, its settings, optax's)
    "adam": (ablations.momentum_over_gradient, {}, partial(optax.adam, b1=0.95, b2=0.95)),
    "uncorrected": (ablations.uncorrected, dict(b1=0.0), partial(optax.rmsprop, decay=0.95)),
    "as it is": (block_update, dict(b1=0.0), partial(optax.rmsprop, decay=0.95, bias_correction=True)),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_optax(name):
    rule, settings, theirs = CASES[name]
    with jax.enable_x64(True):
        assert_same(run(ours(rule, update_clip=math.inf, **settings)), run(theirs(0.1, eps=1e-30)))


def test_a_first_step_is_factored_as_in_optax():
    """Later ones differ: its memory is 1 - t^-0.8. Any b2 does, since it is corrected."""
    theirs = optax.chain(optax.scale_by_factored_rms(min_dim_size_to_factor=1), optax.scale(-0.1))
    with jax.enable_x64(True):
        assert_same(run(ours(ablations.factored, b1=0.0, update_clip=math.inf), steps=1), run(theirs, steps=1))


def test_a_matrix_of_rank_one_is_factored_without_loss():
    """g_ij^2 = a_i b_j is the product of its means over their mean; of other matrices it is not."""
    with jax.enable_x64(True):
        assert_same(run(ours(ablations.factored), True), run(ours(block_update), True))
        a, b = (run(ours(rule))["wq"] for rule in (ablations.factored, block_update))
        assert np.abs(a - b).max() > 1e-2


@pytest.mark.parametrize("rule", [ablations.uncorrected, ablations.momentum_over_gradient, ablations.factored])
def test_a_skipped_step_changes_nothing(rule):
    w, g = jnp.ones((2, 3)), jnp.full((2, 3), jnp.nan)
    change, v, m = rule(g, 2 * w, 3 * w, w, 0.05, False, rate=0.1, decay=0.1)
    assert not change.any() and (v == 2).all() and (m == 3).all()

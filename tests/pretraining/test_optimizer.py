"""Apple's optimizer against the recipe in plain NumPy; with one term changed against optax's, written by others."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from afm_ref.config import AFM_ON_DEVICE, AFM_TINY, AFMConfig
from afm_ref.containers import group
from afm_ref.pretraining import ablations, afm_optimizer, mup_scales, warmup_cosine
from afm_ref.pretraining.mup import on_matrices
from afm_ref.pretraining.optimizer import block_update
from afm_ref.training.step import QUICK
from afm_ref.transformer import init

SMALL = AFMConfig(d_model=8, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=4, d_ff=12, vocab_size=16)
SHAPES = {"wq": (8, 5), "embed": (11, 3), "gain": (7,), "scalar": ()}


def recipe(params, grads_of_steps, lr, schedule, wd, scale, b1=0.95, b2=0.95):
    """Return the parameters after each step, step by step in float64 as the facts sheet has it."""
    w = jax.tree.map(np.float64, params)
    v, m, t = dict.fromkeys(w, 0.0), dict.fromkeys(w, 0.0), 0
    for grads in grads_of_steps:
        g = jax.tree.map(np.float64, grads)
        norm = math.sqrt(sum((x * x).sum() for x in g.values()))
        if norm < 100:
            t += 1
            for k in w:
                gk = g[k] / max(1.0, norm)
                v[k] = b2 * v[k] + (1 - b2) * (gk**2 + 1e-30)
                vhat = v[k] / (1 - b2**t)
                u = gk / np.sqrt(vhat)
                u = u / max(1.0, np.sqrt((u**2).mean()))
                m[k] = b1 * m[k] + (1 - b1) * u
                w[k] = w[k] - schedule(t) * (scale[k] * lr * m[k] + wd * w[k])
        yield dict(w)


def plain_schedule(t, warm=4, total=14, final=0.005):
    return t / warm if t < warm else final + (1 - final) * (1 + math.cos(math.pi * (t - warm) / (total - warm))) / 2


def problem(seed, dtype, steps=14):
    """Return params and gradients; steps 5 and 9 are too large or NaN, sizes range over the clip at 1."""
    rng = np.random.default_rng((seed, 0))
    params = {k: rng.standard_normal(s).astype(dtype) for k, s in SHAPES.items()}
    # A heavy tail makes the blocks' RMS exceed 1 at times, so the block clip matters.
    sizes = rng.choice([0.02, 0.3, 1.5], steps)
    grads = [{k: (a * rng.standard_t(2, s)).astype(dtype) for k, s in SHAPES.items()} for a in sizes]
    grads[5] = {k: np.full_like(x, 500) for k, x in grads[5].items()}
    grads[9]["gain"][:] = np.nan
    return params, grads


def run(optimizer, params, grads_of_steps):
    """Yield (params, state) after each jitted step of an optax optimizer."""
    params = jax.tree.map(jnp.asarray, params)
    state, step = optimizer.init(params), jax.jit(optimizer.update, compiler_options=QUICK)
    for grads in grads_of_steps:
        updates, state = step(grads, state, params)
        params = optax.apply_updates(params, updates)
        yield params, state


@pytest.mark.parametrize(("dtype", "scale"), [("float32", {}), ("float64", {"wq": 0.25})])
def test_equals_the_recipe_in_numpy(dtype, scale):
    """14 steps with warm-up, a skipped step, a NaN step, weight decay and gradients around the clip."""
    with jax.enable_x64(dtype == "float64"):
        params, grads = problem(0, dtype)
        scale = dict.fromkeys(SHAPES, 1.0) | scale
        ours = list(run(afm_optimizer(0.3, warmup_cosine(4, 14), 0.05, update_scale=scale.get), params, grads))
        # A step makes some ten roundings of numbers of size lr and w; they add up over the steps.
        tolerance = 14 * 10 * np.finfo(dtype).eps
        for (got, _), wanted in zip(ours, recipe(params, grads, 0.3, plain_schedule, 0.05, scale), strict=True):
            for k in SHAPES:
                assert got[k].dtype == dtype
                np.testing.assert_allclose(got[k], wanted[k], rtol=tolerance, atol=tolerance)
        assert int(ours[-1][1].count) == 12


def test_two_steps_by_hand():
    """b1 = b2 = 1/2, gradients 3 and 1: v is 4.5 and 2.75, v / (1 - b2^t) is 9 and 11/3, u is 1 and sqrt(3/11)."""
    with jax.enable_x64(True):
        rule = partial(block_update, rate=1.0, decay=0.0, b1=0.5, b2=0.5, clip=math.inf)
        g, zero = jnp.asarray(3.0), jnp.asarray(0.0)
        change, v, m = rule(g, zero, zero, zero, 1 - 0.5)
        assert (float(change), float(v), float(m)) == pytest.approx((-0.5, 4.5, 0.5), rel=1e-15)
        change, v, m = rule(g / 3, v, m, zero, 1 - 0.5**2)
        assert (float(change), float(v)) == pytest.approx((-0.25 - math.sqrt(3 / 11) / 2, 2.75), rel=1e-15)
        assert float(rule(g, zero, zero, jnp.asarray(10.0), 0.5, decay=0.1)[0]) == pytest.approx(-1.5, rel=1e-15)
        assert float(rule(g, zero, zero, zero, 0.5, clip=0.25)[0]) == pytest.approx(-0.125, rel=1e-15)  # an RMS of 1


def test_the_rate_may_live_in_the_state():
    """One compiled program for all rates: optax.inject_hyperparams traces the rate."""
    params, grads = problem(4, "float32", steps=10)
    inside = optax.inject_hyperparams(lambda learning_rate: afm_optimizer(learning_rate, warmup_cosine(1, 10)))(0.1)
    plain = afm_optimizer(0.1, warmup_cosine(1, 10))
    for (a, _), (b, _) in zip(run(inside, params, grads[:2]), run(plain, params, grads[:2])):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), a, b)


@pytest.mark.parametrize("size, taken", [(99.9, True), (100.0, False), (np.inf, False), (np.nan, False)])
def test_a_skipped_step_leaves_everything_bit_identical(size, taken):
    params, grads = problem(1, "float32", steps=10)
    params["gain"][:] = -0.0  # a zero's sign is a bit too
    zeros = jax.tree.map(np.zeros_like, params)
    grads = [*(g | {"gain": zeros["gain"]} for g in grads[:5]), zeros | {"scalar": np.float32(size)}]
    states = list(run(afm_optimizer(0.1, warmup_cosine(2, 20), weight_decay=0.0), params, grads))
    before, after = (jax.tree.map(lambda x: np.asarray(x).tobytes(), s) for s in states[-2:])
    assert (before != after) == taken
    assert int(states[-1][1].count) == 5 + taken


def test_stacked_layers_train_as_separate_ones():
    """In a Stacked container a block is one layer's slice: a layer with a large gradient leaves its sisters alone."""
    rng = np.random.default_rng(0)
    kept = ("wq", "w_down", "ffn_norm")  # with factor and without: the other leaves are as these
    layers = init(SMALL, seed=0).layers
    layers = tuple(layer._replace(**dict.fromkeys({*layer._fields} - {*kept})) for layer in layers)
    optimizer = afm_optimizer(0.1, warmup_cosine(0, 10), update_scale=mup_scales(SMALL, base_dim=4))

    def gradient(i, layer):
        return jax.tree.map(lambda x: np.float32(rng.standard_t(2, x.shape) * 0.01 * 3**i), layer)

    grads = [tuple(map(gradient, range(2), layers)) for _ in range(3)]
    *_, (one, _) = run(optimizer, {"layers": layers}, [{"layers": g} for g in grads])
    *_, (together, _) = run(optimizer, {"layers": group(layers)}, [{"layers": group(g)} for g in grads])
    [container] = together["layers"]
    for i, layer in enumerate(one["layers"]):
        for got, wanted in zip(jax.tree.leaves(container.layer), jax.tree.leaves(layer), strict=True):
            np.testing.assert_allclose(got[i], wanted, rtol=1e-5, atol=1e-6)  # updates are of size 0.1


def test_weight_decay_is_not_multiplied_by_the_learning_rate():
    """A gradient of zero stays finite and moves nothing else; a leaf of None is left out."""
    params, zero = {"w": np.ones(3, np.float32), "b": None}, [{"w": np.zeros(3, np.float32), "b": None}]
    for lr, decay in ((1e-3, 0.1), (1.0, 0.1), (1.0, 0.0)):
        [(got, state)] = run(afm_optimizer(lr, lambda t: 0.5, weight_decay=decay), params, zero)
        np.testing.assert_allclose(got["w"], 1 - 0.5 * decay, rtol=1e-6)
        assert got["b"] is None and state.v["b"] is None


def test_warmup_cosine_closed_form():
    schedule = warmup_cosine(4, 14)
    assert [float(schedule(t)) for t in range(1, 15)] == pytest.approx([*map(plain_schedule, range(1, 15))], rel=1e-6)
    assert float(schedule(4)) == 1.0 and float(schedule(9)) == pytest.approx((1 + 0.005) / 2)  # half way down
    assert float(schedule(14)) == float(schedule(1000)) == pytest.approx(0.005)
    assert float(warmup_cosine(0, 10)(0)) == float(warmup_cosine(1, 1)(1)) == 1.0


def test_mup_scales():
    scale = mup_scales(AFM_ON_DEVICE)
    names = {"embed": 1.0, "layers.3.wq": 0.25, "layers.0.w_down": 0.25, "layers.3.q_norm": 1.0, "final_norm": 1.0}
    assert {path: scale(path) for path in names} == names
    assert scale("layers.0.layer.wo") == 0.25  # in a Stacked container
    assert mup_scales(AFM_TINY)("layers.0.wq") == 1.0  # capped
    assert on_matrices(0.1)("layers.0.wq") == 0.1 and on_matrices(0.1)("embed") == 1.0


def test_bad_settings_and_calls_are_refused():
    bad = dict(learning_rate=0.0, b1=1.0, weight_decay=-1.0, clip_norm=math.nan, update_clip=0.0, skip_norm=-1.0)
    for name, value in (bad | {"schedule": 0.5}).items():
        with pytest.raises((ValueError, TypeError), match=name if name == "schedule" else f"{name} is {value}"):
            afm_optimizer(**dict(learning_rate=0.01, schedule=warmup_cosine(1, 2)) | {name: value})
    optimizer, w = afm_optimizer(0.1, warmup_cosine(1, 2)), {"w": np.ones(1)}
    with pytest.raises(ValueError, match="call update"):
        optimizer.update(w, optimizer.init(w))
    for settings_, message in (((11, 10), "must be in 0"), ((1, 10, 5), "fraction of the peak")):
        with pytest.raises(ValueError, match=message):
            warmup_cosine(*settings_)


OFF = dict(weight_decay=0.0, clip_norm=math.inf, skip_norm=math.inf)


def trained(optimizer, rank_one=False, steps=12):
    """Return a matrix and a gain after so many steps of heavy-tailed gradients, in float64."""
    rng = np.random.default_rng(2)
    params, grads = {"wq": rng.standard_normal((8, 5)), "gain": rng.standard_normal(7)}, []
    for size in rng.choice([0.02, 0.3, 1.5], steps):
        matrix = np.outer(np.arange(1.0, 9), np.arange(1.0, 6)) if rank_one else rng.standard_t(2, (8, 5))
        grads.append({"wq": size * matrix, "gain": size * rng.standard_t(2, 7)})
    return [*run(optimizer, params, grads)][-1][0]


def ours(rule, **settings):
    return afm_optimizer(0.1, lambda t: 1.0, **OFF | {"rule": rule} | settings)


def assert_same(a, b):
    """Float64 over twelve steps of some ten roundings each, of weights and steps of size 1: 1e-12 is generous."""
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-12), a, b)


CASES = {  # name: (rule, its settings, optax's)
    "adam": (ablations.momentum_over_gradient, {}, partial(optax.adam, b1=0.95, b2=0.95)),
    "as it is": (block_update, dict(b1=0.0), partial(optax.rmsprop, decay=0.95, bias_correction=True)),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_optax(name):
    rule, settings, theirs = CASES[name]
    with jax.enable_x64(True):
        assert_same(trained(ours(rule, update_clip=math.inf, **settings)), trained(theirs(0.1, eps=1e-30)))


def test_a_skipped_step_changes_nothing():
    w, g = jnp.ones((2, 3)), jnp.full((2, 3), jnp.nan)
    change, v, m = ablations.momentum_over_gradient(g, 2 * w, 3 * w, w, 0.05, False, rate=0.1, decay=0.1)
    assert not change.any() and (v == 2).all() and (m == 3).all()

"""The update of terms: by hand, and against Apple's optimizer and optax, which were written by others or otherwise."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from afm_ref.layers import group
from afm_ref.pretraining import afm_optimizer, warmup_cosine
from afm_ref.pretraining.updates import ADAFACTOR, ADAM, APPLE, SGD_MOMENTUM, Terms, correction, direction, update_rule
from afm_ref.weights import Layer

SHAPES = {"wq": (8, 5), "gain": (7,)}
STEPS = 12
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


def problem(seed=0):
    """Return float64 weights and gradients of a heavy tail: some steps are clipped, the fifth is skipped by Apple."""
    rng = np.random.default_rng(seed)
    params = {k: rng.standard_normal(shape) for k, shape in SHAPES.items()}
    grads = [{k: a * rng.standard_t(2, s) for k, s in SHAPES.items()} for a in rng.choice([0.02, 0.3, 1.5], STEPS)]
    grads[5] = {k: np.full(s, 500.0) for k, s in SHAPES.items()}
    return params, grads


def run(optimizer, params, grads_of_steps):
    """Return the weights after each step."""
    params = jax.tree.map(jnp.asarray, params)
    state, step, path = optimizer.init(params), jax.jit(optimizer.update, compiler_options=QUICK), []
    for grads in grads_of_steps:
        updates, state = step(grads, state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return path


def assert_same(a, b, tolerance=1e-12):
    """Float64 over STEPS steps of some ten roundings each, of weights and steps of size 1: 1e-12 is generous."""
    for one, other in zip(a, b, strict=True):
        for got, wanted in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)


def constant(t):
    return 1.0


def test_two_steps_by_hand():
    """b1 = b2 = 1/2, gradients 3 and 1: v is 4.5 and 2.75, v / (1 - b2^t) is 9 and 11/3, u is 1 and sqrt(3/11).

    Over the update: m is 1/2, then 1/4 + sqrt(3/11) / 2. Over the gradient: m is 3/2, then 5/4, corrected 3 and 5/3,
    so that the second step is 5/3 sqrt(3/11).
    """
    with jax.enable_x64(True):
        terms = Terms("update", b1=0.5, second_moment="full", b2=0.5, correct_second=True, eps_inside=1e-30)
        root = math.sqrt(3 / 11)
        g, w, zero = (jnp.asarray(x) for x in (3.0, 1.0, 0.0))
        first, v, m = direction(terms, g, zero, zero, w, 1)
        assert (float(first), float(v), float(m)) == pytest.approx((0.5, 4.5, 0.5), rel=1e-15)
        second, v, m = direction(terms, g / 3, v, m, w, 2)
        assert (float(second), float(v)) == pytest.approx((0.25 + root / 2, 2.75), rel=1e-15)
        adam = dataclasses.replace(terms, momentum="gradient", correct_momentum=True)
        first, v, m = direction(adam, g, zero, zero, w, 1)
        second, v, m = direction(adam, g / 3, v, m, w, 2)
        assert (float(first), float(m), float(second)) == pytest.approx((1.0, 1.25, 5 / 3 * root), rel=1e-15)


def test_apple_is_apples_optimizer():
    with jax.enable_x64(True):
        params, grads = problem()
        schedule, scale = warmup_cosine(4, 20), lambda path: 0.25 if path == "wq" else 1.0
        terms = dataclasses.replace(APPLE, weight_decay=0.05)
        ours = run(update_rule(terms, 0.3, schedule, scale), params, grads)
        assert_same(ours, run(afm_optimizer(0.3, schedule, 0.05, update_scale=scale), params, grads))


def test_apples_constants_are_the_defaults_there():
    with jax.enable_x64(True):
        params, grads = problem(1)
        ours = run(update_rule(APPLE, 0.01, constant), params, grads)
        assert_same(ours, run(afm_optimizer(0.01, constant), params, grads))


ADAFACTOR_WITHOUT = dataclasses.replace(ADAFACTOR, relative_floor=0.0)
OTHERS = {
    "adamw": (ADAM, lambda: optax.adamw(0.1, weight_decay=0.01)),
    "adam": (dataclasses.replace(ADAM, weight_decay=0.0), lambda: optax.adam(0.1)),
    "adafactor": (ADAFACTOR, lambda: optax.adafactor(0.1, min_dim_size_to_factor=1)),
    "adafactor, momentum and decay": (
        dataclasses.replace(ADAFACTOR, momentum="update", b1=0.9, weight_decay=0.02),
        lambda: optax.adafactor(0.1, min_dim_size_to_factor=1, momentum=0.9, weight_decay_rate=0.02),
    ),
    "factored and clipped, piece by piece": (
        ADAFACTOR_WITHOUT,
        lambda: optax.chain(
            optax.scale_by_factored_rms(min_dim_size_to_factor=1), optax.clip_by_block_rms(1.0), optax.scale(-0.1)
        ),
    ),
    "not factored": (
        dataclasses.replace(ADAFACTOR, second_moment="full"),
        lambda: optax.adafactor(0.1, factored=False),
    ),
    "sgd": (SGD_MOMENTUM, lambda: optax.sgd(0.1 * (1 - 0.9), momentum=0.9)),
    "global clip": (Terms(global_clip=1.0), lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1))),
    "rmsprop, eps inside": (
        Terms(second_moment="full", b2=0.9, eps_inside=1e-30, correct_second=True),
        lambda: optax.rmsprop(0.1, 0.9, eps=0.0, bias_correction=True),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_equals_optax(name):
    terms, theirs = OTHERS[name]
    with jax.enable_x64(True):
        params, grads = problem(2)
        ours = run(update_rule(terms, 0.1, constant), params, grads)
        # optax computes Adafactor's b2 in float32, whatever the weights are
        assert_same(ours, run(theirs(), params, grads), 1e-6 if terms.b2_power else 1e-12)


def test_a_schedule_multiplies_rate_and_decay_alike():
    """optax reads its schedules from 0, this one from 1."""
    with jax.enable_x64(True):
        params, grads = problem(3)
        schedule = warmup_cosine(4, 20)
        theirs = optax.adamw(lambda count: 0.1 * schedule(count + 1), weight_decay=0.01)
        assert_same(run(update_rule(ADAM, 0.1, schedule), params, grads), run(theirs, params, grads))


def test_the_rate_may_live_in_the_state():
    """One compiled program for all rates: optax.inject_hyperparams traces the rate."""
    with jax.enable_x64(True):
        params, grads = problem(4)
        inside = optax.inject_hyperparams(lambda learning_rate: update_rule(ADAM, learning_rate, constant))(0.1)
        assert_same(run(inside, params, grads[:3]), run(update_rule(ADAM, 0.1, constant), params, grads[:3]))


def test_a_matrix_of_rank_one_is_factored_without_loss():
    """g_ij^2 = a_i b_j is the product of its means over their mean: full and factored agree, and so do the steps."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        params = {"w": rng.standard_normal((4, 6))}
        grads = [{"w": c * np.outer(np.arange(1.0, 5), np.arange(1.0, 7))} for c in (1.0, -0.2, 3.0)]
        full, factored = (
            Terms(second_moment=kind, b2=0.9, correct_second=True, eps_inside=1e-300) for kind in ("full", "factored")
        )
        a, b = (run(update_rule(terms, 0.1, constant), params, grads) for terms in (full, factored))
        assert_same(a, b)
        other = [{"w": rng.standard_normal((4, 6))}]  # not of rank one
        a, b = (run(update_rule(terms, 0.1, constant), params, other)[0]["w"] for terms in (full, factored))
        assert np.abs(a - b).max() > 1e-2


def test_factored_holds_rows_and_columns():
    state = update_rule(ADAFACTOR, 0.1, constant).init({"w": np.ones((4, 6)), "gain": np.ones(5)})
    assert [x.shape for x in state.v["w"]] == [(4, 1), (1, 6)] and state.v["gain"].shape == (5,)


@pytest.mark.parametrize("terms", [APPLE, ADAFACTOR], ids=["apple", "adafactor"])
def test_stacked_layers_train_as_separate_ones(terms):
    """A layer with a large gradient leaves its sisters alone: a block is one layer's slice."""
    rng = np.random.default_rng(0)
    nothing = Layer(*[None] * len(Layer._fields))

    def layers(sizes):
        return tuple(
            nothing._replace(wq=a * rng.standard_t(2, (4, 6)), ffn_norm=a * rng.standard_t(2, 6)) for a in sizes
        )

    with jax.enable_x64(True):
        weights, grads = layers((1, 1)), layers((0.01, 3.0))
        optimizer = update_rule(terms, 0.1, constant)
        [one] = run(optimizer, {"layers": weights}, [{"layers": grads}])
        [together] = run(optimizer, {"layers": group(weights)}, [{"layers": group(grads)}])
        for i, layer in enumerate(one["layers"]):
            assert_same([jax.tree.map(lambda x, i=i: x[i], together["layers"][0].layer)], [layer])


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.95, 0.999])
def test_a_corrected_mean_of_a_constant_is_the_constant(beta):
    mean = 0.0
    for t in range(1, 30):
        mean = beta * mean + (1 - beta) * 7.0
        assert mean / float(correction(beta, t, True, np.zeros(1, np.float32))) == pytest.approx(7.0, rel=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 100.0])
def test_a_step_is_skipped_only_where_that_is_a_term(bad):
    params, grads = {"w": np.ones(2, np.float32)}, {"w": np.array([bad, 0.0], np.float32)}
    kept = update_rule(APPLE, 0.1, constant)
    state = kept.init(params)
    updates, after = kept.update(grads, state, params)
    assert not np.any(updates["w"]) and jax.tree.map(np.array_equal, after, state) == jax.tree.map(
        lambda _: True, state
    )
    taken = update_rule(dataclasses.replace(APPLE, skip_norm=math.inf), 0.1, constant)
    updates, after = taken.update(grads, state, params)
    assert int(after.count) == 1 and not np.all(updates["w"] == 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b1": 1.0}, "b1 is 1.0"),
        ({"b2": -0.1}, "b2 is -0.1"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"block_clip": 0.0}, "block_clip is 0.0"),
        ({"global_clip": math.nan}, "global_clip is nan"),
        ({"skip_norm": -1.0}, "skip_norm is -1.0"),
        ({"momentum": "weights"}, "momentum must be one of"),
        ({"second_moment": "half"}, "second_moment must be one of"),
        ({"eps_inside": 0.0}, "divided by zero"),
        ({"relative_floor": -1.0}, "relative_floor is -1.0"),
    ],
)
def test_nonsense_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        update_rule(dataclasses.replace(APPLE, **change), 0.01, constant)


def test_a_bad_rate_schedule_or_call_is_refused():
    with pytest.raises(ValueError, match=r"learning_rate is 0\.0"):
        update_rule(ADAM, 0.0, constant)
    with pytest.raises(TypeError, match="schedule"):
        update_rule(ADAM, 0.1, 0.5)
    optimizer = update_rule(ADAM, 0.1, constant)
    with pytest.raises(ValueError, match="call update"):
        optimizer.update({"w": np.ones(1)}, optimizer.init({"w": np.ones(1)}))

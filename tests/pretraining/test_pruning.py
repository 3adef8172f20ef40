"""Soft top-k, found again by bisection; masks on hidden channels alone, and a smaller model that computes the same."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref import losses, training
from afm_ref.config import parameters
from afm_ref.containers import Remat, Stacked, Tap, group, ungroup
from afm_ref.pretraining import pruning
from afm_ref.pretraining.pruning import criteria, ffn
from afm_ref.pretraining.pruning.top_k import coordinate_descent, hard_top_k, soft_top_k, solve
from afm_ref.training.step import QUICK
from afm_ref.transformer import Causal, forward
from tests.pretraining.small_models import CFG, batch, params64

SCORES = np.random.default_rng(0).normal(size=(3, 20))


def by_bisection(scores, k, eps):
    """Return the weights of one row with the threshold bisected until float64 ends: no sorting, no closed form."""
    low, high = -scores.max() - 800 * eps, -scores.min()  # sum about 0; every entry 1
    for _ in range(300):
        middle = (low + high) / 2
        total = np.minimum(1, np.exp(np.minimum((scores + middle) / eps, 0))).sum()
        low, high = (middle, high) if total < k else (low, middle)
    return np.exp(np.minimum((scores + high) / eps, 0))


def test_soft_top_k_by_hand():
    """Scores in units of eps: ln 8, ln 2, 0, 0, k = 2. Nobody clipped: the sum of exp is 12, the first would be 16/12.

    So c = 1: the others share 1 in proportion 2 : 1 : 1, and a = -ln 4.
    """
    s = 0.5 * np.log([8.0, 2.0, 1.0, 1.0])
    np.testing.assert_allclose(soft_top_k(s, 2, 0.5), [1, 0.5, 0.25, 0.25], rtol=1e-14)
    found = solve(s, 2, 0.5)
    assert found.clipped.tolist() == [True, False, False, False]
    assert found.threshold == pytest.approx(-0.5 * np.log(4), rel=1e-14)


@settings(max_examples=60)
@given(
    scores=st.lists(st.integers(-40, 40), min_size=1, max_size=12),  # few values: many ties
    k=st.integers(1, 12),
    eps=st.sampled_from([0.01, 0.3, 1.0, 7.0, 300.0]),
)
def test_sum_is_exactly_k_by_bisection(scores, k, eps):
    s, k = np.array(scores) / 4, min(k, len(scores))
    found = soft_top_k(s, k, eps)
    assert abs(found.sum() - k) < 1e-12 and found.min() >= 0 and found.max() <= 1
    assert (np.diff(found[np.argsort(s, kind="stable")]) >= -1e-15).all()  # in the order of the scores
    assert all(len(set(found[s == value].tolist())) == 1 for value in s)  # equal scores, equal weights
    if k < len(s):  # at k = F every threshold from some value on does
        np.testing.assert_allclose(found, by_bisection(s, k, eps), atol=1e-9)
        clipped, a = solve(s, k, eps)
        np.testing.assert_allclose(np.exp(np.minimum((s + a) / eps, 0)), found, atol=1e-9)
        assert clipped.sum() < k
    else:
        np.testing.assert_allclose(found, 1, rtol=1e-15)


def test_small_eps_is_the_hard_top_k():
    for k in (1, 7, 19, 20):
        hard = hard_top_k(SCORES, k)
        want = [[float(s in np.sort(row)[-k:]) for s in row] for row in SCORES]
        np.testing.assert_array_equal(hard, want)
        np.testing.assert_allclose(soft_top_k(SCORES, k, 1e-5), hard, atol=1e-12)
        np.testing.assert_allclose(soft_top_k(SCORES, k, 1e9), k / 20, rtol=1e-7)  # and a large one spreads evenly
    assert hard_top_k(np.zeros(4), 2).tolist() == [1, 1, 0, 0]
    # exp(s / eps) alone would overflow, and beyond the first tail underflow to 0 / 0
    s = np.array([9000.0, 0.0, -4000.0, -9000.0])
    for k in (1, 2, 3, 4):
        np.testing.assert_array_equal(soft_top_k(s, k, 0.01), hard_top_k(s, k))
    assert soft_top_k(np.float32([1e6, 1e6, 0, 0]), 1, 0.1).tolist() == [0.5, 0.5, 0, 0]


def test_jax_gives_the_same():
    with jax.enable_x64(True):
        for k, eps in ((6, 0.3), (19, 2.0)):
            got = jax.jit(soft_top_k, static_argnums=1)(jnp.asarray(SCORES), k, eps)
            np.testing.assert_allclose(got, soft_top_k(SCORES, k, eps), atol=1e-14)
    single = jax.jit(soft_top_k, static_argnums=1)(jnp.asarray(SCORES, jnp.float32), 6, 0.05)
    np.testing.assert_allclose(single.sum(-1), 6, rtol=1e-5)


def test_derivative_by_finite_differences():
    """Of every weight by every score and by eps, with 3 of 9 entries clipped."""
    s, k, eps, h = SCORES[0, :9], 5, 0.4, 1e-6
    clipped = solve(s, k, eps).clipped
    assert clipped.sum() == 3
    with jax.enable_x64(True):
        jacobian = jax.jit(jax.jacrev(soft_top_k, (0, 2)), static_argnums=1)
        by_scores, by_eps = map(np.asarray, jacobian(jnp.asarray(s), k, jnp.asarray(eps)))
    moved = [(soft_top_k(s + d, k, eps) - soft_top_k(s - d, k, eps)) / (2 * h) for d in h * np.eye(9)]
    np.testing.assert_allclose(by_scores, np.transpose(moved), atol=1e-8)
    slope = (soft_top_k(s, k, eps + h) - soft_top_k(s, k, eps - h)) / (2 * h)
    np.testing.assert_allclose(by_eps, slope, atol=1e-8)
    # clipped entries have no derivative, and the sum none either
    assert not by_scores[clipped].any() and not by_scores[:, clipped].any()
    np.testing.assert_allclose(by_scores.sum(0), 0, atol=1e-14)
    assert abs(by_eps.sum()) < 1e-14


def test_truncated_iteration_falls_short():
    """It never exceeds k; at small eps its sum misses k by a tenth and more; many steps bring it near the exact one."""
    s = np.random.default_rng(1).normal(size=(4, 192))
    for eps, low, high in ((0.02, 0.6, 0.9), (0.1, 0.8, 0.97), (1.0, 0.99, 1.0 + 1e-12)):
        share = coordinate_descent(s, 64, eps).sum(-1) / 64
        assert (low < share).all() and (share <= high).all()
        assert soft_top_k(s, 64, eps).sum(-1) == pytest.approx(64, abs=1e-11)
    np.testing.assert_allclose(coordinate_descent(s, 64, 0.1, 2000), soft_top_k(s, 64, 0.1), atol=1e-6)


@pytest.mark.parametrize("function", [soft_top_k, solve, coordinate_descent])
def test_bad_settings_are_refused(function):
    for scores, k, eps, message in (
        (SCORES, 0, 1.0, "whole number 1..20, got 0"),
        (SCORES, True, 1.0, "got True"),
        (SCORES, 2, 0.0, "eps must be a finite number above 0, got 0.0"),
        (np.array([1.0, np.nan]), 1, 1.0, "scores must be finite"),
        (np.zeros((2, 0)), 1, 1.0, "last axis"),
    ):
        with pytest.raises(ValueError, match=message):
            function(scores, k, eps)


F, K = CFG.d_ff, 5


def scores(seed=0):
    return [np.random.default_rng((seed, i)).normal(size=F) for i in range(CFG.n_layers)]


def run(params, one, cfg=CFG):
    return forward(params, one.tokens, cfg, None, Causal(one.documents))


def test_apply_masks_the_hidden_channels():
    """The same mask, multiplied into w_down by hand, gives the same logits; all other weights are the same arrays."""
    w = pruning.Masked(np.arange(6.0).reshape(2, 3), np.log([4.0, 1.0, 1.0]), 1.0, k=1)
    by_hand = np.array([2.0, 1.0, 2.0])  # 3 * 4/6, 6 * 1/6, 12 * 1/6
    np.testing.assert_allclose(w.apply(np.array([[3.0, 6.0, 12.0]])), [w.base @ by_hand])
    params, one = params64(), batch()
    masked = pruning.with_masks(params, K, scores(), eps=0.3)
    masks = [soft_top_k(s, K, 0.3) for s in scores()]
    scaled = tuple(layer._replace(w_down=layer.w_down * mask) for layer, mask in zip(params.layers, masks))
    np.testing.assert_allclose(run(masked, one), run(params._replace(layers=scaled), one), atol=1e-12)
    for before, after in zip(params.layers, masked.layers):
        assert all(a is b for name, a, b in zip(before._fields, before, after) if name != "w_down")
    assert masked.layers[1].w_down.base is params.layers[1].w_down
    with jax.enable_x64(True):  # stacked layers compute the same
        stacked = jax.tree.map(jnp.asarray, masked._replace(layers=group(masked.layers)))
        got = jax.jit(lambda params: run(params, one), compiler_options=QUICK)(stacked)
    assert isinstance(stacked.layers[0], Stacked)
    np.testing.assert_allclose(got, run(masked, one), atol=1e-10)


def test_fresh_masks_are_even_or_follow_the_scores():
    np.testing.assert_allclose(pruning.mask_values(pruning.with_masks(params64(), K)), K / F, rtol=1e-6)
    found = pruning.mask_values(pruning.with_masks(params64(), K, scores(), eps=0.2))
    np.testing.assert_allclose(found, [soft_top_k(s, K, 0.2) for s in scores()], rtol=1e-12)
    assert pruning.undecided(np.array([[0.0, 0.04, 0.5, 1.0], [0.2, 0.96, 0.9, 1.0]])) == 3 / 8


@pytest.mark.parametrize("container", [tuple, lambda layers: Remat(group(layers))])
def test_sliced_equals_masked(container):
    """A smaller model of its own config's shapes; the logits are those of the larger one, its other columns 0.

    The channels that are kept are those of the largest scores, in their old order; all of them are the model itself.
    """
    params, one = params64(), batch()
    params = params._replace(layers=container(params.layers))
    masked = pruning.with_masks(params, K, scores())
    student, cfg = pruning.slice_ffn(masked, CFG, K)
    assert cfg == dataclasses.replace(CFG, d_ff=K)
    assert sum(leaf.size for leaf in jax.tree.leaves(student)) == parameters(cfg)["total"]
    hard = [layer._replace(w_down=layer.w_down.base * hard_top_k(layer.w_down.scores, K)) for layer in masked.layers]
    np.testing.assert_allclose(run(student, one, cfg), run(params._replace(layers=tuple(hard)), one), atol=1e-12)
    assert np.abs(run(student, one, cfg) - run(params64(), one)).max() > 0.1
    for before, after, s in zip(params64().layers, ungroup(student.layers), scores(), strict=True):
        kept = sorted(np.argsort(s)[-K:])
        np.testing.assert_array_equal(after.w_gate, before.w_gate[kept])
        np.testing.assert_array_equal(after.w_down, before.w_down[:, kept])
    whole, cfg = pruning.slice_ffn(pruning.with_masks(params64(), F), CFG, F)
    assert cfg == CFG
    jax.tree.map(np.testing.assert_array_equal, whole, params64())


def test_eps_comes_with_the_batch():
    masked, one = pruning.with_masks(params64(), K, scores(), eps=1.0), batch()
    (first, count), (later, _) = (ffn.masked_next_token(masked, pruning.Annealed(one, e), CFG) for e in (1.0, 0.1))
    assert first == losses.next_token(masked, one, CFG)[0] and count == 10
    assert later == losses.next_token(ffn.at_eps(masked, 0.1), one, CFG)[0] != first


def test_annealing_closed_form():
    annealing = pruning.Annealing(1.0, 0.01, 5)
    np.testing.assert_allclose([annealing(t) for t in (0, 1, 2, 4, 9)], [1, 10**-0.5, 0.1, 0.01, 0.01])
    for bad in ((1.0, 0.0, 5), (0.1, 1.0, 5), (1.0, 0.1, 1)):
        with pytest.raises(ValueError, match="eps falls from start to end"):
            pruning.Annealing(*bad)


def test_scores_are_trained_and_eps_is_not():
    trainable, frozen = training.split(pruning.with_masks(params64(), K), ffn.learnable)
    w = trainable.layers[0].w_down
    assert w.scores is not None and w.base is not None and w.eps is None
    assert len(jax.tree.leaves(frozen)) == CFG.n_layers and frozen.layers[0].w_down.eps is not None


def test_learning_finds_the_channels_that_matter():
    """A squared error to a teacher in whose layer only four of twelve channels do anything: those four survive."""
    rng = np.random.default_rng(4)
    W, needed = rng.normal(size=(3, F)).astype(np.float32), np.arange(1, F, 3)
    inputs = rng.normal(size=(8, 32, F)).astype(np.float32)
    w = pruning.Masked(W, np.zeros(F, np.float32), np.float32(1.0), k=4)

    def loss(weight, annealed):
        x, eps = annealed
        goal = x[:, needed] @ W[:, needed].T
        found = dataclasses.replace(weight, eps=eps).apply(x)
        return jnp.square(found - goal).sum(), np.float32(len(x))

    annealing = pruning.Annealing(1.0, 0.05, 40)

    def batches(step):
        return inputs[step % 8], np.float32(annealing(step))

    only_scores = training.where(lambda path: path == "scores")
    result = training.fit(w, loss, batches, optax.adam(0.075), 40, select=only_scores, progress=False)
    assert np.flatnonzero(hard_top_k(np.asarray(result.params.scores), 4)).tolist() == needed.tolist()
    final = dataclasses.replace(result.params, eps=0.05)
    assert pruning.undecided(np.asarray(final.mask())) < 0.2


def test_learn_anneals_and_leaves_the_caller_alone():
    """Two steps on a real model: masks end at the last eps with sum k, scores have moved, the first ones have not."""
    params, starts = jax.tree.map(np.float32, (params64(), scores()))
    masked = pruning.with_masks(params, K, starts)
    before = masked.layers[0].w_down.scores.copy()
    one = jax.tree.map(lambda m: np.float32(m) if m.dtype == np.float64 else m, batch())
    annealing = pruning.Annealing(1.0, 0.25, 2)
    result = pruning.learn_masks(masked, CFG, lambda step: one, optax.sgd(0.1), 2, annealing, progress=False)
    w = result.params.layers[0].w_down
    assert float(w.eps) == 0.25 and np.asarray(w.mask()).sum() == pytest.approx(K, rel=1e-5)
    assert (np.asarray(w.scores) != before).any() and np.array_equal(masked.layers[0].w_down.scores, before)
    first = losses.next_token(masked, batch(), CFG)[0] / 10  # the first step's eps is 1
    assert result.history.loss[0] == pytest.approx(float(first), rel=1e-5)


def test_criteria_by_hand():
    """Channel by channel, with loops; a position of weight 0 does not count."""
    params, one = params64(), batch()
    layer = params.layers[0]
    lengths = [np.sqrt((m**2).sum(axis)) for m, axis in ((layer.w_gate, 1), (layer.w_up, 1), (layer.w_down, 0))]
    np.testing.assert_allclose(criteria.by_magnitude(params)[0], np.prod(lengths, axis=0), rtol=1e-12)
    found = criteria.by_activation(params, one, CFG)
    seen = []  # what the first layer's w_gate and w_up compute
    noted = {name: Tap(getattr(layer, name), lambda x, y: seen.append(y)) for name in ("w_gate", "w_up")}
    run(params._replace(layers=(layer._replace(**noted),)), one, dataclasses.replace(CFG, n_layers=1))
    gate, up = (y[one.weights > 0] for y in seen)
    h = gate / (1 + np.exp(-gate)) * up
    np.testing.assert_allclose(found[0], np.abs(h).mean(0) * lengths[2], rtol=1e-10)
    assert [s.shape for s in found] == [(F,)] * CFG.n_layers
    first, again, other = (criteria.by_lot(params, seed)[1] for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_standardised_keeps_the_order():
    found, with_zero, equal = criteria.starting_scores([np.array([1.0, 100, 10]), np.array([0.0, 1, 1]), np.ones(3)])
    np.testing.assert_allclose(found, np.array([-1.0, 1.0, 0.0]) * np.sqrt(1.5), rtol=1e-6)
    assert found.dtype == np.float32 and np.isfinite(with_zero).all() and not equal.any()


def test_what_makes_no_sense_is_refused():
    params, masked = params64(), pruning.with_masks(params64(), K)
    adapted = masked._replace(layers=(masked.layers[0]._replace(w_up=partial), *masked.layers[1:]))
    for call, request, message in (
        (pruning.with_masks, (params, F + 1), r"whole number 1\.\.12, got 13"),
        (pruning.slice_ffn, (masked, CFG, F + 1), r"whole number 1\.\.12, got 13"),
        (pruning.with_masks, (masked, K), "layer 0 has a mask already"),
        (pruning.slice_ffn, (params, CFG, K), "layer 0 has no mask"),
        (pruning.with_masks, (params, K, [np.zeros(F), np.zeros(3)]), r"layer 1 have shape \(3,\)"),
        (pruning.with_masks, (params, K, [np.zeros(F)]), "2 layers, got 1"),
        (pruning.slice_ffn, (adapted, CFG, K), "no plain arrays"),
    ):
        with pytest.raises(ValueError, match=message):
            call(*request)

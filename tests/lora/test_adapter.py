"""The adapter against sums of matrices written out, its transformations, training, costs; the SVD of a fine-tune."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afm_ref import lora, losses, training
from afm_ref.config import AFM_ON_DEVICE
from afm_ref.containers import Remat, group, map_matrices, matrices, ungrouped
from afm_ref.lora.adapter import LoRA, adapters, delta
from afm_ref.lora.costs import adapter_parameters, training_bytes
from afm_ref.lora.extraction import factors
from afm_ref.pretraining import afm_optimizer, warmup_cosine
from afm_ref.quantization import palettize
from afm_ref.transformer import Causal, forward
from tests.lora.models import CFG, base_params, float64, random_adapter, stacked, tokens


def test_apply_is_the_sum_of_two_matrices():
    rng = np.random.default_rng(0)
    w, a, b, x = (rng.standard_normal(shape) for shape in ((5, 7), (3, 7), (5, 3), (2, 4, 7)))
    got = LoRA(w, a, b, 0.7).apply(x)
    np.testing.assert_allclose(got, np.einsum("oi,bti->bto", w + 0.7 * np.einsum("or,ri->oi", b, a), x), rtol=1e-12)
    got = jax.jit(lambda w, x: w.apply(x))(LoRA(*map(jnp.asarray, (w, a, b)), 0.7), jnp.asarray(x))
    np.testing.assert_allclose(got, x @ (w + 0.7 * b @ a).T, rtol=2e-5, atol=1e-5)


def by_numpy(params):
    return forward(ungrouped(params), tokens(), CFG)


@pytest.mark.parametrize("container", [lambda p: p, stacked, lambda p: p._replace(layers=Remat(stacked(p).layers))])
def test_attaching_changes_no_output(container):
    base = container(base_params())
    adapted = lora.attach(base, rank=3)
    np.testing.assert_array_equal(by_numpy(adapted), by_numpy(base))
    assert all(a is b for a, b in zip(jax.tree.leaves(lora.detach(adapted)), jax.tree.leaves(base), strict=True))
    found = adapters(adapted)
    assert {name for name, _ in found} == set(lora.TARGETS)
    assert all((w.b == 0).all() and w.rank == 3 and w.scale == 16 / 3 for w in found.values())


def test_a_has_the_scale_of_its_inputs_and_no_two_are_alike():
    base = base_params(dataclasses.replace(CFG, d_model=64, d_ff=48))
    found = {key: w.a for key, w in adapters(lora.attach(base, rank=64)).items()}
    for a in found.values():
        assert np.std(a) == pytest.approx(a.shape[1] ** -0.5, rel=0.05) and a.dtype == np.float32
    first = [a.ravel()[:8].tolist() for a in found.values()]
    assert len({tuple(row) for row in first}) == len(found) == 7 * CFG.n_layers
    assert not np.array_equal(adapters(lora.attach(base, rank=64, seed=1))["wq", 0].a, found["wq", 0])
    for key, w in adapters(ungrouped(lora.attach(stacked(base), rank=64))).items():  # in any container
        np.testing.assert_array_equal(w.a, found[key])


def test_chosen_layers_and_targets_alone_are_adapted():
    base = base_params()
    adapted = lora.attach(base, targets=("wq", "w_down"), layers=[0, 2], rank=2)
    assert set(adapters(adapted)) == {(name, i) for name in ("wq", "w_down") for i in (0, 2)}
    halves = base._replace(layers=group(base.layers[:2]) + base.layers[2:])
    assert set(adapters(lora.attach(halves, targets="wo", layers=[2], rank=2))) == {("wo", 2)}
    with pytest.raises(ValueError, match=r"layers \[1\] have none of .* stacked with others"):
        lora.attach(halves, layers=[1])


@pytest.mark.parametrize("container", [lambda p: p, stacked])
def test_merging_changes_no_output(container):
    adapted = float64(random_adapter(container(base_params()), rank=3, alpha=5))
    merged = lora.merge(adapted)
    np.testing.assert_allclose(by_numpy(adapted), by_numpy(merged), rtol=1e-10, atol=1e-12)
    assert np.abs(by_numpy(merged) - by_numpy(lora.detach(adapted))).max() > 0.1
    assert not adapters(merged)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, "bfloat16"])
def test_merging_rounds_once(dtype):
    adapted = random_adapter(jax.tree.map(lambda m: m.astype(dtype), base_params()), rank=3)
    merged = matrices(lora.merge(adapted))
    for key, w in adapters(adapted).items():
        wide = np.asarray(w.base, np.float32) + w.scale * (w.b @ w.a)
        assert merged[key].dtype == w.base.dtype
        np.testing.assert_array_equal(merged[key], wide.astype(w.base.dtype))


def test_unmerge_undoes_merge():
    adapted = float64(random_adapter(base_params(), rank=3))
    merged = lora.merge(adapted)
    for mine, theirs in zip(jax.tree.leaves(lora.unmerge(merged, adapted)), jax.tree.leaves(adapted), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-14)
    assert np.abs(merged.layers[0].wq - lora.detach(adapted).layers[0].wq).max() > 0.01


def test_a_base_that_is_no_array_is_applied_but_not_merged():
    base = base_params()
    wrapped = map_matrices(base, lambda name, w, numbers: palettize(w, 2) if name == "wo" else w)
    adapted = random_adapter(wrapped, rank=2)
    x = np.random.default_rng(0).standard_normal((2, 3, 24)).astype(np.float32)
    w = adapted.layers[1].wo
    np.testing.assert_allclose(w.apply(x), x @ (w.base.dense() + delta(w)).T, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"wo of layer 0 is a Palettized, which cannot hold a sum"):
        lora.merge(adapted)
    forced = lora.merge(adapted, force=True)
    np.testing.assert_allclose(forced.layers[1].wo, w.base.dense() + delta(w), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(forward(forced, tokens(), CFG), forward(adapted, tokens(), CFG), rtol=1e-3, atol=1e-4)


def test_sixteen_bit_adapters_are_applied_in_the_dtype_of_x():
    w, a, b, x = (np.random.default_rng(i).standard_normal((4, 4)).astype(np.float32) for i in range(4))
    a, b = a.astype("bfloat16"), b.astype("bfloat16")
    wide = LoRA(w, a.astype(np.float32), b.astype(np.float32), 0.3).apply(x)
    for apply in (LoRA.apply, jax.jit(LoRA.apply)):
        got = apply(LoRA(w, a, b, 0.3), x)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, wide, rtol=1e-4, atol=1e-5)


def test_bad_settings_are_refused():
    for settings, why in (
        (dict(targets=("wz",)), "'wz'.*are no matrices of a layer"),
        (dict(targets=()), "choose from"),
        *((dict(rank=rank), "rank must be a whole number of at least 1") for rank in (0, True)),
        *((dict(alpha=alpha), "alpha must be a positive number") for alpha in (0.0, np.nan)),
        (dict(layers=[0, 3]), r"layers \[3\] have none"),
        (dict(layers=[]), "nothing to adapt"),
        (dict(params=base_params()._replace(layers=Causal())), "cannot walk layers in a Causal"),
        (dict(params=lora.attach(base_params(), rank=2)), "wq of layer 0 has an adapter already"),
    ):
        with pytest.raises(ValueError, match=why):
            lora.attach(**{"params": base_params()} | settings)


def test_layers_without_keys_of_their_own_are_adapted_where_they_have_matrices():
    base = base_params()
    reuse = base._replace(layers=(*base.layers[:2], base.layers[2]._replace(wk=None, wv=None)))
    adapted = lora.attach(reuse, rank=2)
    assert len(adapters(adapted)) == 7 + 7 + 5
    np.testing.assert_array_equal(forward(adapted, tokens(), CFG), forward(reuse, tokens(), CFG))


def test_on_device_counts():
    """Per layer R (2 x 6144 + 2 x 4096 + 3 x 11136) = R 53,888, worked out by hand."""
    assert adapter_parameters(AFM_ON_DEVICE, 16) == 26 * 16 * 53_888 == 22_417_408
    assert adapter_parameters(AFM_ON_DEVICE, 16, lora.ATTENTION) * 2 == 17_039_360  # bytes in 16 bits


def test_training_bytes_are_those_of_the_arrays():
    for rank in (None, 3):
        params = base_params() if rank is None else lora.attach(base_params(), rank=rank)
        weights, _ = training.split(params, None if rank is None else lora.trainable)
        state = jax.eval_shape(afm_optimizer(0.01, warmup_cosine(0, 10)).init, weights)
        predicted = training_bytes(CFG, rank)
        count = lambda tree: sum(4 * leaf.size for leaf in jax.tree.leaves(tree))  # noqa: E731
        assert predicted["base"] + predicted["adapter"] == count(params)
        assert predicted["gradients"] == count(weights)
        assert predicted["moments"] == count((state.v, state.m))


def tuned_of(base, seed=0, size=0.1):
    """Return the params with every matrix changed by full-rank noise."""
    rng = np.random.default_rng(seed)
    return map_matrices(base, lambda n, w, i: (w + size * rng.standard_normal(w.shape)).astype(w.dtype))


@pytest.mark.parametrize("container", [lambda p: p, stacked])
def test_full_rank_extraction_is_the_fine_tune(container):
    base = float64(container(base_params()))
    tuned = tuned_of(base)
    extracted = lora.extract(base, tuned, rank=None)
    for mine, theirs in zip(jax.tree.leaves(lora.merge(extracted)), jax.tree.leaves(tuned), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-11, atol=1e-12)


def test_extraction_error_is_what_eckart_and_young_say():
    rng = np.random.default_rng(0)
    change = rng.standard_normal((9, 13))
    singular = np.sqrt(np.linalg.eigvalsh(change @ change.T)[::-1])  # not by the SVD that is under test
    for rank in range(1, 12):  # those above the full one are filled with zeros
        a, b = factors(change, rank)
        assert (a.shape, b.shape) == ((rank, 13), (9, rank))
        error = np.linalg.norm(change - b @ a)
        assert error == pytest.approx(np.sqrt((singular[rank:] ** 2).sum()), rel=1e-9, abs=1e-12)
        assert np.linalg.matrix_rank(b @ a) == min(rank, 9)


def test_the_rest_is_refused_dropped_or_kept():
    base = base_params()
    tuned = tuned_of(base)._replace(final_norm=base.final_norm + 1)
    assert lora.extract(base, tuned, rank=2, rest="base").final_norm is base.final_norm
    kept = lora.extract(base, tuned, rank=2, rest="tuned", targets=("wq",))
    assert kept.final_norm is tuned.final_norm and kept.layers[1].wo is tuned.layers[1].wo
    assert kept.layers[1].wq.base is base.layers[1].wq
    for other, settings, why in (
        (tuned, {}, "final_norm differs between base and fine-tune"),
        (tuned_of(base), dict(targets=("wq",)), r"layers.0.wk differs"),
        (tuned, dict(rest="mine"), "rest must be"),
        (tuned, dict(rank=0), "rank must be a whole number of at least 1"),
        (stacked(tuned), {}, "in the same containers"),
    ):
        with pytest.raises(ValueError, match=why):
            lora.extract(base, other, **{"rank": 2} | settings)


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


def test_gradients_of_a_and_b_by_hand():
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

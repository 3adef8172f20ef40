"""The adapter against sums of matrices written out, and the transformations against each other and the base."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afm_ref import lora
from afm_ref.containers import Remat, group, map_matrices, matrices, ungrouped
from afm_ref.lora.adapter import LoRA, adapters, delta
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
    adapted = lora.attach(base_params(), targets=("wq", "w_down"), layers=[0, 2], rank=2)
    assert set(adapters(adapted)) == {(name, i) for name in ("wq", "w_down") for i in (0, 2)}
    base = base_params()
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
    again = lora.unmerge(lora.merge(adapted), adapted)
    for mine, theirs in zip(jax.tree.leaves(again), jax.tree.leaves(adapted), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-14)
    merged = lora.merge(adapted)
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


@pytest.mark.parametrize(
    "settings, why",
    [
        (dict(targets=("wz",)), "'wz'.*are no matrices of a layer"),
        (dict(targets=()), "choose from"),
        (dict(rank=0), "rank must be a whole number of at least 1"),
        (dict(rank=True), "rank must be a whole number of at least 1"),
        (dict(alpha=0.0), "alpha must be a positive number"),
        (dict(alpha=float("nan")), "alpha must be a positive number"),
        (dict(layers=[0, 3]), r"layers \[3\] have none"),
        (dict(layers=[]), "nothing to adapt"),
        (dict(params=base_params()._replace(layers=Causal())), "cannot walk layers in a Causal"),
        (dict(params=lora.attach(base_params(), rank=2)), "wq of layer 0 has an adapter already"),
    ],
)
def test_bad_settings_are_refused(settings, why):
    with pytest.raises(ValueError, match=why):
        lora.attach(**{"params": base_params()} | settings)


def test_layers_without_keys_of_their_own_are_adapted_where_they_have_matrices():
    base = base_params()
    reuse = base._replace(layers=(*base.layers[:2], base.layers[2]._replace(wk=None, wv=None)))
    adapted = lora.attach(reuse, rank=2)
    assert len(adapters(adapted)) == 7 + 7 + 5
    np.testing.assert_array_equal(forward(adapted, tokens(), CFG), forward(reuse, tokens(), CFG))

"""The adapter against sums of matrices written out, and the transformations against each other and the base."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afm_ref import lora, ops
from afm_ref.containers import Remat, Stacked, group, map_matrices, ungroup
from afm_ref.lora.adapter import LoRA, adapters, delta
from afm_ref.transformer import forward
from tests.lora.models import CFG, base_params, float64, random_adapter, run, stacked, tokens


class Doubled:
    """A weight that is no array: twice the matrix that it holds."""

    def __init__(self, w):
        self.w, self.shape = w, w.shape

    def apply(self, x):
        return 2 * ops.linear(x, self.w)


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_apply_is_the_sum_of_two_matrices():
    rng = np.random.default_rng(0)
    w, a, b, x = (rng.standard_normal(shape) for shape in ((5, 7), (3, 7), (5, 3), (2, 4, 7)))
    got = LoRA(w, a, b, 0.7).apply(x)
    np.testing.assert_allclose(got, np.einsum("oi,bti->bto", w + 0.7 * np.einsum("or,ri->oi", b, a), x), rtol=1e-12)
    got = jax.jit(lambda w, x: w.apply(x))(LoRA(*map(jnp.asarray, (w, a, b)), 0.7), jnp.asarray(x))
    np.testing.assert_allclose(got, x @ (w + 0.7 * b @ a).T, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("container", [lambda p: p, stacked, lambda p: p._replace(layers=Remat(stacked(p).layers))])
def test_attaching_changes_no_output(container):
    base = container(base_params())
    adapted = lora.attach(base, rank=3)
    ours, plain = (forward(p._replace(layers=ungroup(p.layers)), tokens(), CFG) for p in (adapted, base))
    np.testing.assert_array_equal(ours, plain)
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
    again = adapters(lora.attach(base, rank=64, seed=1))
    assert not np.array_equal(again["wq", 0].a, found["wq", 0])


def test_containers_do_not_change_what_is_drawn():
    base = base_params()
    one, other = lora.attach(base, rank=2, seed=5), lora.attach(stacked(base), rank=2, seed=5)
    other = other._replace(layers=ungroup(other.layers))
    for mine, theirs in zip(leaves(one), leaves(other), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_chosen_layers_and_targets_alone_are_adapted():
    adapted = lora.attach(base_params(), targets=("wq", "w_down"), layers=[0, 2], rank=2)
    assert set(adapters(adapted)) == {(name, i) for name in ("wq", "w_down") for i in (0, 2)}
    base = base_params()
    halves = base._replace(layers=group(base.layers[:2]) + base.layers[2:])
    assert set(adapters(lora.attach(halves, targets="wo", layers=[2], rank=2))) == {("wo", 2)}
    with pytest.raises(ValueError, match=r"layers \[1\] have none of .* stacked with others"):
        lora.attach(halves, layers=[1])


def test_the_base_is_shared_and_comes_back():
    base = base_params()
    adapted = random_adapter(base, rank=2)
    assert all(a is b for a, b in zip(jax.tree.leaves(lora.detach(adapted)), jax.tree.leaves(base), strict=True))


@pytest.mark.parametrize("container", [lambda p: p, stacked])
def test_merging_changes_no_output(container):
    adapted = float64(random_adapter(container(base_params()), rank=3, alpha=5))
    both = adapted, lora.merge(adapted)
    ours, plain = (forward(p._replace(layers=ungroup(p.layers)), tokens(), CFG) for p in both)
    np.testing.assert_allclose(ours, plain, rtol=1e-10, atol=1e-12)
    without = forward(lora.detach(adapted)._replace(layers=ungroup(lora.detach(adapted).layers)), tokens(), CFG)
    assert np.abs(np.asarray(ours) - without).max() > 0.1
    assert not adapters(lora.merge(adapted))


def test_merge_in_numbers():
    base = base_params()
    w = LoRA(np.eye(12, dtype=np.float32), np.full((1, 12), 2.0, np.float32), np.full((12, 1), 3.0, np.float32), 0.5)
    merged = lora.merge(base._replace(layers=(base.layers[0]._replace(wo=w),)))
    np.testing.assert_array_equal(merged.layers[0].wo, np.eye(12) + 3.0)
    assert merged.layers[0].wo.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float16, "bfloat16"])
def test_merging_into_sixteen_bits_rounds_once(dtype):
    base = base_params()
    base = jax.tree.map(lambda m: np.asarray(jnp.asarray(m, dtype)), base)
    adapted = random_adapter(base, rank=3)
    for (name, i), w in adapters(adapted).items():
        wide = np.asarray(w.base, np.float32) + w.scale * (w.b @ w.a)
        got = getattr(lora.merge(adapted).layers[i], name)
        assert got.dtype == w.base.dtype
        np.testing.assert_array_equal(np.asarray(got), wide.astype(w.base.dtype))


def test_unmerge_undoes_merge():
    adapted = float64(random_adapter(base_params(), rank=3))
    again = lora.unmerge(lora.merge(adapted), adapted)
    for mine, theirs in zip(leaves(again), leaves(adapted), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-14)
    merged = lora.merge(adapted)
    assert np.abs(merged.layers[0].wq - lora.detach(adapted).layers[0].wq).max() > 0.01


def test_a_base_that_is_no_array_is_applied_but_not_merged():
    base = base_params()
    wrapped = map_matrices(base, lambda name, w, numbers: Doubled(w) if name == "wo" else w)
    adapted = random_adapter(wrapped, rank=2)
    x = np.random.default_rng(0).standard_normal((2, 3, 24)).astype(np.float32)
    w = adapted.layers[1].wo
    np.testing.assert_allclose(w.apply(x), x @ (2 * w.base.w + delta(w)).T, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"wo of layer 0 is a Doubled, which cannot hold a sum"):
        lora.merge(adapted)
    forced = lora.merge(adapted, force=True)
    np.testing.assert_allclose(forced.layers[1].wo, 2 * w.base.w + delta(w), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(forward(forced, tokens(), CFG), forward(adapted, tokens(), CFG), rtol=1e-3, atol=1e-4)


def test_sixteen_bit_adapters_are_applied_in_the_dtype_of_x():
    base = base_params()
    adapted = random_adapter(base, rank=4)
    rounded = map_matrices(
        adapted, lambda n, w, i: dataclasses.replace(w, a=w.a.astype("bfloat16"), b=w.b.astype("bfloat16"))
    )  # fmt: skip
    wide = map_matrices(
        rounded, lambda n, w, i: dataclasses.replace(w, a=w.a.astype(np.float32), b=w.b.astype(np.float32))
    )
    got = forward(rounded, tokens(), CFG)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, forward(wide, tokens(), CFG), rtol=1e-4, atol=1e-5)
    w, x = rounded.layers[0].wq, np.random.default_rng(0).standard_normal((2, 12)).astype(np.float32)
    got = jax.jit(lambda w, x: w.apply(x))(w, x)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wide.layers[0].wq.apply(x), rtol=1e-4, atol=1e-5)


def test_half_of_a_stack_of_equal_adapters_still_scans():
    adapted = random_adapter(base_params(), rank=2)
    grouped = group(adapted.layers)
    assert len(grouped) == 1 and isinstance(grouped[0], Stacked)
    together = run(adapted._replace(layers=grouped), tokens(), CFG)
    np.testing.assert_allclose(together, forward(adapted, tokens(), CFG), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "settings, why",
    [
        (dict(targets=("wz",)), "'wz'.*are no matrices of a layer"),
        (dict(targets=()), "choose from"),
        (dict(rank=0), "rank must be a whole number of at least 1"),
        (dict(alpha=0.0), "alpha must be a positive number"),
        (dict(alpha=float("nan")), "alpha must be a positive number"),
        (dict(layers=[0, 3]), r"layers \[3\] have none"),
        (dict(layers=[]), "nothing to adapt"),
    ],
)
def test_bad_settings_are_refused(settings, why):
    with pytest.raises(ValueError, match=why):
        lora.attach(base_params(), **settings)


def test_a_second_adapter_is_refused():
    with pytest.raises(ValueError, match="wq of layer 0 has an adapter already"):
        lora.attach(lora.attach(base_params(), rank=2), rank=2)


def test_layers_without_keys_of_their_own_are_adapted_where_they_have_matrices():
    base = base_params()
    reuse = base._replace(layers=(*base.layers[:2], base.layers[2]._replace(wk=None, wv=None)))
    adapted = lora.attach(reuse, rank=2)
    assert len(adapters(adapted)) == 7 + 7 + 5
    np.testing.assert_array_equal(forward(adapted, tokens(), CFG), forward(reuse, tokens(), CFG))


def test_a_container_that_is_unknown_is_refused():
    class Mystery:
        def run(self, step, stream, cache=None):
            return stream, cache

    with pytest.raises(ValueError, match="cannot walk layers in a Mystery"):
        lora.attach(base_params()._replace(layers=Mystery()))

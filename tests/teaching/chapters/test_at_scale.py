"""What chapter 7 reads out of programs, and its figures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afm_ref.config import AFM_ON_DEVICE, layer_parameters
from afm_ref.parallelism.compiled import collectives
from afm_ref.parallelism.mesh import MeshShape
from afm_ref.parallelism.predicted import chooser, roofline
from afm_ref.teaching.chapters import at_scale


def shaped(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_products_are_counted_as_often_as_they_run():
    def loss(w, x):
        x = jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]
        return (jnp.einsum("bij,bkj->bik", x, x) ** 2).sum()

    _, text = collectives.partitioned(jax.jit(jax.grad(loss)).lower(shaped(3, 8, 8), shaped(2, 5, 8)))
    found = at_scale.products(text)
    forward, batched = ([p for p in found if p.batched == way and not p.backward] for way in (False, True))
    assert [(p.flops, p.times) for p in forward] == [(2 * 10 * 8 * 8, 3)]
    assert sum(p.flops for p in batched) == 2 * 2 * 5 * 5 * 8
    assert sum(p.flops * p.times for p in found if p.backward and not p.batched) == 2 * 3 * forward[0].flops


def test_what_jax_keeps_of_a_layer():
    def total(x, w):
        return jax.lax.scan(lambda x, w: (jnp.sin(x @ w), None), x, w)[0].sum()

    listed = at_scale.kept_by_jax(total, np.zeros((2, 5, 8), np.float32), np.zeros((3, 8, 8), np.float32))
    assert listed == 2 * 8  # the layer's input, and the cosine of its product


def test_the_best_of_each_kind_is_its_first():
    found = chooser.choose(AFM_ON_DEVICE, 16, roofline.V5P, 64, 4096)
    kinds = at_scale.best_of_kinds(found, 1)
    assert {name for name in kinds if " x " not in name} == set(kinds)
    rank, best = kinds["data"]
    assert best is found[rank - 1] and best.shape == MeshShape(data=16)


def test_waiting_is_what_its_derivation_says():
    layer, n = layer_parameters(AFM_ON_DEVICE), 4
    sent_s = 5 * 2 * (n - 1) / n * 2 * AFM_ON_DEVICE.d_model / (2 * roofline.V5P.link_bandwidth)
    work_s = 8 * (layer["attention"] + layer["ffn"]) / n / roofline.V5P.flops
    assert at_scale.waiting(AFM_ON_DEVICE, n, roofline.V5P) == pytest.approx(sent_s / work_s)


def test_the_figures_show_their_numbers():
    left, right = at_scale.bounds().axes
    data, fsdp, *_ = (np.interp(0, -np.log(line.get_ydata()), line.get_xdata()) for line in left.lines)
    threshold = roofline.V5P.flops / (6 * roofline.V5P.link_bandwidth)
    assert (data, fsdp) == (pytest.approx(threshold / 2, rel=0.02), pytest.approx(threshold * 3 / 4, rel=0.02))
    assert right.lines[0].get_ydata()[1] == at_scale.waiting(AFM_ON_DEVICE, 4, roofline.V5P)
    bars = {"a": ("data=2", {"weights": 2**30, "gradients": 2**31}, 2**30, 0, 2**34)}
    (ax,) = at_scale.compiled_memory(bars).axes
    assert [bar.get_width() for bar in ax.patches] == [1, 0, 1, 2] and ax.lines[0].get_xdata()[0] == 16
    assert ax.get_yticklabels()[0].get_text() == "a\ndata=2"

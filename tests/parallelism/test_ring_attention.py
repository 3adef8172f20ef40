"""Attention over cut sequences against attention over whole ones; the zigzag order and its work."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from afm_ref.parallelism.compiled.collectives import QUICK
from afm_ref.parallelism.mesh import MeshShape, make_mesh
from afm_ref.parallelism.sharded import ring_attention
from afm_ref.parallelism.sharded.ring_attention import GatheredKeys, Ring, ring_work, sequence_order
from afm_ref.transformer import Causal

B, T, N, K, H = 2, 16, 6, 2, 4
ZIGZAG = functools.partial(Ring, zigzag=True)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal((B, T, heads, H)) for heads in (N, K, K))
    return q, k, v, np.sort(rng.integers(0, 3, (B, T)), axis=1).astype(np.int32)


def attend(make, q, k, v, documents, positions):
    """Return what the attend that `make` makes of documents and positions gives."""
    way = make(documents, positions)
    return way(q, way.keys(k, v, positions)[0], positions)


def whole(q, k, v, documents):
    return attend(lambda documents, _: Causal(documents), q, k, v, documents, np.arange(T, dtype=np.int32)[None])


def over_parts(make, n, zigzag, q, k, v, documents):
    """Return the same over n devices, put back into natural order."""
    order = sequence_order(T, n, zigzag)
    cut = P(None, "seq")
    specs = (cut, cut, cut, None if documents is None else cut, cut)
    ordered = [None if a is None else a[:, order] for a in (q, k, v, documents)]
    local, mesh = functools.partial(attend, make), make_mesh(MeshShape(seq=n))
    return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=cut)(*ordered, order[None])[:, np.argsort(order)]


# Order and documents are the mask's business, alike for both; the grid has every way whole.
@pytest.mark.parametrize("make, zigzag", [(GatheredKeys, False), (ZIGZAG, True)])
def test_attention_over_a_cut_sequence_equals_the_whole(make, zigzag):
    *qkv, documents = inputs()
    documents = documents if zigzag else None
    weight = np.random.default_rng(1).standard_normal((B, T, N, H))  # some gradient for every output

    def run(way):
        total = jax.value_and_grad(lambda q, k, v: (way(q, k, v, documents) * weight).sum(), (0, 1, 2))
        return jax.jit(total, compiler_options=QUICK)(*qkv)

    (got, got_grads), (want, want_grads) = run(functools.partial(over_parts, make, 4, zigzag)), run(whole)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    for a, b in zip(got_grads, want_grads):
        np.testing.assert_allclose(a, b, atol=1e-13 * np.abs(b).max() * T)


def test_parts_combine_to_the_whole_softmax():
    q, k, v, documents = inputs()
    mask = np.asarray(ring_attention.visible(np.arange(T)[None], np.arange(T)[None], documents, documents))
    big = 1000 * k  # scores beyond what exp can hold
    parts = [slice(0, 3), slice(3, 4), slice(4, T)]

    def taken_in_turn(q, big, v, mask):
        seen = ring_attention.nothing(q)
        for part in reversed(parts):
            now = ring_attention.partial_attention(q, big[:, part], v[:, part], mask[:, :, part])
            seen = ring_attention.combine(seen, now)
        return seen.out / seen.total

    got = jax.jit(taken_in_turn, compiler_options=QUICK)(q, big, v, mask)
    np.testing.assert_allclose(got, whole(q, big, v, documents), rtol=1e-9, atol=1e-12)


def test_zigzag_order_by_hand():
    assert sequence_order(8, 2, zigzag=True).tolist() == [0, 1, 6, 7, 2, 3, 4, 5]
    assert sequence_order(8, 2).tolist() == list(range(8))


def test_zigzag_halves_what_the_slowest_device_does():
    # Of the (T/n)^2 pairs of a step: in order, step r > 0 costs all of them on device n - 1; in zigzag order half on
    # every device, and three quarters in step 0, where the later chunk does not reach into the earlier one's future.
    n, T = 4, 64
    square = (T // n) ** 2
    assert ring_work(T, n).max(axis=0).tolist() == [square] * n
    zigzag = ring_work(T, n, zigzag=True)
    assert (zigzag[:, 1:] == square / 2).all() and (zigzag[:, 0] == 3 * square / 4).all()
    assert zigzag.max(axis=0).sum() / ring_work(T, n).max(axis=0).sum() == (2 * n + 1) / (4 * n)


def test_what_is_skipped_is_what_is_counted():
    # The blocks that the compiled ring takes in, counted by a callback, are those of ring_work.
    n, taken, real = 4, [], ring_attention.partial_attention

    def counting(q, k, v, mask):
        jax.debug.callback(lambda: taken.append(q.shape[1] * k.shape[1]))
        return real(q, k, v, mask)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ring_attention, "partial_attention", counting)
        ring = jax.jit(functools.partial(over_parts, ZIGZAG, n, True), compiler_options=QUICK)
        jax.block_until_ready(ring(*inputs()))
        jax.effects_barrier()
    assert sum(taken) == ring_work(T, n, zigzag=True).sum()

"""Collectives hop by hop: the right arrays, the bytes and the time of the closed forms."""

import numpy as np
import pytest

from afm_ref.parallelism.compiled import collectives
from afm_ref.parallelism.simulator import ring_collectives


def parts_of(n, shape, seed=0):
    return list(np.random.default_rng(seed).integers(-9, 10, size=(n, *shape)).astype(np.float64))  # sums are exact


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_all_reduce_sums_any_shape(n):
    for shape in ((1,), (5,), (3, 4), (2, 1, 3)):
        parts = parts_of(n, shape)
        for got in ring_collectives.all_reduce(parts).result:
            np.testing.assert_array_equal(got, np.sum(parts, axis=0))


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_what_moves_arrives_where_it_should(n):
    parts = parts_of(n, (n, 2 * n))
    for axis in (0, 1):
        for got in ring_collectives.all_gather(parts, axis).result:
            np.testing.assert_array_equal(got, np.concatenate(parts, axis))
        chunks = np.split(np.sum(parts, axis=0), n, axis)
        for got, want in zip(ring_collectives.reduce_scatter(parts, axis).result, chunks, strict=True):
            np.testing.assert_array_equal(got, want)
        for to in (0, 1):  # device i receives chunk i of everyone
            blocks = [np.concatenate([np.split(part, n, axis)[i] for part in parts], to) for i in range(n)]
            for got, want in zip(ring_collectives.all_to_all(parts, axis, to).result, blocks, strict=True):
                np.testing.assert_array_equal(got, want)
    for shift in range(1 - n, n):
        np.testing.assert_array_equal(ring_collectives.permute(parts, shift).result, np.roll(parts, shift, axis=0))


@pytest.mark.parametrize("n", [2, 3, 4, 8])
def test_bytes_are_the_closed_forms(n):
    """W bytes of the full array. Every link carries the same; n links, no more."""
    full = n * n * 3
    whole, part = parts_of(n, (full,)), parts_of(n, (full // n,))
    W = full * 8
    for kind, trace, wanted in (
        ("all-gather", ring_collectives.all_gather(part), (n - 1) * W // n),
        ("reduce-scatter", ring_collectives.reduce_scatter(whole), (n - 1) * W // n),
        ("all-reduce", ring_collectives.all_reduce(whole), 2 * (n - 1) * W // n),
        ("collective-permute", ring_collectives.permute(whole), W),
        ("", ring_collectives.permute(whole, n - 1), (n - 1) * W),
        ("", ring_collectives.all_to_all(whole), (n - 1) * W // 2),
    ):
        assert trace.link_bytes == {(i, (i + 1) % n): wanted for i in range(n)}, trace.name
        assert trace.bytes_per_device == wanted
        assert not kind or collectives.sent(kind, W, n) == wanted  # what is counted in compiled programs
    messages = [m for step in ring_collectives.all_to_all(whole).steps for m in step.messages]
    leaves = sum(m.n_bytes for m in messages if m.source == m.chunk[0] == 0)  # the chunks that leave their first owner
    assert leaves == collectives.sent("all-to-all", W, n) == (n - 1) * W // n


def test_time_is_the_alpha_beta_closed_form():
    link = ring_collectives.Link(latency_s=3e-6, bandwidth_bytes_per_s=5e9)
    n, W = 4, 4 * 1000 * 8
    whole, part = parts_of(n, (4000,)), parts_of(n, (1000,))
    for trace, hops, n_bytes in (
        (ring_collectives.all_gather(part, link=link), n - 1, (n - 1) / n * W),
        (ring_collectives.reduce_scatter(whole, link=link), n - 1, (n - 1) / n * W),
        (ring_collectives.all_reduce(whole, link=link), 2 * (n - 1), 2 * (n - 1) / n * W),
        (ring_collectives.permute(whole, -2, link=link), 2, 2 * W),
    ):
        assert trace.time_s == pytest.approx(hops * 3e-6 + n_bytes / 5e9, rel=1e-12), trace.name
    assert ring_collectives.all_reduce(whole[:1], link).time_s == 0
    uneven = ring_collectives.all_reduce(parts_of(2, (3,)), ring_collectives.Link(1.0, 8.0))  # chunks of 2 and 1
    assert uneven.time_s == 2 * (1 + 2) and uneven.link_bytes == {(0, 1): 24, (1, 0): 24}


def test_the_input_is_left_alone():
    parts = parts_of(4, (4,))
    before = np.copy(parts)
    for collective in (ring_collectives.all_reduce, ring_collectives.reduce_scatter, ring_collectives.all_to_all):
        for result in collective(parts).result:
            result += 1
    np.testing.assert_array_equal(parts, before)

"""The simulator computes what NumPy computes, or says why not; its rings and pipelines keep to the closed forms."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref.parallelism.compiled import collectives
from afm_ref.parallelism.simulator import exchange, ring_collectives
from afm_ref.parallelism.simulator.cluster import PARTIAL, REPLICATED, Cluster, LayoutError, einsum
from afm_ref.parallelism.simulator.pipeline_schedules import gpipe, one_f_one_b

SIZES = {"T": 16, "D": 8, "F": 12}
SCHEDULES = [gpipe, one_f_one_b]
sizes = st.tuples(st.integers(1, 6), st.integers(1, 9))
times = st.sampled_from([(1.0, 1.0), (1.0, 2.0), (2.0, 1.0), (0.5, 4.0)])


def whole(axes, seed=0):
    shape = [SIZES[a] for a in axes]
    return np.random.default_rng(seed).integers(-9, 10, size=shape).astype(np.float64)  # every sum is exact


def partial(cluster, x, axes, name, **layout):
    """Return x as summands over a mesh axis: what a product over a cut axis leaves."""
    ones = np.zeros(cluster.mesh[name])
    ones[0] = 1.0  # summed over E, it is one
    E = cluster.place(ones, "E", **{name: "E"})
    spread = cluster.place(np.stack([x] + [x * 3] * (len(ones) - 1)), "E" + axes, **{name: "E"}, **layout)
    return einsum(f"E,E{axes}->{axes}", E, spread)


def test_placing_and_reading_back():
    cluster = Cluster(data=2, model=4)
    x = whole("TD")
    for kinds in itertools.product(("T", "D", REPLICATED), repeat=2):
        tensor = cluster.place(x, "TD", data=kinds[0], model=kinds[1])
        np.testing.assert_array_equal(tensor.value(), x)
        parts = np.prod([n for n, kind in zip((2, 4), kinds, strict=True) if kind != REPLICATED])
        assert tensor.on(0).nbytes * parts == x.nbytes
    np.testing.assert_array_equal(cluster.place(x, "TD", data="T", model="D").on(6), x[8:, 4:6])  # device (1, 2)
    both = Cluster(data=2, fsdp=2).place(x, "TD", data="T", fsdp="T")
    np.testing.assert_array_equal(np.concatenate([both.on(i) for i in range(4)]), x)
    np.testing.assert_array_equal(both.value(), x)
    np.testing.assert_array_equal(Cluster().place(x, "TD").on(0), x)


def test_types_read_as_they_are():
    cluster = Cluster(data=2, model=2)
    x, w = (cluster.place(whole(axes), axes, model="D") for axes in ("TD", "FD"))
    assert (x.type, einsum("TD,FD->TF", x, w).type) == ("[T, D/model]", "[T, F] partial over model")
    assert cluster.place(whole("TD"), "TD", data="T", model="T").type == "[T/data/model, D]"


def test_products_equal_numpy_wherever_they_are_allowed():
    """Every pair of layouts of x [T, D] and w [F, D]: allowed ones give the product, refused ones would not."""
    cluster, x, w, allowed = Cluster(a=2, b=2), whole("TD", 1), whole("FD", 2), 0
    fitting = {("T", REPLICATED): "T", ("D", "D"): PARTIAL, (REPLICATED, "F"): "F", 2 * (REPLICATED,): REPLICATED}
    every_pair = itertools.product(("T", "D", REPLICATED), ("F", "D", REPLICATED))
    for pairs in itertools.product(every_pair, repeat=2):  # along mesh axis a and along b
        left, right = (dict(zip("ab", kinds)) for kinds in zip(*pairs))
        a, b = cluster.place(x, "TD", **left), cluster.place(w, "FD", **right)
        if not set(pairs) <= fitting.keys():
            with pytest.raises(LayoutError, match=r"(?s)multiply .*why: .*mend: "):
                einsum("TD,FD->TF", a, b)
            continue
        y = einsum("TD,FD->TF", a, b)
        allowed += 1
        np.testing.assert_array_equal(y.value(), x @ w.T)
        assert list(y.layout.values()) == [fitting[pair] for pair in pairs]
    assert allowed == 4**2


def test_summands_times_a_whole_factor_stay_summands():
    cluster = Cluster(a=4)
    x, w = whole("TD", 1), whole("FD", 2)
    y = einsum("TD,FD->TF", partial(cluster, x, "TD", "a"), cluster.place(w, "FD"))
    assert y.layout["a"] == PARTIAL
    np.testing.assert_array_equal(y.value(), x @ w.T)
    for bad in (partial(cluster, w, "FD", "a"), cluster.place(w, "FD", a="F"), cluster.place(w, "FD", a="D")):
        with pytest.raises(LayoutError, match="its own summand"):
            einsum("TD,FD->TF", partial(cluster, x, "TD", "a"), bad)


@pytest.mark.parametrize("a, b", [(1, 1), (1, 2), (2, 2), (4, 2), (2, 4)])
def test_collectives_keep_the_value(a, b):
    cluster, x = Cluster(a=a, b=b), whole("TD")
    summands = partial(cluster, x, "TD", "b", a="T")
    cut = cluster.place(x, "TD", a="T", b="D")
    for tensor, layout in (
        (exchange.all_reduce(summands, "b"), {"a": "T", "b": REPLICATED}),
        (exchange.reduce_scatter(summands, "b", "D"), {"a": "T", "b": "D"}),
        (exchange.reduce_scatter(summands, "b", "T"), {"a": "T", "b": "T"}),
        (exchange.all_gather(cut, "a"), {"a": REPLICATED, "b": "D"}),
        (exchange.all_to_all(cut, "b", "T"), {"a": "T", "b": "T"}),
        (exchange.split(exchange.all_gather(cut, "b"), "b", "T"), {"a": "T", "b": "T"}),
    ):
        assert tensor.layout == layout
        np.testing.assert_array_equal(tensor.value(), x)
    whole_again = exchange.all_gather(exchange.all_reduce(summands, "b"), "a")
    for device in cluster.devices:
        np.testing.assert_array_equal(whole_again.on(device), x)
    assert [trace.name for trace in cluster.log][:2] == ["all-reduce", "reduce-scatter"]
    assert cluster.log[0].bytes_per_device == 2 * (b - 1) * (x.nbytes // a) // b
    assert cluster.sent_bytes == sum(trace.bytes_per_device for trace in cluster.log)


def test_sums_and_functions_of_one_layout():
    cluster, x = Cluster(a=2), whole("TD")
    cut, summands = cluster.place(x, "TD", a="T"), partial(cluster, x, "TD", "a")
    for tensor in (cluster.place(x, "TD"), cut, summands):
        np.testing.assert_array_equal((tensor + tensor).value(), 2 * x)
    np.testing.assert_array_equal(cut.apply(np.tanh).value(), np.tanh(x))


def test_what_is_wrong_is_refused_with_reason_and_remedy():
    cluster, x = Cluster(a=2), whole("TD")
    full, rows, columns = (cluster.place(x, "TD", **layout) for layout in ({}, {"a": "T"}, {"a": "D"}))
    summands = partial(cluster, x, "TD", "a")
    elsewhere = Cluster(a=2).place(x, "TD")
    nested = Cluster(a=2, b=2).place(x, "TD", a="T", b="T")
    inner = Cluster(a=2, b=2).place(x, "TD", b="T")
    for call, why, mend in (
        (lambda: summands + full, "2 times", 'all_reduce(the partial one, "a")'),
        (lambda: summands + rows, "summand of the whole", "reduce_scatter"),
        (lambda: rows + full, "different parts", "all_gather"),
        (lambda: rows + columns, "different parts", 'all_to_all(x, "a", "T")'),
        (lambda: full + elsewhere, "another cluster", "place both on one cluster"),
        (lambda: einsum("TD,TD->TD", full, elsewhere), "another cluster", "place both"),
        (lambda: summands.apply(np.tanh), "f(a) + f(b) is not f(a + b)", "all_reduce"),
        (lambda: exchange.all_reduce(full, "a"), "2 times its value", "nothing"),
        (lambda: exchange.all_reduce(rows, "a"), "a sum of parts", "all_gather"),
        (lambda: exchange.all_gather(summands, "a"), "no parts", "all_reduce"),
        (lambda: exchange.all_gather(full, "a"), "no parts", "has it already"),
        (lambda: exchange.reduce_scatter(full, "a", "T"), "nothing to add", "split"),
        (lambda: exchange.reduce_scatter(rows, "a", "D"), "nothing to add", "leave it"),
        (lambda: exchange.split(rows, "a", "D"), "cut along T", "all_to_all"),
        (lambda: exchange.split(summands, "a", "D"), "a sum over", "reduce_scatter"),
        (lambda: exchange.all_to_all(rows, "a", "T"), "cut already", "another axis"),
        (lambda: exchange.all_to_all(summands, "a", "T"), "no parts", "reduce_scatter"),
        (lambda: exchange.all_gather(nested, "a"), "finer", 'all_gather(x, "b") first'),
        (lambda: exchange.split(inner, "a", "T"), "finer", 'all_gather(x, "b") first'),
    ):
        with pytest.raises(LayoutError) as caught:
            call()
        _, told_why, told_mend = str(caught.value).split("\n")
        assert why in told_why and mend in told_mend


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


def starts(timeline, stage):
    return [(job.kind[0], job.microbatch, job.start_s) for job in timeline.jobs if job.stage == stage]


def test_gpipe_by_hand():
    timeline = gpipe(2, 2, forward_s=1, backward_s=2)
    assert starts(timeline, 0) == [("f", 0, 0), ("f", 1, 1), ("b", 1, 5), ("b", 0, 7)]
    assert starts(timeline, 1) == [("f", 0, 1), ("f", 1, 2), ("b", 1, 3), ("b", 0, 5)]
    assert timeline.end_s == 9 and timeline.bubble_fraction == pytest.approx(1 / 3)


def test_one_f_one_b_by_hand():
    timeline = one_f_one_b(2, 3, forward_s=1, backward_s=1)
    assert starts(timeline, 1) == [("f", 0, 1), ("b", 0, 2), ("f", 1, 3), ("b", 1, 4), ("f", 2, 5), ("b", 2, 6)]
    assert starts(timeline, 0) == [("f", 0, 0), ("f", 1, 1), ("b", 0, 3), ("f", 2, 4), ("b", 1, 5), ("b", 2, 7)]


@pytest.mark.parametrize("schedule", SCHEDULES)
@settings(max_examples=30)
@given(sizes, times)
def test_bubble_is_the_closed_form(schedule, size, time):
    """And every job waits for those that it needs."""
    p, m = size
    timeline = schedule(p, m, *time)
    assert timeline.bubble_fraction == pytest.approx((p - 1) / (m + p - 1), abs=1e-12)
    assert timeline.end_s == pytest.approx((m + p - 1) * sum(time))
    jobs = {(job.kind, job.stage, job.microbatch): job for job in timeline.jobs}
    assert len(jobs) == len(timeline.jobs) == 2 * p * m
    paths = [[jobs["forward", s, i] for s in range(p)] + [jobs["backward", s, i] for s in reversed(range(p))]
             for i in range(m)]  # fmt: skip
    for one in paths + [[job for job in timeline.jobs if job.stage == s] for s in range(p)]:
        assert all(b.start_s >= a.end_s for a, b in zip(one, one[1:]))  # a device does one thing at a time


@settings(max_examples=30)
@given(sizes, times)
def test_live_activations_are_the_closed_forms(size, time):
    p, m = size
    all_first, in_turn = gpipe(p, m, *time), one_f_one_b(p, m, *time)
    for stage in range(p):
        assert all_first.peak_live(stage) == m
        assert in_turn.peak_live(stage) == min(p - stage, m)

"""The simulator computes what NumPy computes, or refuses and says why."""

import itertools

import numpy as np
import pytest

from afm_ref.parallelism.simulator import exchange
from afm_ref.parallelism.simulator.cluster import PARTIAL, REPLICATED, Cluster, LayoutError, einsum

SIZES = {"T": 16, "D": 8, "F": 12}


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

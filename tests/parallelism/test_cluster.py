"""The simulator computes what NumPy computes, or refuses and says why."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    x = cluster.place(whole("TD"), "TD", model="D")
    assert x.type == "[T, D/model]"
    w = cluster.place(whole("FD"), "FD", model="D")
    assert einsum("TD,FD->TF", x, w).type == "[T, F] partial over model"
    assert cluster.place(whole("TD"), "TD", data="T", model="T").type == "[T/data/model, D]"


@pytest.mark.parametrize("mesh", [{"a": 2}, {"a": 2, "b": 2}])
def test_products_equal_numpy_wherever_they_are_allowed(mesh):
    """Every pair of layouts of x [T, D] and w [F, D]: allowed ones give the product, refused ones would not."""
    cluster, x, w = Cluster(**mesh), whole("TD", 1), whole("FD", 2)
    names, allowed = list(mesh), 0
    for kinds in itertools.product(("T", "D", REPLICATED), repeat=len(names)):
        for other in itertools.product(("F", "D", REPLICATED), repeat=len(names)):
            a = cluster.place(x, "TD", **dict(zip(names, kinds, strict=True)))
            b = cluster.place(w, "FD", **dict(zip(names, other, strict=True)))
            pairs = set(zip(kinds, other, strict=True))
            fits = pairs <= {("T", REPLICATED), ("D", "D"), (REPLICATED, "F"), (REPLICATED, REPLICATED)}
            if not fits:
                with pytest.raises(LayoutError, match=r"(?s)multiply .*why: .*mend: "):
                    einsum("TD,FD->TF", a, b)
                continue
            y = einsum("TD,FD->TF", a, b)
            allowed += 1
            np.testing.assert_array_equal(y.value(), x @ w.T)
            expected = {"T": "T", "D": PARTIAL, REPLICATED: "F"}
            for name, left, right in zip(names, kinds, other, strict=True):
                assert y.layout[name] == (REPLICATED if left == right == REPLICATED else expected[left])
    assert allowed == 4 ** len(names)


def test_summands_times_a_whole_factor_stay_summands():
    cluster = Cluster(a=4)
    x, w = whole("TD", 1), whole("FD", 2)
    y = einsum("TD,FD->TF", partial(cluster, x, "TD", "a"), cluster.place(w, "FD"))
    assert y.layout["a"] == PARTIAL
    np.testing.assert_array_equal(y.value(), x @ w.T)
    for bad in (partial(cluster, w, "FD", "a"), cluster.place(w, "FD", a="F"), cluster.place(w, "FD", a="D")):
        with pytest.raises(LayoutError, match="its own summand"):
            einsum("TD,FD->TF", partial(cluster, x, "TD", "a"), bad)


@given(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2]), st.integers(0, 9))
def test_collectives_keep_the_value(a, b, seed):
    cluster, x = Cluster(a=a, b=b), whole("TD", seed)
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
    assert [t.name for t in cluster.log][:2] == ["all-reduce", "reduce-scatter"]
    assert cluster.log[0].trace.bytes_per_device == 2 * (b - 1) * (x.nbytes // a) // b
    assert cluster.sent_bytes == sum(t.trace.bytes_per_device for t in cluster.log)


def test_after_a_reduction_every_device_holds_the_sum():
    cluster, x = Cluster(a=4), whole("TD")
    y = exchange.all_reduce(partial(cluster, x, "TD", "a"), "a")
    for device in cluster.devices:
        np.testing.assert_array_equal(y.on(device), x)


def test_the_forward_and_backward_of_a_data_parallel_layer():
    """A layer cut by batch needs nothing forward; its weight gradient is born partial."""
    cluster, x, w = Cluster(data=4), whole("TD", 1), whole("FD", 2)
    X, W = cluster.place(x, "TD", data="T"), cluster.place(w, "FD")
    Y = einsum("TD,FD->TF", X, W)
    assert cluster.sent_bytes == 0
    gradient = einsum("TF,TD->FD", Y, X)  # of sum(y^2) / 2
    assert gradient.layout["data"] == PARTIAL
    np.testing.assert_array_equal(exchange.all_reduce(gradient, "data").value(), (x @ w.T).T @ x)


def test_nonlinear_functions_refuse_summands():
    cluster, x = Cluster(a=2), whole("TD")
    np.testing.assert_array_equal(cluster.place(x, "TD", a="D").apply(np.tanh).value(), np.tanh(x))
    with pytest.raises(LayoutError, match=r"f\(a \+ b\).*\n.*all_reduce"):
        partial(cluster, x, "TD", "a").apply(np.tanh)


def test_sums_of_equal_layouts():
    cluster, x = Cluster(a=2), whole("TD")
    for tensor in (cluster.place(x, "TD"), cluster.place(x, "TD", a="T"), partial(cluster, x, "TD", "a")):
        np.testing.assert_array_equal((tensor + tensor).value(), 2 * x)


def refusals():
    cluster, x = Cluster(a=2), whole("TD")
    full, rows, columns = (cluster.place(x, "TD", **layout) for layout in ({}, {"a": "T"}, {"a": "D"}))
    summands = partial(cluster, x, "TD", "a")
    elsewhere = Cluster(a=2).place(x, "TD")
    nested = Cluster(a=2, b=2).place(x, "TD", a="T", b="T")
    return {
        "add partial to full": (lambda: summands + full, "2 times", 'all_reduce(the partial one, "a")'),
        "add full to partial": (lambda: full + summands, "2 times", "all_reduce"),
        "add partial to cut": (lambda: summands + rows, "summand of the whole", "reduce_scatter"),
        "add cut to full": (lambda: rows + full, "different parts", "all_gather"),
        "add cut to cut": (lambda: rows + columns, "different parts", 'all_to_all(x, "a", "T")'),
        "mix devices": (lambda: full + elsewhere, "another cluster", "place both on one cluster"),
        "multiply across": (lambda: einsum("TD,TD->TD", full, elsewhere), "another cluster", "place both"),
        "sum copies": (lambda: exchange.all_reduce(full, "a"), "2 times its value", "complete already"),
        "sum parts": (lambda: exchange.all_reduce(rows, "a"), "different parts", "all_gather"),
        "gather summands": (lambda: exchange.all_gather(summands, "a"), "no parts", "all_reduce"),
        "gather copies": (lambda: exchange.all_gather(full, "a"), "no parts", "has it already"),
        "scatter copies": (lambda: exchange.reduce_scatter(full, "a", "T"), "nothing to add", "split"),
        "split parts": (lambda: exchange.split(rows, "a", "D"), "cut along T", "all_to_all"),
        "split summands": (lambda: exchange.split(summands, "a", "D"), "a sum over", "reduce_scatter"),
        "turn to itself": (lambda: exchange.all_to_all(rows, "a", "T"), "cut already", "another axis"),
        "gather the coarse cut": (lambda: exchange.all_gather(nested, "a"), "finer", 'all_gather(x, "b") first'),
        "cut coarser": (
            lambda: (
                exchange.split(exchange.all_gather(exchange.all_gather(nested, "b"), "a"), "a", "T")
                and exchange.split(Cluster(a=2, b=2).place(x, "TD", b="T"), "a", "T")
            ),
            "finer",
            'all_gather(x, "b")',
        ),
    }


@pytest.mark.parametrize("name", refusals())
def test_what_is_wrong_is_refused_with_reason_and_remedy(name):
    call, why, mend = refusals()[name]
    with pytest.raises(LayoutError) as caught:
        call()
    assert why in caught.value.why and mend in caught.value.mend and caught.value.what
    assert str(caught.value).count("\n") == 2


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda c, x: c.place(x, "T"), "must name each of the 2 axes"),
        (lambda c, x: c.place(x, "TT"), "own letter"),
        (lambda c, x: c.place(x, "TD", model="D"), "no axis 'model'"),
        (lambda c, x: c.place(x, "TD", a="F"), "name one of the axes"),
        (lambda c, x: c.place(x[:, :7], "TD", a="D"), "mesh axis 'a' cuts axis 1 into 2 equal chunks.*pad it to 8"),
        (lambda c, x: einsum("TD,DF->TF", c.place(x, "TD"), c.place(x, "TD")), "does not fit the axes"),
        (lambda c, x: exchange.split(c.place(x, "TD"), "a", "F"), "no axis 'F'"),
        (lambda c, x: exchange.all_gather(c.place(x, "TD"), "b"), "the mesh has no axis 'b'"),
        (lambda c, x: c.place(x, "TD").on(7), "device 7 holds nothing"),
        (lambda c, x: c.place(x, "TD") + c.place(x, "FD"), "axes must agree"),
        (lambda c, x: Cluster(a=0), "at least one device"),
    ],
)
def test_bad_input_is_told_what_to_do(call, words):
    with pytest.raises(ValueError, match=words):
        call(Cluster(a=2), whole("TD"))

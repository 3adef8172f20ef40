"""A cluster of fake devices in NumPy, whose arrays know which device holds what.

A `Tensor` has one letter for each of its axes and, for each axis of the cluster's mesh, one
of three layouts:

    replicated          every device along the mesh axis holds the same
    a letter            that axis of the tensor is cut into equal parts, one for each device
    partial             the devices hold summands; the value is their sum

Written as a type, a matrix with D cut over the mesh axis "model" and summands over "data"
is `[T, D/model] partial over data`. Products and sums give the layout that follows, or
raise LayoutError. Collectives change the layout, one mesh axis at a time, and write what
they sent into `cluster.log`.
"""

import collections
import dataclasses
import itertools
from collections.abc import Callable

import numpy as np

from ...ops import narrow, wide
from . import ring_collectives

REPLICATED, PARTIAL = "replicated", "partial"


class LayoutError(ValueError):
    """An operation that the layouts forbid: what it was, why it is wrong, what mends it."""

    def __init__(self, what: str, why: str, mend: str):
        super().__init__(f"{what}\n    why:  {why}\n    mend: {mend}")


class Cluster:
    """Fake devices on a mesh: `Cluster(data=2, model=4)` has eight, `Cluster()` one.

    `log` lists the traces of all collectives in order. Raises ValueError for an axis of size less than 1.
    """

    def __init__(self, **mesh: int):
        for name, size in mesh.items():
            if size < 1:
                raise ValueError(
                    f"mesh axis {name!r} needs at least one device, got {size}"
                )
        self.mesh = mesh
        self.coordinates = list(itertools.product(*map(range, mesh.values())))
        self.log: list[ring_collectives.Trace] = []

    def __repr__(self):
        sizes = ", ".join(f"{name}={size}" for name, size in self.mesh.items())
        return f"Cluster({sizes}) of devices {self.devices}"

    @property
    def devices(self) -> list[int]:
        """Return the numbers of the devices, in the order of the mesh."""
        return list(range(len(self.coordinates)))

    @property
    def sent_bytes(self) -> int:
        """Return what a device has sent in all collectives so far."""
        return sum(trace.bytes_per_device for trace in self.log)

    def place(self, x, axes: str, **layout: str) -> "Tensor":
        """Return x on the devices: `place(w, "FD", model="F")` cuts F over model.

        Where two mesh axes cut one letter, the first axis of the mesh makes the coarser
        cut. Raises ValueError where letters do not fit x, a mesh axis does not exist, or a
        size does not divide.
        """
        x = np.asarray(x)
        if x.ndim != len(axes) or len(set(axes)) != len(axes):
            raise ValueError(
                f"{axes!r} must name each of the {x.ndim} axes of shape {x.shape} by its own letter"
            )
        for name, kind in layout.items():
            self.check_axis(name)
            if kind not in (*axes, REPLICATED):
                raise ValueError(
                    f"{name}={kind!r}: name one of the axes {axes!r} to cut, or leave {name} out to copy"
                )
        whole = dict.fromkeys(self.mesh, REPLICATED) | layout
        pieces = dict.fromkeys(self.coordinates, x)
        for name, kind in whole.items():
            if kind != REPLICATED:
                pieces = self.parts(pieces, name, axes.index(kind), f"mesh axis {name!r}")
        return Tensor(self, axes, whole, pieces)

    def check_axis(self, name: str) -> None:
        """Raise ValueError unless the mesh has this axis."""
        if name not in self.mesh:
            raise ValueError(
                f"the mesh has no axis {name!r}; it has {list(self.mesh)}: {self!r}"
            )

    def parts(self, pieces: dict, name: str, at: int, what: str) -> dict:
        """Return of each device's piece, cut along a mesh axis, the part that it keeps."""
        position, n = list(self.mesh).index(name), self.mesh[name]
        return {
            c: ring_collectives.cut(piece, n, at, what)[c[position]]
            for c, piece in pieces.items()
        }

    def lines(self, name: str) -> list[list[tuple]]:
        """Return the rings along a mesh axis, as coordinates that differ in it alone."""
        position, rings = list(self.mesh).index(name), collections.defaultdict(list)
        for c in self.coordinates:
            rings[c[:position] + c[position + 1 :]].append(c)
        return list(rings.values())


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """An array on a cluster: a letter an axis, a layout a mesh axis, a piece a device."""

    cluster: Cluster
    axes: str
    layout: dict[str, str]
    pieces: dict[tuple, np.ndarray]

    @property
    def type(self) -> str:
        """Return the layout in words, as "[T, D/model] partial over data"."""

        def over(wanted):
            return [name for name, kind in self.layout.items() if kind == wanted]

        text = ", ".join("/".join([a, *over(a)]) for a in self.axes)
        summed = ", ".join(over(PARTIAL))
        return f"[{text}]" + (f" partial over {summed}" if summed else "")

    def __repr__(self):
        return f"{self.type} on {self.cluster!r}"

    def on(self, device: int) -> np.ndarray:
        """Return the piece in the memory of one device, by its number."""
        if device in self.cluster.devices:
            return self.pieces[self.cluster.coordinates[device]]
        raise ValueError(
            f"device {device} holds nothing of this: it lives on devices {self.cluster.devices}"
        )

    def value(self) -> np.ndarray:
        """Return the whole value, put together by an observer at no cost: for checks."""
        pieces = self.pieces
        for kind in reversed(self.layout.values()):
            groups = collections.defaultdict(list)
            for c, piece in pieces.items():
                groups[c[:-1]].append(piece)
            pieces = {c: _join(group, kind, self.axes) for c, group in groups.items()}
        return pieces[()]

    def __add__(self, other: "Tensor") -> "Tensor":
        """Return the sum of two tensors of the same layout; LayoutError if they differ."""
        if not isinstance(other, Tensor):
            return NotImplemented
        _same_devices("add", self, other)
        if self.axes != other.axes:
            raise ValueError(
                f"add: the axes must agree, got {self.axes!r} and {other.axes!r}"
            )
        for name in self.cluster.mesh:
            _addable(name, self, other)
        return dataclasses.replace(
            self, pieces={c: piece + other.pieces[c] for c, piece in self.pieces.items()}
        )

    def apply(self, fn: Callable) -> "Tensor":
        """Return fn, which acts entry by entry, of every piece; LayoutError on summands."""
        for name, kind in self.layout.items():
            if kind == PARTIAL:
                why = "each device holds a summand, and f(a) + f(b) is not f(a + b)"
                mend = f'all_reduce(x, "{name}") first, or reduce_scatter to keep it cut'
                what = getattr(fn, "__name__", "a function")
                raise LayoutError(f"apply {what} to {self.type}", why, mend)
        return dataclasses.replace(
            self, pieces={c: fn(piece) for c, piece in self.pieces.items()}
        )


def einsum(spec: str, a: Tensor, b: Tensor) -> Tensor:
    """Return `einsum("TD,FD->TF", x, w)`, each device multiplying what it holds.

    For every mesh axis:
    - both replicated: the result is; a summand times a replicated factor is a summand;
    - a letter cut in every factor that has it, the others replicated: the result is cut by
      it, or, where the letter is summed away, partial.
    Everything else raises LayoutError.

    Source: the products of block matrices [standard].
    Test: tests/parallelism/test_simulator.py::test_products_equal_numpy_wherever_they_are_allowed
    """
    inputs, out = spec.replace(" ", "").split("->")
    if inputs.split(",") != [a.axes, b.axes]:
        raise ValueError(
            f"einsum {spec!r} does not fit the axes of its tensors, {a.axes!r} and {b.axes!r}"
        )
    _same_devices("multiply", a, b)
    layout = {name: product_layout(name, spec, a, b) for name in a.cluster.mesh}
    dtype = np.result_type(a.on(0), b.on(0))
    pieces = {
        c: narrow(np.einsum(spec, wide(piece), wide(b.pieces[c])), dtype)
        for c, piece in a.pieces.items()
    }
    return Tensor(a.cluster, out, layout, pieces)


def product_layout(axis: str, spec: str, a: Tensor, b: Tensor) -> str:
    """Return how a product lies along one mesh axis, or raise LayoutError."""
    kinds = {a.layout[axis], b.layout[axis]}
    if kinds == {REPLICATED}:
        return REPLICATED
    if kinds == {PARTIAL, REPLICATED}:
        return PARTIAL  # a product with a whole factor is linear in the summands
    letter, *other = sorted(kinds - {REPLICATED})
    if PARTIAL in kinds:
        why = "a device would multiply only its own summand"
        mend = f'all_reduce the partial factor over "{axis}"'
    elif other:
        why = f"part i of {letter} would meet only part i of {other[0]}; the other pairs are lost"
        mend = f'all_gather one of the two over "{axis}"'
    elif any(letter in x.axes and x.layout[axis] != letter for x in (a, b)):
        why = f"a device has its part of {letter} in one factor, all of it in the other"
        mend = f'split(x, "{axis}", "{letter}") the whole one (free), or all_gather the cut one'
    else:
        return letter if letter in spec.split("->")[1] else PARTIAL
    what = f"multiply {a.type} by {b.type} ({spec})"
    raise LayoutError(what, f"along {axis!r} {why}", mend)


def _addable(name, a, b):
    kinds = (a.layout[name], b.layout[name])
    if kinds[0] == kinds[1]:
        return
    first, second = sorted(kinds, key=(PARTIAL, REPLICATED, *a.axes).index)
    if (first, second) == (PARTIAL, REPLICATED):
        n = a.cluster.mesh[name]
        why = f"each of the {n} devices along {name!r} would add the full array, so that the sum holds it {n} times"
        mend = f'all_reduce(the partial one, "{name}") first'
    elif first == PARTIAL:
        why = f"along {name!r} one array is cut into parts, of the other each device holds a summand of the whole"
        mend = f'reduce_scatter(the partial one, "{name}", "{second}")'
    else:
        why = f"along {name!r} the pieces of a device are different parts of the two arrays"
        mend = f'all_gather(the cut one, "{name}"), or split the whole one (free)'
        if first != REPLICATED:
            mend = f'all_to_all(x, "{name}", "{kinds[0]}") the second, so that both are cut along {kinds[0]}'
    raise LayoutError(f"add {a.type} and {b.type}", why, mend)


def _same_devices(verb, a, b):
    if a.cluster is not b.cluster:
        why = f"the first lives on {a.cluster!r}, the second on {b.cluster!r}: another cluster"
        mend = "place both on one cluster; a device computes only with what is in its own memory"
        raise LayoutError(f"{verb} {a.type} and {b.type}", why, mend)


def _join(group, kind, axes):
    if kind == REPLICATED:
        return group[0]
    return sum(group) if kind == PARTIAL else np.concatenate(group, axis=axes.index(kind))

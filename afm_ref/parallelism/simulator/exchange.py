"""Collectives of the fake cluster: each changes a layout and writes down what it sent.

all_reduce       partial     -> replicated        all_gather       cut  -> replicated
reduce_scatter   partial     -> cut               all_to_all       cut  -> cut elsewhere
split            replicated  -> cut, for free
"""

import dataclasses

from . import ring_collectives
from .cluster import PARTIAL, REPLICATED, LayoutError, Tensor

NO_PARTS = "there are no parts to move"
COMPLETE = "nothing: every device has it already"


def all_reduce(x: Tensor, axis: str) -> Tensor:
    """Return x summed over a mesh axis; LayoutError unless x is partial there."""
    _kind(
        x,
        axis,
        "all_reduce",
        replicated=(
            f"summing full arrays gives {x.cluster.mesh.get(axis)} times its value",
            COMPLETE,
        ),
        cut=("a sum of parts means nothing", f'all_gather(x, "{axis}")'),
    )
    return _exchange(x, axis, REPLICATED, ring_collectives.all_reduce)


def all_gather(x: Tensor, axis: str) -> Tensor:
    """Return x with its parts put together; LayoutError unless x is cut there."""
    kind = _kind(
        x,
        axis,
        "all_gather",
        replicated=(NO_PARTS, COMPLETE),
        partial=(NO_PARTS, f'all_reduce(x, "{axis}") adds the summands'),
    )
    return _exchange(x, axis, REPLICATED, ring_collectives.all_gather, kind)


def reduce_scatter(x: Tensor, axis: str, letter: str) -> Tensor:
    """Return x summed, each device keeping its part along `letter`: half an all_reduce.

    LayoutError unless x is partial there, ValueError if `letter` does not divide.
    """
    why = "there is nothing to add"
    _kind(
        x,
        axis,
        "reduce_scatter",
        replicated=(why, f'split(x, "{axis}", "{letter}"), which is free'),
        cut=(why, "leave it as it is"),
    )
    return _exchange(x, axis, letter, ring_collectives.reduce_scatter, letter)


def all_to_all(x: Tensor, axis: str, letter: str) -> Tensor:
    """Return x cut along `letter` instead of the axis that was cut over this mesh axis.

    LayoutError unless x is cut there, ValueError if `letter` does not divide.
    """
    instead = f'reduce_scatter(x, "{axis}", "{letter}") adds the summands and cuts'
    kind = _kind(
        x, axis, "all_to_all", replicated=(NO_PARTS, COMPLETE), partial=(NO_PARTS, instead)
    )
    if kind == letter:
        why = f"{letter} is the axis that is cut already"
        raise LayoutError(f"all_to_all {x.type} over {axis!r}", why, "name another axis")
    return _exchange(x, axis, letter, ring_collectives.all_to_all, letter, kind)


def split(x: Tensor, axis: str, letter: str) -> Tensor:
    """Return x cut along `letter`: every device forgets the rest, for free.

    Raises LayoutError unless x is replicated there.
    """
    why = "only where all hold the same can each keep its part"
    _kind(
        x,
        axis,
        "split",
        partial=(why, f'reduce_scatter(x, "{axis}", "{letter}")'),
        cut=(why, f'all_to_all(x, "{axis}", "{letter}")'),
    )
    pieces = x.cluster.parts(x.pieces, axis, _finest(x, axis, letter, "split"), "split")
    return dataclasses.replace(x, layout={**x.layout, axis: letter}, pieces=pieces)


def _exchange(x, axis, kind, collective, *letters):
    """Run the collective, along these axes of x, on every ring of the mesh axis; log one."""
    where = [_finest(x, axis, letter, collective.__name__) for letter in letters]
    pieces = {}
    for line in x.cluster.lines(axis):
        trace = collective([x.pieces[c] for c in line], *where)
        pieces.update(zip(line, trace.result, strict=True))
    x.cluster.log.append(trace)
    return dataclasses.replace(x, layout={**x.layout, axis: kind}, pieces=pieces)


def _kind(x, axis, name, **refused):
    """Return how x lies along the mesh axis, unless that is refused: {kind: (why, mend)}."""
    x.cluster.check_axis(axis)
    kind = x.layout[axis]
    words = {REPLICATED: REPLICATED, PARTIAL: "a sum over the devices"}
    said = words.get(kind, f"cut along {kind}")
    which = kind if kind in words else "cut"
    if which in refused:
        why, mend = refused[which]
        what = f"{name} {x.type} over {axis!r}"
        raise LayoutError(what, f"along {axis!r} it is {said}: {why}", mend)
    return kind


def _finest(x, axis, letter, name):
    """Return the place of an axis of x; no later axis of the mesh, a finer cut, may cut it."""
    if letter not in x.axes:
        raise ValueError(
            f"{name}: the tensor has no axis {letter!r}; its axes are {x.axes!r}"
        )
    names = list(x.layout)
    finer = [other for other in names[names.index(axis) + 1 :] if x.layout[other] == letter]
    if finer:
        why = (
            f"{letter} is cut over {finer[-1]!r} too, which comes later in the mesh and so is the finer cut: "
            f"the parts along {axis!r} would be no neighbours"
        )
        mend = f'all_gather(x, "{finer[-1]}") first, or cut another axis'
        raise LayoutError(f"{name} {x.type} over {axis!r}", why, mend)
    return x.axes.index(letter)

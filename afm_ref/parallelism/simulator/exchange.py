"""Collectives of the fake cluster: each changes a layout and writes down what it sent.

all_reduce       partial     -> replicated        all_gather       cut  -> replicated
reduce_scatter   partial     -> cut               all_to_all       cut  -> cut elsewhere
split            replicated  -> cut, for free
"""

import dataclasses
from collections.abc import Callable

from . import ring_collectives
from .cluster import PARTIAL, REPLICATED, LayoutError, Tensor, Transfer


def all_reduce(x: Tensor, axis: str) -> Tensor:
    """Return x summed over a mesh axis; LayoutError unless x is partial there."""
    kind = _kind(x, axis)
    if kind == REPLICATED:
        n = x.cluster.mesh[axis]
        why = f"all {n} devices along {axis!r} hold the same full array; summing them gives {n} times its value"
        raise _refused("all_reduce", x, axis, why, "nothing: it is complete already")
    if kind != PARTIAL:
        why = f"the devices along {axis!r} hold different parts of {kind}; their sum means nothing"
        raise _refused(
            "all_reduce", x, axis, why, f'all_gather(x, "{axis}") puts the parts together'
        )
    return _exchange(x, "all-reduce", axis, REPLICATED, ring_collectives.all_reduce)


def all_gather(x: Tensor, axis: str) -> Tensor:
    """Return x with its parts put together; LayoutError unless x is cut there."""
    kind = _cut_kind(x, axis, "all_gather", f'all_reduce(x, "{axis}") adds the summands')
    at = x.axes.index(kind)
    return _exchange(x, "all-gather", axis, REPLICATED, ring_collectives.all_gather, at)


def reduce_scatter(x: Tensor, axis: str, letter: str) -> Tensor:
    """Return x summed, each device keeping its part along `letter`: half an all_reduce.

    LayoutError unless x is partial there, ValueError if `letter` does not divide.
    """
    kind = _kind(x, axis)
    if kind != PARTIAL:
        why = f"along {axis!r} it is {_words(kind)}: there is nothing to add"
        mend = (
            f'split(x, "{axis}", "{letter}"), which is free'
            if kind == REPLICATED
            else "leave it as it is"
        )
        raise _refused("reduce_scatter", x, axis, why, mend)
    at = _free_letter(x, axis, letter, "reduce_scatter")
    return _exchange(x, "reduce-scatter", axis, letter, ring_collectives.reduce_scatter, at)


def all_to_all(x: Tensor, axis: str, letter: str) -> Tensor:
    """Return x cut along `letter` instead of the axis that was cut over this mesh axis.

    LayoutError unless x is cut there, ValueError if `letter` does not divide.
    """
    kind = _cut_kind(
        x,
        axis,
        "all_to_all",
        f'reduce_scatter(x, "{axis}", "{letter}") adds the summands and cuts',
    )
    if kind == letter:
        why = f"{letter} is the axis that is cut already"
        raise _refused(
            "all_to_all", x, axis, why, "nothing, or name another axis to cut instead"
        )
    to, origin = _free_letter(x, axis, letter, "all_to_all"), x.axes.index(kind)
    return _exchange(x, "all-to-all", axis, letter, ring_collectives.all_to_all, to, origin)


def split(x: Tensor, axis: str, letter: str) -> Tensor:
    """Return x cut along `letter`: every device forgets the rest, for free.

    Raises LayoutError unless x is replicated there.
    """
    kind = _kind(x, axis)
    if kind != REPLICATED:
        mend = (
            f'reduce_scatter(x, "{axis}", "{letter}")'
            if kind == PARTIAL
            else f'all_to_all(x, "{axis}", "{letter}")'
        )
        why = f"along {axis!r} it is {_words(kind)}; only where all hold the same can each keep its part"
        raise _refused("split", x, axis, why, mend)
    at = _free_letter(x, axis, letter, "split")
    pieces = dict(x.pieces)
    for line in x.cluster.lines(axis):
        for i, coordinate in enumerate(line):
            pieces[coordinate] = ring_collectives.cut(
                x.pieces[coordinate], len(line), at, "split"
            )[i]
    return dataclasses.replace(x, layout={**x.layout, axis: letter}, pieces=pieces)


def _exchange(
    x: Tensor, name: str, axis: str, kind: str, collective: Callable, *where: int
) -> Tensor:
    """Run the collective on every ring along the mesh axis; one is logged."""
    pieces = {}
    for line in x.cluster.lines(axis):
        trace = collective([x.pieces[c] for c in line], *where)
        pieces.update(zip(line, trace.result, strict=True))
    new = dataclasses.replace(x, layout={**x.layout, axis: kind}, pieces=pieces)
    x.cluster.log.append(Transfer(name, axis, x.type, new.type, trace))
    return new


def _refused(name: str, x: Tensor, axis: str, why: str, mend: str) -> LayoutError:
    return LayoutError(f"{name} {x.type} over {axis!r}", why, mend)


def _kind(x: Tensor, axis: str) -> str:
    x.cluster.check_axis(axis)
    return x.layout[axis]


def _words(kind: str) -> str:
    return {REPLICATED: "replicated", PARTIAL: "a sum over the devices"}.get(
        kind, f"cut along {kind}"
    )


def _cut_kind(x: Tensor, axis: str, name: str, mend_partial: str) -> str:
    """Return the letter that is cut over the mesh axis, if it can be put together there."""
    kind = _kind(x, axis)
    if kind in (REPLICATED, PARTIAL):
        why = f"along {axis!r} it is {_words(kind)}: there are no parts to move"
        mend = mend_partial if kind == PARTIAL else "nothing: every device has it already"
        raise _refused(name, x, axis, why, mend)
    last = [other for other, letter in x.layout.items() if letter == kind][-1]
    if last != axis:
        why = f"{kind} is cut over {axis!r} and then, finer, over {last!r}: the parts along {axis!r} are not neighbours"
        raise _refused(name, x, axis, why, f'all_gather(x, "{last}") first')
    return kind


def _free_letter(x: Tensor, axis: str, letter: str, name: str) -> int:
    """Return the place of an axis that can be cut over the mesh axis, finer than all."""
    if letter not in x.axes:
        raise ValueError(
            f"{name}: the tensor has no axis {letter!r}; its axes are {x.axes!r}"
        )
    names = list(x.layout)
    finer = [other for other in names[names.index(axis) + 1 :] if x.layout[other] == letter]
    if finer:
        why = f"{letter} is cut over {finer[0]!r} already, which comes later in the mesh and so must be the finer cut"
        raise _refused(
            name, x, axis, why, f'all_gather(x, "{finer[0]}") first, or cut another axis'
        )
    return x.axes.index(letter)

"""Containers of layers: a tuple is looped, anything with `.run` runs itself. And the
walkers over their matrices.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from . import ops
from .config import MATRICES
from .weights import Layer, Params


class Stream(NamedTuple):
    """What flows from block to block: the residual stream, and the newest keys and values."""

    x: Any  # [B, T, D]
    kv: Any = None


def run_layers(layers, step, stream: Stream, cache=None):
    """Return (stream, cache) after all layers: a container runs itself, a tuple is looped.

    step(stream, layer, cache) -> (stream, cache) is a block with everything but the layer
    filled in.
    """
    if hasattr(layers, "run"):
        return layers.run(step, stream, cache)
    if isinstance(layers, Layer):
        return step(stream, layers, cache)
    caches = []
    for i, layer in enumerate(layers):
        stream, new = run_layers(layer, step, stream, None if cache is None else cache[i])
        caches.append(new)
    return stream, None if cache is None else tuple(caches)


class Stacked(NamedTuple):
    """Layers of equal structure with their leaves stacked, [L, ...]: one `lax.scan`,
    compiled once for all.
    """

    layer: Layer

    def run(self, step, stream, cache=None):
        """Return (stream, cache); the cache has the leading axis L as well."""
        import jax

        def body(x, item):
            layer, layer_cache = item
            new, layer_cache = step(Stream(x, stream.kv), layer, layer_cache)
            return new.x, layer_cache

        x, cache = jax.lax.scan(body, stream.x, (self.layer, cache))
        # A scan hands on no keys: a layer that reuses them must follow one that is not
        # stacked.
        return Stream(x, stream.kv if self.layer.wk is None else None), cache


class Remat(NamedTuple):
    """Layers whose activations are computed again in the backward pass instead of kept
    (over Stacked, on CPU).
    """

    layers: Any

    def run(self, step, stream, cache=None):
        """Return (stream, cache), the same numbers as without it."""
        import jax

        return run_layers(self.layers, jax.checkpoint(step), stream, cache)


def group(layers: tuple) -> tuple:
    """Return the layers with every run of two or more of equal structure, shapes and dtypes
    stacked.
    """
    import jax

    def kind(layer):
        leaves, tree = jax.tree.flatten(layer)
        return tree, [(leaf.shape, leaf.dtype) for leaf in leaves]

    def stack(*leaves):
        return leaves[0].__array_namespace__().stack(leaves)

    runs = [list(run) for _, run in itertools.groupby(layers, key=kind)]
    return tuple(
        Stacked(jax.tree.map(stack, *run)) if len(run) > 1 else run[0] for run in runs
    )


def ungroup(layers) -> tuple:
    """Return the single layers inside any container, in order: it undoes `group`."""
    if isinstance(layers, Layer):
        return (layers,)
    if isinstance(layers, Stacked):
        import jax

        L = jax.tree.leaves(layers.layer)[0].shape[0]
        return tuple(
            jax.tree.map(lambda leaf, i=i: leaf[i], layers.layer) for i in range(L)
        )
    items = _items(getattr(layers, "layers", layers))
    return tuple(one for item in items for one in ungroup(item))


def _items(layers):
    if not isinstance(layers, tuple | list):
        raise ValueError(
            f"cannot walk layers in a {type(layers).__name__}: use the model before it was wrapped"
        )
    return layers


def ungrouped(params: Params) -> Params:
    """Return the params with a tuple of single layers."""
    return params._replace(layers=ungroup(params.layers))


def map_matrices(params: Params, change: Callable) -> Params:
    """Return the params with change(name, weight, numbers of its layers) in place of every
    matrix of every layer.

    In a `Stacked` the weight has an axis of layers in front, and there are as many numbers;
    else there is one.
    """
    number = itertools.count()

    def of_layer(layer, L):
        numbers = tuple(itertools.islice(number, L))
        there = {name: getattr(layer, name) for name in MATRICES}
        return layer._replace(
            **{name: change(name, w, numbers) for name, w in there.items() if w is not None}
        )

    def each(layers):
        if isinstance(layers, Layer):
            return of_layer(layers, 1)
        if isinstance(layers, Stacked):
            return Stacked(of_layer(layers.layer, len(layers.layer.attention_norm)))
        if isinstance(layers, Remat):
            return Remat(each(layers.layers))
        return tuple(map(each, _items(layers)))

    return params._replace(layers=each(params.layers))


def matrices(params: Params) -> dict:
    """Return {(matrix, number of its layer, or of the first of a stack): weight}."""
    found = {}
    map_matrices(params, lambda name, w, numbers: found.setdefault((name, numbers[0]), w))
    return found


def replaced(params: Params, new: Mapping) -> Params:
    """Return the params with other weights at these keys of `matrices`; ValueError for a key
    that is none.
    """
    if lost := new.keys() - matrices(params).keys():
        raise ValueError(f"there are no such matrices: {sorted(lost)[:3]}")
    return map_matrices(params, lambda name, w, numbers: new.get((name, numbers[0]), w))


@dataclasses.dataclass(frozen=True, eq=False)
class Tap:
    """A weight that computes what its base does, and calls note(x, y) with what goes in and
    what comes out.
    """

    base: Any
    note: Callable

    def apply(self, x):
        """Return W x."""
        y = ops.linear(x, self.base)
        self.note(x, y)
        return y

"""Strategies by annotation only: say where arrays lie; XLA finds the communication.

The forward function, the losses and `training.make_step` stay as they are: only their
arguments are placed, by the rules of `axis_rules`. This is how AXLearn and most JAX code
train; the weights in `placements` say the communication themselves instead. Whatever takes
arrays here takes shapes as well (`jax.ShapeDtypeStruct`), for `jit(...).lower`.
"""

import math
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ... import ops
from ...config import AFMConfig
from ...containers import Remat, Stacked
from ...losses import Batch
from ...training.layout import map_mirrors
from ...weights import Params, leaf_name, shaped, weight
from ..mesh import axes_of, put
from .axis_rules import DEFAULT, Rules, logical_axes


def shardings(tree, specs, mesh: Mesh):
    """Return the tree with a `NamedSharding` in each array's place.

    Raises ValueError for an axis that the mesh lacks, or an array that they do not divide.
    """

    def one(path, leaf, spec):
        for axis, names in enumerate(map(axes_of, spec)):
            if missing := [name for name in names if name not in mesh.shape]:
                raise ValueError(
                    f"the rules name the mesh axis {missing[0]!r}, but the mesh has {mesh.axis_names}"
                )
            parts = _parts(mesh, names)
            if leaf.shape[axis] % parts:
                raise ValueError(
                    f"{leaf_name(path)} {list(leaf.shape)} cannot be cut into {parts} along axis {axis} "
                    f"({', '.join(names)}): take a mesh whose sizes divide {leaf.shape[axis]}, or another rule"
                )
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(one, tree, specs)


def _parts(mesh, names):
    return math.prod(mesh.shape[name] for name in names)


def shard(
    params: Params, mesh: Mesh, rules: Rules = DEFAULT, pinned: bool = True
) -> Params:
    """Return params that lie on the mesh as the rules say, for any jitted function.

    pinned wraps every matrix in `Pinned`; without it only the weights' own places are said.
    """
    placed = jax.tree.map(_put, params, shardings(params, rules.specs(params), mesh))
    return pin(placed, mesh, rules) if pinned else placed


def shard_batch(batch: Batch, mesh: Mesh, rules: Rules = DEFAULT) -> Batch:
    """Return a Batch that lies on the mesh as the rules say."""
    places = shardings(batch, rules.batch_specs(batch.documents is not None), mesh)
    return jax.tree.map(_put, batch, places)


def _put(leaf, where):
    """Move what lies on devices already from one to the other, all else from the host."""
    return jax.device_put(leaf, where) if isinstance(leaf, jax.Array) else put(leaf, where)


def state_shapes(optimizer, params):
    """Return the optimizer's state as shapes that lie on the mesh of sharded params.

    What is built like the weights lies as they do, the rest everywhere.
    `training.make_step(loss, optimizer, (params, state_shapes(optimizer, params)))` keeps
    both there: left alone, the partitioner may return a weight cut otherwise, and the next
    call compiles again.
    """
    everywhere = NamedSharding(jax.tree.leaves(params)[0].sharding.mesh, P())
    places = jax.tree.map(lambda leaf: leaf.sharding, params)
    return map_mirrors(
        lambda mirror: jax.tree.map(put, mirror, places),
        lambda leaf: put(leaf, everywhere),
        jax.eval_shape(optimizer.init, params),
        params,
    )


@weight
class Pinned:
    """A matrix that says where it lies while it is used, and where its result lies.

        y: [B, T, out] at (batch, time, W's rows),  W gathered over the axes that also cut B

    Placing the weights alone leaves a choice: where W is cut along D, the partitioner may
    gather W (FSDP) or cut the activations along D and sum them after every product. It
    takes the second, and each device then works on the whole batch. AXLearn pins
    activations as well.

    Source: AXLearn's with_sharding_constraint on activations; XLA GSPMD 2021 section 3
        [inferred].
    Test: tests/parallelism/test_grid.py::test_pins_keep_the_batch_cut
    """

    w: Any  # [out, in]
    use: NamedSharding  # where W lies in a product
    out: NamedSharding  # where its result lies, [B, T, out]

    def _whole(self):
        return jax.lax.with_sharding_constraint(self.w, self.use)

    def apply(self, x):
        """Return W x, cut like the batch."""
        # ops.linear lays the batch axes in one, and a cut T inside it becomes whole on
        # every device
        time_is_cut = _parts(self.out.mesh, axes_of(self.out.spec[1])) > 1
        y = x @ self._whole().T if time_is_cut else ops.linear(x, self._whole())
        return jax.lax.with_sharding_constraint(y, self.out)

    def lookup(self, tokens):
        """Return W's rows that the tokens name, cut like the batch."""
        out = NamedSharding(self.out.mesh, P(*self.out.spec[:2], None))
        return jax.lax.with_sharding_constraint(self._whole()[tokens], out)


def pin(params: Params, mesh: Mesh, rules: Rules = DEFAULT) -> Params:
    """Return params with every matrix, or shape of one, as `Pinned`."""
    batch = {*axes_of(rules.batch), *axes_of(rules.time)}

    def one(leaf, axes):
        if "norm" in axes or "head" in axes:
            return leaf
        cuts = (axes_of(getattr(rules, name)) for name in axes[-2:])
        use = P(*(tuple(name for name in names if name not in batch) for names in cuts))
        out = P(rules.batch, rules.time, use[0])
        return Pinned(leaf, NamedSharding(mesh, use), NamedSharding(mesh, out))

    return jax.tree.map(one, params, logical_axes(params))


def unpin(params):
    """Return the tree with the plain array in every `Pinned` weight's place."""
    return jax.tree.map(
        lambda w: getattr(w, "w", w),
        params,
        is_leaf=lambda w: isinstance(w, Pinned),
    )


def stacked_shapes(cfg: AFMConfig, dtype, remat: bool = True) -> Params:
    """Return the shapes of a model's weights with its layers stacked, no memory taken."""
    params = shaped(
        cfg, lambda *shape: jax.ShapeDtypeStruct(shape, dtype), lead=(cfg.n_layers,)
    )
    layers = Stacked(*params.layers)
    return params._replace(layers=Remat(layers) if remat else layers)

"""The strategies by annotation only: say where arrays lie, and let XLA's partitioner find the communication.

    axis of an array  --(logical_axes)-->  logical name  --(Rules)-->  mesh axis        w_up: [F, D] -> ffn, embed
                                                                                             -> "model", "fsdp"

The forward function, the losses and `training.fit` stay as they are: only their arguments are placed. This is how
AXLearn and most JAX code train; the weights in `placements` say the communication themselves instead.
"""

import dataclasses
import math
from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from .. import ops, training
from ..config import AFMConfig
from ..layers import Remat, Stacked
from ..layout import map_mirrors
from ..losses import Batch
from ..weights import Layer, Params, leaf_name, shaped

MeshAxes = str | tuple[str, ...] | None

LOGICAL = {
    "embed": ("vocab", "embed"),
    "unembed": ("vocab", "embed"),
    "final_norm": ("norm",),
    "attention_norm": ("norm",),
    "ffn_norm": ("norm",),
    "q_norm": ("head",),
    "k_norm": ("head",),
    "wq": ("heads", "embed"),
    "wk": ("kv_heads", "embed"),
    "wv": ("kv_heads", "embed"),
    "wo": ("embed", "heads"),
    "w_gate": ("ffn", "embed"),
    "w_up": ("ffn", "embed"),
    "w_down": ("embed", "ffn"),
}


@dataclasses.dataclass(frozen=True)
class Rules:
    """Which mesh axes cut each logical axis; None leaves it whole. The defaults are FSDP and tensor parallelism.

    A mesh axis of size 1 cuts nothing, so the same rules serve pure data parallelism, FSDP, tensor parallelism and
    their products: the mesh decides.

    Source: AXLearn's partition specs of the honeycrisp model (fsdp along D, model along the other axis) [inferred].
    Test: tests/parallelism/test_annotation.py::test_equals_one_device
    """

    batch: MeshAxes = ("data", "fsdp")  # B
    time: MeshAxes = "seq"  # T
    embed: MeshAxes = "fsdp"  # D of a matrix
    norm: MeshAxes = None  # D of a gain: 6 kB a layer in bf16
    heads: MeshAxes = "model"  # N*H
    kv_heads: MeshAxes = "model"  # K*H
    head: MeshAxes = None  # H
    ffn: MeshAxes = "model"  # F
    vocab: MeshAxes = "model"  # V
    layers: MeshAxes = None  # L of stacked layers


def logical_axes(params: Params) -> Params:
    """Return the tree of params with a tuple of logical names in each array's place, one name an axis.

    Containers keep their shape; a leading axis that `Stacked` adds is named "layers". Weights that are objects
    (adapters, palettes) raise TypeError: annotate plain arrays.

    Source: AXLearn parameter partition specs [inferred].
    Test: tests/parallelism/test_annotation.py::test_specs_of_every_weight
    """

    def names(node, stacked=0):
        if node is None or (isinstance(node, tuple) and not hasattr(node, "_fields")):
            return None if node is None else tuple(names(item, stacked) for item in node)
        if isinstance(node, Stacked):
            return Stacked(names(node.layer, stacked + 1))
        if isinstance(node, Remat):
            return Remat(names(node.layers, stacked))
        if not isinstance(node, Params | Layer):
            raise TypeError(f"cannot annotate a {type(node).__name__}: give Params whose weights are plain arrays")
        return type(node)(**{f: _of(f, getattr(node, f), stacked, names) for f in node._fields})

    return names(params)


def _of(field, value, stacked, names):
    if value is None or field == "layers":
        return names(value, stacked)
    axes = ("layers",) * stacked + LOGICAL[field]
    if getattr(value, "ndim", None) != len(axes):
        raise TypeError(f"{field} is a {type(value).__name__}, not a plain array with the axes {axes}")
    return axes


def specs(params: Params, rules: Rules = Rules()) -> Params:
    """Return the tree of params with a `PartitionSpec` in each array's place.

        w_up: [F, D]  ->  P("model", "fsdp")             w_down: [D, F]  ->  P("fsdp", "model")

    Source: AXLearn's logical rules; Megatron-LM 2019 section 3 (which side of a matrix is cut) [standard].
    Test: tests/parallelism/test_annotation.py::test_specs_of_every_weight
    """
    return jax.tree.map(
        lambda axes: P(*(getattr(rules, name) for name in axes)), logical_axes(params), is_leaf=_is_axes
    )


def _is_axes(node):
    return isinstance(node, tuple) and bool(node) and all(isinstance(item, str) for item in node)


def batch_specs(rules: Rules = Rules(), documents: bool = False) -> Batch:
    """Return the `PartitionSpec` of each array of a Batch: [B, T] cut along rules.batch and rules.time."""
    spec = P(rules.batch, rules.time)
    return Batch(spec, spec, spec, spec if documents else None)


def shardings(tree, tree_specs, mesh: Mesh):
    """Return the tree with a `NamedSharding` in each array's place.

    Raises ValueError for an axis that the mesh lacks, or an array that its mesh axes do not divide.
    """

    def one(path, leaf, spec):
        for axis, names in enumerate(spec):
            names = _tuple(names)
            if missing := [name for name in names if name not in mesh.shape]:
                raise ValueError(f"the rules name the mesh axis {missing[0]!r}, but the mesh has {mesh.axis_names}")
            parts = math.prod(mesh.shape[name] for name in names)
            if leaf.shape[axis] % parts:
                raise ValueError(
                    f"{leaf_name(path)} {list(leaf.shape)} cannot be cut into {parts} along axis {axis} "
                    f"({', '.join(names)}): take a mesh whose sizes divide {leaf.shape[axis]}, or another rule"
                )
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(one, tree, tree_specs)


def shard(params: Params, mesh: Mesh, rules: Rules = Rules(), pinned: bool = True) -> Params:
    """Return params as JAX arrays that lie on the mesh as the rules say, for any jitted function as it is.

    pinned wraps every matrix in `Pinned`; without it only the weights' own places are said.

    Source: AXLearn; jax.device_put [standard].
    Test: tests/parallelism/test_annotation.py::test_each_device_holds_its_slice
    """
    placed = jax.device_put(params, shardings(params, specs(params, rules), mesh))
    return pin(placed, mesh, rules) if pinned else placed


@partial(jax.tree_util.register_dataclass, data_fields=["w"], meta_fields=["use", "out"])
@dataclasses.dataclass(frozen=True, eq=False)
class Pinned:
    """A matrix that says where it lies while it is used, and where its result lies.

        y: [B, T, out]  at (batch, time, the cut of W's rows),      W gathered over the mesh axes that also cut B

    Placing the weights alone leaves a choice: where W is cut along D, the partitioner may gather W (FSDP) or cut the
    activations along D and sum them after every product. It takes the second, and each device then works on the
    whole batch. AXLearn pins activations for the same reason.

    Source: AXLearn's with_sharding_constraint on activations; XLA GSPMD 2021 section 3 [inferred].
    Test: tests/parallelism/test_annotation.py::test_pins_keep_the_batch_cut
    """

    w: Any  # [out, in]
    use: NamedSharding  # where W lies in a product
    out: NamedSharding  # where its result lies, [B, T, out]

    def _whole(self):
        return jax.lax.with_sharding_constraint(self.w, self.use)

    def apply(self, x):
        """Return W x, cut like the batch."""
        time_is_cut = math.prod(self.out.mesh.shape[name] for name in _tuple(self.out.spec[1])) > 1
        # ops.linear lays the batch axes in one, and a cut T inside it becomes whole on every device
        y = x @ self._whole().T if time_is_cut else ops.linear(x, self._whole())
        return jax.lax.with_sharding_constraint(y, self.out)

    def lookup(self, tokens):
        """Return W's rows that the tokens name, cut like the batch."""
        out = NamedSharding(self.out.mesh, P(*self.out.spec[:2], None))
        return jax.lax.with_sharding_constraint(self._whole()[tokens], out)


def pin(params: Params, mesh: Mesh, rules: Rules = Rules()) -> Params:
    """Return params with every matrix as `Pinned`; its arrays, or shapes, are those of params."""
    batch = {name for names in (rules.batch, rules.time) for name in _tuple(names)}

    def one(leaf, axes):
        if "norm" in axes or "head" in axes:
            return leaf
        rows, columns = (getattr(rules, name) for name in axes[-2:])
        use = P(*(tuple(name for name in _tuple(names) if name not in batch) or None for names in (rows, columns)))
        out = P(rules.batch, rules.time, use[0])
        return Pinned(leaf, NamedSharding(mesh, use), NamedSharding(mesh, out))

    return jax.tree.map(one, params, logical_axes(params))


def unpin(params):
    """Return the tree with the plain array in every `Pinned` weight's place."""
    return jax.tree.map(lambda w: w.w if isinstance(w, Pinned) else w, params, is_leaf=lambda w: isinstance(w, Pinned))


def _tuple(names: MeshAxes) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names or ())


def shard_batch(batch: Batch, mesh: Mesh, rules: Rules = Rules()) -> Batch:
    """Return a Batch that lies on the mesh as the rules say.

    Source: AXLearn's batch axis names (data, fsdp along B; seq along T) [inferred].
    Test: tests/parallelism/test_annotation.py::test_equals_one_device
    """
    placed = batch_specs(rules, batch.documents is not None)
    return jax.device_put(batch, shardings(batch, placed, mesh))


def make_step(loss, optimizer, params: Params, mesh: Mesh, rules: Rules = Rules(), documents=False):
    """Return `training.make_step` with the placement of its arguments and of its results pinned by the rules.

    (weights, optimizer state, frozen weights, batch) -> (weights, state, metrics). Frozen weights are `frozen(params)`:
    all are trained. Left alone, the partitioner may return a weight cut otherwise, and the next call compiles again.
    params may be shapes only, and then the arguments of `.lower` as well: see `topologies`.

    Source: AXLearn's trainer (jit with in and out shardings) [inferred].
    Test: tests/parallelism/test_annotation.py::test_equals_one_device
    """
    plain = unpin(params)
    placed = shardings(plain, specs(plain, rules), mesh)
    weights = jax.tree.unflatten(jax.tree.structure(params), jax.tree.leaves(placed))
    whole = NamedSharding(mesh, P())
    state = state_shardings(jax.eval_shape(optimizer.init, params), weights, whole)
    batch = jax.tree.map(lambda spec: NamedSharding(mesh, spec), batch_specs(rules, documents))
    step = training.make_step(loss, optimizer).__wrapped__
    return jax.jit(
        step, in_shardings=(weights, state, None, batch), out_shardings=(weights, state, whole), donate_argnums=(0, 1)
    )


def frozen(params):
    """Return the tree of params with None at every leaf: what `training.split` leaves frozen when all is trained."""
    return jax.tree.map(lambda leaf: None, params)


def state_shardings(state, weights, whole):
    """Return the optimizer state's shardings: a part of the weights' structure lies as they do, the rest is whole."""
    return map_mirrors(lambda mirror: weights, lambda leaf: whole, state, weights)


def abstract(cfg: AFMConfig, dtype, remat: bool = True) -> Params:
    """Return the shapes of a model's weights with its layers stacked, no memory taken: for `jax.jit(...).lower`.

    Source: transformer.init's shapes [ours].
    Test: tests/parallelism/test_annotation.py::test_abstract_has_the_shapes_of_real_weights
    """

    params = shaped(cfg, lambda *shape: jax.ShapeDtypeStruct(shape, dtype), lead=(cfg.n_layers,))
    layers = Stacked(*params.layers)
    return params._replace(layers=Remat(layers) if remat else layers)

"""Logical names for the axes of a model's arrays, and rules that give each a mesh axis.

    axis of an array  --(logical_axes)-->  logical name  --(Rules)-->  mesh axis

w_up: [F, D] is ("ffn", "embed"), and lies at ("model", "fsdp").
"""

import dataclasses

import jax
from jax.sharding import PartitionSpec as P

from ...losses import Batch
from ...weights import Params, leaf_name
from ..mesh import MeshAxes

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
    """Which mesh axes cut each logical axis, None for none; by default fsdp and model.

    A mesh axis of size 1 cuts nothing, so the same rules serve pure data parallelism, FSDP,
    tensor parallelism and their products: the mesh decides.

    Source: AXLearn's partition specs of the honeycrisp model (fsdp along D, model along the
        other axis) [inferred].
    Test: tests/parallelism/test_grid.py::test_equals_one_device
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

    def specs(self, params: Params) -> Params:
        """Return the tree of params with a `PartitionSpec` in each array's place.

            w_up: [F, D]  ->  P("model", "fsdp")    w_down: [D, F]  ->  P("fsdp", "model")

        Source: AXLearn's logical rules; Megatron-LM 2019 section 3 (which side of a matrix
            is cut) [standard].
        Test: tests/parallelism/test_grid.py::test_specs_of_every_weight
        """
        return jax.tree.map(
            lambda leaf, axes: P(*(getattr(self, name) for name in axes)),
            params,
            logical_axes(params),
        )

    def batch_specs(self, documents: bool = False) -> Batch:
        """Return the `PartitionSpec` of each array of a Batch, [B, T]."""
        spec = P(self.batch, self.time)
        return Batch(spec, spec, spec, spec if documents else None)


DEFAULT = Rules()


def logical_axes(params: Params) -> Params:
    """Return the tree of params with each array's logical names, one an axis.

    Containers keep their shape; a leading axis that `Stacked` adds is named "layers".
    Weights that are objects (adapters, palettes) raise TypeError: annotate plain arrays.
    """

    def names(path, leaf):
        # layers, layer of a Stacked, w_up
        fields = [getattr(key, "name", None) for key in path]
        axes = ("layers",) * fields.count("layer") + LOGICAL.get(fields[-1], ())
        if getattr(leaf, "ndim", None) != len(axes):
            raise TypeError(
                f"cannot annotate {leaf_name(path)}, a {type(leaf).__name__}: give plain arrays as weights"
            )
        return axes

    return jax.tree_util.tree_map_with_path(names, params)

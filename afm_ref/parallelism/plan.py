"""Plans: which strategies cut one model over one mesh, and what cannot be cut so."""

import dataclasses
from typing import Any

import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from ..config import AFMConfig
from .attends import sequence_order
from .manual import trim
from .mesh import MeshShape, make_mesh, shape_of

BATCH_AXES = ("data", "fsdp", "seq")  # the axes that cut the tokens
COPY_AXES = (*BATCH_AXES, "pipe")  # along these a weight that is not cut is copied, and its gradients are summed


@dataclasses.dataclass(frozen=True)
class Plan:
    """How one model is trained on one mesh. mesh may be a text ("data=2,fsdp=2"), a MeshShape or a Mesh of ours.

    sequence  None; "norm": the regions of the norms are cut along T over the axis model (Megatron's sequence
              parallelism); "gather" or "ring": every sequence is cut over the axis seq (context parallelism)
    zigzag    order the tokens so that with "ring" each device has the same work
    zero      what the fsdp devices keep only a slice of while a step runs: 1 nothing, the optimizer's state apart;
              2 the gradients; 3 the weights too, gathered again in the backward pass. Between steps all is cut.
    remat     compute activations again in the backward pass; by default where fsdp or pipe is cut
    microbatches  of the pipeline; by default as many as stages

    Raises ValueError when the model cannot be cut so, and says what to change.

    Source: TR24 section 3.2 (data, tensor, sequence parallelism, FSDP); details are ours [ours].
    Test: tests/parallelism/test_grid.py::test_strategy_equals_the_single_device
    """

    cfg: AFMConfig
    mesh: Any
    sequence: str | None = None
    zigzag: bool = False
    zero: int = 3
    remat: bool | None = None
    microbatches: int | None = None

    def __post_init__(self):
        mesh = MeshShape.parse(self.mesh) if isinstance(self.mesh, str) else self.mesh
        mesh = make_mesh(mesh) if isinstance(mesh, MeshShape) else mesh
        shape = shape_of(mesh)
        object.__setattr__(self, "mesh", mesh)
        if self.remat is None:
            object.__setattr__(self, "remat", shape.fsdp > 1 or shape.pipe > 1)
        if self.microbatches is None:
            object.__setattr__(self, "microbatches", shape.pipe)
        _check_plan(self, shape)

    @property
    def shape(self) -> MeshShape:
        """The number of devices along each axis."""
        return shape_of(self.mesh)

    def sharding(self, spec: PartitionSpec) -> NamedSharding:
        """Return where an array with this spec lies."""
        return NamedSharding(self.mesh, trim(spec, self.mesh))


def check_batch(plan: Plan, B: int, T: int) -> np.ndarray:
    """Return the plan's order of T positions; ValueError when a batch of B sequences cannot be cut so."""
    shape = plan.shape
    rows = shape.data * shape.fsdp * plan.microbatches
    if B % rows:
        raise ValueError(
            f"a batch of {B} sequences cannot be cut over data={shape.data}, fsdp={shape.fsdp} and "
            f"{plan.microbatches} microbatches: take a multiple of {rows}"
        )
    if plan.sequence == "norm" and T % shape.model:
        raise ValueError(f"{T} positions cannot be cut over model={shape.model}: take T a multiple of {shape.model}")
    return sequence_order(T, shape.seq, plan.zigzag)


def _check_plan(plan, shape):
    cfg = plan.cfg
    cuts = (
        ("d_model", cfg.d_model, "fsdp"),
        ("n_heads", cfg.n_heads, "model"),
        ("n_kv_heads", cfg.n_kv_heads, "model"),
        ("d_ff", cfg.d_ff, "model"),
        ("vocab_size", cfg.vocab_size, "model"),
        ("n_layers", cfg.n_layers, "pipe"),
    )
    for field, value, axis in cuts:
        if value % getattr(shape, axis):
            raise ValueError(
                f"{field} {value} cannot be cut over {axis}={getattr(shape, axis)}: choose {axis} among the divisors "
                f"of {value}, or change {field}"
            )
    if plan.sequence not in (None, "norm", "gather", "ring"):
        raise ValueError(f'sequence is {plan.sequence!r}: give None, "norm", "gather" or "ring"')
    if shape.seq > 1 and plan.sequence not in ("gather", "ring"):
        raise ValueError(f'seq={shape.seq} cuts the sequences: say how they attend, sequence="gather" or "ring"')
    if plan.zero not in (1, 2, 3):
        raise ValueError(f"zero is {plan.zero!r}: give 1, 2 or 3")
    if plan.zero == 3 and shape.fsdp > 1 and not plan.remat:
        raise ValueError("zero=3 gathers the weights again in the backward pass: it needs remat, or take zero=2")
    if plan.zero == 2 and shape.pipe > 1 and shape.fsdp > 1:
        raise ValueError("zero=2 in a pipeline would keep the gathered weights of every tick: take zero=3 or zero=1")
    if not isinstance(plan.microbatches, int) or plan.microbatches < 1:
        raise ValueError(f"microbatches is {plan.microbatches!r}: give a whole number of at least 1")
    if plan.microbatches > 1 and shape.pipe == 1:
        raise ValueError("microbatches are a pipeline's: give the mesh an axis pipe, or leave them out")

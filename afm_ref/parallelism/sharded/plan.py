"""Plans: which strategies cut one model over one mesh, and what cannot be cut so."""

import dataclasses
import functools

import jax
from jax.sharding import NamedSharding, PartitionSpec

from ...config import AFMConfig
from ..mesh import MeshShape, make_mesh
from .manual import trim
from .ring_attention import sequence_order

BATCH_AXES = ("data", "fsdp", "seq")  # the axes that cut the tokens
# along these a weight that is not cut is copied, and its gradients are summed
COPY_AXES = (*BATCH_AXES, "pipe")
CUTS = {
    "d_model": "fsdp",
    "n_kv_heads": "model",
    "d_ff": "model",
    "vocab_size": "model",
    "n_layers": "pipe",
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """How one model is trained on a mesh, of a shape or a text such as "data=2,fsdp=2".

    sequence  None; "norm": the norms' regions are cut along T over model (Megatron's
              sequence parallelism); "gather" or "ring": every sequence is cut over seq
              (context parallelism)
    zigzag    order the tokens so that with "ring" each device has the same work
    zero      what fsdp cuts while a step runs, beside the optimizer's state: 1 nothing; 2
              gradients; 3 the weights too, gathered again in the backward pass
    remat     compute activations again in the backward pass; by default with fsdp or pipe
    microbatches  of the pipeline; by default as many as stages

    Devices are needed for `mesh` alone. ValueError if the model cannot be cut.

    Source: TR24 section 3.2 (data, tensor, sequence parallelism, FSDP); form ours [ours].
    Test: tests/parallelism/test_grid.py::test_strategy_equals_the_single_device
    """

    cfg: AFMConfig
    shape: MeshShape | str
    sequence: str | None = None
    zigzag: bool = False
    zero: int = 3
    remat: bool | None = None
    microbatches: int | None = None

    def __post_init__(self):
        shape = MeshShape.parse(self.shape) if isinstance(self.shape, str) else self.shape
        remat = (shape.fsdp > 1 or shape.pipe > 1) if self.remat is None else self.remat
        microbatches = shape.pipe if self.microbatches is None else self.microbatches
        vars(self).update(shape=shape, remat=remat, microbatches=microbatches)
        if problem := next(_problems(self), None):
            raise ValueError(problem)

    @functools.cached_property
    def mesh(self) -> jax.sharding.Mesh:
        """The devices. ValueError when there are too few."""
        return make_mesh(self.shape)

    def sharding(self, spec: PartitionSpec) -> NamedSharding:
        """Return where an array with this spec lies."""
        return NamedSharding(self.mesh, trim(spec, self.mesh))

    def order(self, B: int, T: int):
        """Return the devices' order of T positions; ValueError if [B, T] cannot be cut."""
        shape, rows = self.shape, self.shape.data * self.shape.fsdp * self.microbatches
        if B % rows:
            raise ValueError(
                f"a batch of {B} sequences cannot be cut over data={shape.data}, fsdp={shape.fsdp} and "
                f"{self.microbatches} microbatches: take a multiple of {rows}"
            )
        if self.sequence == "norm" and T % shape.model:
            raise ValueError(
                f"{T} positions cannot be cut over model={shape.model}: take T a multiple of {shape.model}"
            )
        return sequence_order(T, shape.seq, self.zigzag)


def _problems(plan):
    """Say what cannot be, and what to change."""
    shape = plan.shape
    for field, axis in CUTS.items():
        value, n = getattr(plan.cfg, field), getattr(shape, axis)
        if value % n:
            yield (
                f"{field} {value} cannot be cut over {axis}={n}: choose {axis} among the divisors of {value}, or "
                f"change {field}"
            )
    if plan.sequence not in (None, "norm", "gather", "ring"):
        yield f'sequence is {plan.sequence!r}: give None, "norm", "gather" or "ring"'
    if shape.seq > 1 and plan.sequence not in ("gather", "ring"):
        yield f'seq={shape.seq} cuts the sequences: say how they attend, sequence="gather" or "ring"'
    if plan.zero not in (1, 2, 3):
        yield f"zero is {plan.zero!r}: give 1, 2 or 3"
    if plan.zero == 3 and shape.fsdp > 1 and not plan.remat:
        yield "zero=3 gathers the weights again in the backward pass: it needs remat, or take zero=2"
    if plan.zero == 2 and shape.pipe > 1 and shape.fsdp > 1:
        yield "zero=2 in a pipeline would keep the gathered weights of every tick: take zero=3 or zero=1"
    if not isinstance(plan.microbatches, int) or plan.microbatches < 1:
        yield f"microbatches is {plan.microbatches!r}: give a whole number of at least 1"
    elif plan.microbatches > 1 and shape.pipe == 1:
        yield "microbatches are a pipeline's: give the mesh an axis pipe, or leave them out"

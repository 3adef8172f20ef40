"""A training step compiled for machines that are not here: fake CPU devices, or TPUs.

    shapes + mesh of abstract devices  --lower-->  --compile-->  bytes, collectives, time

Compiling runs nothing: no weight is made, and no device need exist. CPU devices must be set
before JAX starts, so one process compiles for one number of devices. TPU topologies need
the extra `tpu` (libtpu, 0.7 GB, proprietary).
"""

import dataclasses
import os
import resource
import time

import jax
import jax.numpy as jnp

from .. import losses, training
from ..config import AFM_ON_DEVICE, AFMConfig
from . import annotation, collectives
from .mesh import AXES, MeshShape, check_slices, make_mesh

# Ours. Apple states AFM-server's vocabulary (100k) and chips, not its dimensions: this is a
# dense model of its class.
SERVER_SIZED = AFMConfig(
    d_model=8192, n_layers=48, n_heads=64, n_kv_heads=8, head_dim=128, d_ff=21504, vocab_size=100_352
)
MODELS = {"AFM_ON_DEVICE": AFM_ON_DEVICE, "SERVER_SIZED": SERVER_SIZED}

TPU_OPTIONS = {  # so that collectives stand in the text as such, and not taken apart inside matrix products
    "xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000",
    "xla_tpu_enable_async_collective_fusion": "false",
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One program to compile: a model's step on a mesh of a machine; all of it JSON.

    machine: "cpu" for fake devices, or a TPU topology such as "v5p:8x16x16"; slices of it
    joined by data alone.
    """

    name: str
    model: str
    machine: str
    mesh: str
    batch: int  # B of the whole mesh
    seq_len: int = 4096
    slices: int = 1
    pinned: bool = True


@dataclasses.dataclass(frozen=True)
class Measured:
    """What compiling a cell showed. Bytes are one device's."""

    fits: bool
    error: str
    argument_bytes: int  # weights, optimizer state and batch
    temp_bytes: int  # activations, gradients, what is gathered
    collectives: dict
    largest: list  # the collectives that send most: kind, operand bytes, group, executions, origin
    lower_s: float
    compile_s: float
    peak_rss_bytes: int


def step_loss(cfg: AFMConfig):
    """Return the loss in bfloat16, attention's scores apart, of float32 weights.

    Source: AXLearn trains with bfloat16 activations over float32 weights [inferred].
    Test: tests/parallelism/test_topologies.py::test_products_are_bfloat16_and_state_is_float32
    """

    def loss(params, batch):
        return losses.next_token(jax.tree.map(lambda w: w.astype(jnp.bfloat16), params), batch, cfg)

    return loss


def lower_step(cfg: AFMConfig, mesh: jax.sharding.Mesh, batch: int, seq_len: int, optimizer, pinned: bool = True):
    """Return the lowered training step: bfloat16 products, float32 state, remat.

    Source: AXLearn (precision, remat) [inferred].
    Test: tests/parallelism/test_topologies.py::test_a_recorded_cell_is_recomputed
    """
    params = annotation.shard(annotation.stacked_shapes(cfg, jnp.float32), mesh, pinned=pinned)
    state = annotation.state_shapes(optimizer, params)
    ids, floats = (jax.ShapeDtypeStruct((batch, seq_len), dtype) for dtype in (jnp.int32, jnp.bfloat16))
    rows = annotation.shard_batch(losses.Batch(ids, ids, floats), mesh)
    step = training.make_step(step_loss(cfg), optimizer, (params, state))
    return step.lower(params, state, training.split(params)[1], rows)


def mesh_of(cell: Cell) -> jax.sharding.Mesh:
    """Return the cell's mesh, over fake devices of this process or over abstract chips.

    On several slices only "data" crosses between them. Raises ModuleNotFoundError without
    the extra `tpu`, and ValueError when the topology has another number of chips than the
    mesh.
    """
    shape = MeshShape.parse(cell.mesh)
    if cell.machine == "cpu":
        return make_mesh(shape)
    devices = chips(cell.machine, cell.slices)
    if len(devices) != shape.size:
        raise ValueError(f"{cell.machine} x {cell.slices} has {len(devices)} chips, but {shape} names {shape.size}")
    types = (jax.sharding.AxisType.Auto,) * len(AXES)
    return jax.sharding.Mesh(_arranged(devices, shape, cell.slices), AXES, axis_types=types)


def _arranged(devices, shape, slices):
    from jax.experimental import mesh_utils

    if slices == 1:
        return mesh_utils.create_device_mesh(shape.sizes, devices, allow_split_physical_axes=True)
    check_slices(shape, slices)
    inside = (shape.data // slices, *shape.sizes[1:])
    across = (slices, *(1 for _ in shape.sizes[1:]))
    return mesh_utils.create_hybrid_device_mesh(inside, across, devices, allow_split_physical_axes=True)


def chips(topology: str, slices: int = 1) -> list:
    """Return the abstract chips of a TPU topology, such as "v5p:8x16x16"."""
    import importlib.util

    if importlib.util.find_spec("libtpu") is None:
        raise ModuleNotFoundError(
            f"compiling for {topology} needs libtpu: pip install 'afm-ref[tpu]' in an environment of its own. Its "
            "results are recorded: afm_ref.assets.recording('at_scale')"
        )
    # The compiler looks for a real machine first, and waits for it, unless told not to.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    from jax.experimental import topologies

    options = {"num_slices": slices} if slices > 1 else {}
    options |= {"chip_config_name": "megacore"} if topology.startswith("v4") else {}
    return topologies.get_topology_desc(platform="tpu", topology_name=topology, **options).devices


def measure(cell: Cell, optimizer) -> Measured:
    """Return what lowering and compiling the cell's step shows, in this process.

    A program that does not fit the chip's memory is a result, not an error: fits is False.
    """
    started = time.perf_counter()
    lowered = lower_step(MODELS[cell.model], mesh_of(cell), cell.batch, cell.seq_len, optimizer, cell.pinned)
    lower_s, started = time.perf_counter() - started, time.perf_counter()
    try:
        compiled, found = _compile(lowered, cell.machine)
    except jax.errors.JaxRuntimeError as error:
        if "memory" not in str(error).lower():
            raise
        return Measured(False, _first_lines(error), 0, 0, {}, [], lower_s, time.perf_counter() - started, _peak())
    compile_s, memory = time.perf_counter() - started, compiled.memory_analysis()
    largest = sorted(found, key=lambda c: -c.bytes_sent)[:6]
    return Measured(
        True, "", memory.argument_size_in_bytes, memory.temp_size_in_bytes, collectives.by_kind(found),
        [[c.kind, c.operand_bytes, c.group_size, c.count, c.op_name] for c in largest], lower_s, compile_s, _peak(),
    )  # fmt: skip


def _compile(lowered, machine):
    if machine == "cpu":
        return collectives.compile_and_count(lowered, collectives.QUICK)
    compiled = lowered.compile(compiler_options=TPU_OPTIONS)
    return compiled, collectives.of(compiled)


def _first_lines(error):
    return "\n".join(str(error).splitlines()[:3])[:600]


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

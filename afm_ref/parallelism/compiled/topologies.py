"""A training step compiled for machines that are not here: fake CPU devices, or TPUs.

    shapes + mesh of abstract devices  --lower-->  --compile-->  bytes, collectives, time

Compiling runs nothing: no weight is made, and no device need exist. CPU devices must be set
before JAX starts, so one process compiles for one number of devices. TPU topologies need
the extra `tpu` (libtpu, 0.7 GB, proprietary).
"""

import dataclasses
import importlib.util
import os

import jax
import jax.numpy as jnp

from ... import losses, training
from ...config import AFM_ON_DEVICE, AFMConfig
from ...transformer import Causal
from ..annotated import annotation
from ..mesh import MeshShape, check_slices, make_mesh

# Ours. Apple states AFM-server's vocabulary (100k) and chips, not its dimensions: this is a
# dense model of its class.
SERVER_SIZED = AFMConfig(
    d_model=8192,
    n_layers=48,
    n_heads=64,
    n_kv_heads=8,
    head_dim=128,
    d_ff=21504,
    vocab_size=100_352,
)
MODELS = {"AFM_ON_DEVICE": AFM_ON_DEVICE, "SERVER_SIZED": SERVER_SIZED}


def step_loss(cfg: AFMConfig):
    """Return the loss in bfloat16, attention's scores apart, of float32 weights.

    Source: AXLearn trains with bfloat16 activations over float32 weights [inferred].
    Test: tests/parallelism/test_topologies.py::test_products_are_bfloat16_and_state_is_float32
    """

    def loss(params, batch):
        # all queries at once, as the recorded programs were: in 16 blocks of 4096 tokens a
        # step on 8 devices needs 12.7 GB of temporary memory in place of 16.7
        attend = Causal(batch.documents, queries=batch.tokens.shape[1])
        params = jax.tree.map(lambda w: w.astype(jnp.bfloat16), params)
        return losses.next_token(params, batch, cfg, attend=attend)

    return loss


def lower_step(
    cfg: AFMConfig,
    mesh: jax.sharding.Mesh,
    batch: int,
    seq_len: int,
    optimizer,
    pinned: bool = True,
):
    """Return the lowered training step: bfloat16 products, float32 state, remat."""
    params = annotation.shard(
        annotation.stacked_shapes(cfg, jnp.float32), mesh, pinned=pinned
    )
    state = annotation.state_shapes(optimizer, params)
    ids = jax.ShapeDtypeStruct((batch, seq_len), jnp.int32)
    weights = ids.update(dtype=jnp.bfloat16)
    rows = annotation.shard_batch(losses.Batch(ids, ids, weights), mesh)
    step = training.make_step(step_loss(cfg), optimizer, (params, state))
    return step.lower(params, state, training.split(params)[1], rows)


def mesh_of(topology: str, shape: MeshShape, slices: int = 1) -> jax.sharding.Mesh:
    """Return the mesh over the abstract chips of a TPU topology, such as "v5p:8x16x16".

    Of several slices, joined by a slow network, data alone crosses between them. ValueError
    when the topology has another number of chips than the mesh.
    """
    from jax.experimental import mesh_utils

    devices = chips(topology, slices)
    if len(devices) != shape.size:
        raise ValueError(
            f"{topology} x {slices} has {len(devices)} chips, but {shape} names {shape.size}"
        )
    check_slices(shape, slices)
    if slices == 1:
        arranged = mesh_utils.create_device_mesh(
            shape.sizes, devices, allow_split_physical_axes=True
        )
    else:
        across = MeshShape(data=slices)
        inside = dataclasses.replace(shape, data=shape.data // slices)
        arranged = mesh_utils.create_hybrid_device_mesh(
            inside.sizes, across.sizes, devices, allow_split_physical_axes=True
        )
    return make_mesh(shape, arranged.flat)


def chips(topology: str, slices: int) -> list:
    """Return the abstract chips of a TPU topology, such as "v5p:8x16x16"."""
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
    return topologies.get_topology_desc(
        platform="tpu", topology_name=topology, **options
    ).devices

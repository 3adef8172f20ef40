"""Collectives inside `jax.shard_map` that cost nothing along an axis of one device.

XLA for CPUs runs a sum over one device as a copy. Leaving it out needs care with types:
what passes through no collective must not have been said to differ along that axis. So axes
of one device are left out everywhere: of the specs (`trim`), of what varies (`vary`) and of
the collectives.
"""

import jax
from jax.sharding import PartitionSpec

from ..mesh import axes_of

SEQUENCE = 1  # the axis of T in [B, T, ...]


def live(axes) -> tuple[str, ...]:
    """Return those of the axes along which there is more than one device."""
    return tuple(axis for axis in axes_of(axes) if jax.lax.axis_size(axis) > 1)


def trim(spec: PartitionSpec, mesh: jax.sharding.Mesh) -> PartitionSpec:
    """Return the spec without the axes along which the mesh has one device."""
    entries = [
        tuple(name for name in axes_of(axes) if mesh.shape[name] > 1) for axes in spec
    ]
    # as XLA writes what it returns: else a second step would compile anew
    while entries and not entries[-1]:
        entries.pop()
    return PartitionSpec(*entries)


def index(axis: str):
    """Return this device's place along the axis: a plain 0 where it is alone."""
    return jax.lax.axis_index(axis) if live(axis) else 0


def vary(x, axes):
    """Return x as a value that may differ along these axes of the mesh.

    Its transpose is a psum over the axes that were added.
    """
    new = tuple(
        axis for axis in live(axes) if axis not in jax.typeof(x).manual_axis_type.varying
    )
    return jax.lax.pcast(x, new, to="varying")


def psum(x, axes):
    """Return the sum of x over the devices of the axes."""
    return jax.lax.psum(x, live(axes))


def pmax(x, axis: str):
    """Return the largest of each entry over the devices of the axis."""
    return jax.lax.pmax(x, axis) if live(axis) else x


def all_gather(x, axis: str, dim: int):
    """Return the slices of x along dim put together; its transpose is `psum_scatter`."""
    return jax.lax.all_gather(x, live(axis), axis=dim, tiled=True)


def psum_scatter(x, axis: str, dim: int):
    """Return this device's slice of the sum of x; its transpose is `all_gather`."""
    return jax.lax.psum_scatter(x, live(axis), scatter_dimension=dim, tiled=True)

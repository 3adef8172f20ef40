"""Meshes with the five axes that training is cut along, and fake devices for them.

    data   copies of the model, each with its own part of the batch
    fsdp   the same, but the copies share one set of weights, cut in slices
    pipe   consecutive layers on consecutive devices
    seq    each sequence cut in parts, attending across them
    model  each matrix cut in slices that compute side by side

An axis of one device does nothing; every mesh has all five.
"""

import dataclasses
import math

import jax
import numpy as np

# the last vary fastest: neighbours speak most
AXES = ("data", "fsdp", "pipe", "seq", "model")
# above about this many devices the CPU's collectives abort the process
RENDEZVOUS_LIMIT = 256
MeshAxes = str | tuple[str, ...] | None  # what cuts one axis of an array


@dataclasses.dataclass(frozen=True)
class MeshShape:
    """The number of devices along each axis; their product is the number of devices.

    Raises ValueError or TypeError, naming the axis, for what is no whole number of at least
    1.
    """

    data: int = 1
    fsdp: int = 1
    pipe: int = 1
    seq: int = 1
    model: int = 1

    def __post_init__(self):
        for name, size in zip(AXES, self.sizes):
            if type(size) is not int:
                raise TypeError(
                    f"axis {name} of the mesh must be a whole number of devices, got {size!r}"
                )
            if size < 1:
                raise ValueError(
                    f"axis {name} of the mesh needs at least 1 device, got {size}; leave it out for 1"
                )

    @property
    def size(self) -> int:
        """The number of devices."""
        return math.prod(self.sizes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The devices along each of AXES."""
        return dataclasses.astuple(self)

    def __str__(self):
        """Return the text that `parse` reads: "data=2,model=2"."""
        return (
            ",".join(f"{name}={size}" for name, size in zip(AXES, self.sizes) if size > 1)
            or "data=1"
        )

    @classmethod
    def parse(cls, text: str) -> "MeshShape":
        """Return the shape that a text such as "data=2,fsdp=2,model=2" names."""
        sizes = {}
        for part in text.split(","):
            name, _, size = (piece.strip() for piece in part.partition("="))
            if name not in AXES:
                raise ValueError(
                    f"{name!r} in {text!r} is no axis of a mesh: write axis=devices with {AXES}"
                )
            if name in sizes:
                raise ValueError(f"axis {name} stands twice in {text!r}: give it once")
            if not size.isdecimal():
                raise ValueError(
                    f"axis {name} in {text!r} needs a number of devices, as in {name}=2"
                )
            sizes[name] = int(size)
        return cls(**sizes)


def make_mesh(shape: MeshShape, devices=None) -> jax.sharding.Mesh:
    """Return a mesh of the first shape.size devices with all of AXES, those of size 1 too.

    Its axis types are Auto: outside `jax.shard_map` the compiler places, inside we do.
    """
    found = list(jax.devices() if devices is None else devices)
    if len(found) < shape.size:
        raise ValueError(
            f"the mesh {shape} needs {shape.size} devices and there are {len(found)}: take a smaller mesh, or call "
            f"use_fake_devices({shape.size}) before anything else of JAX runs"
        )
    return jax.sharding.Mesh(np.array(found[: shape.size]).reshape(shape.sizes), AXES)


def axes_of(names: MeshAxes) -> tuple[str, ...]:
    """Return the axes as a tuple, of one name, several or none."""
    return (names,) if isinstance(names, str) else tuple(names or ())


def put(leaf, where: jax.sharding.Sharding):
    """Return an array on the mesh, of which no device need have all; of a shape its shape.

    Every process gives the whole array.
    """
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf.update(sharding=where)
    array = np.asarray(leaf)
    array = array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)
    return jax.make_array_from_callback(array.shape, where, lambda index: array[index])


def check_slices(shape: MeshShape, slices: int) -> None:
    """Raise ValueError unless data alone crosses between so many slices."""
    if shape.data % slices:
        raise ValueError(
            f"only data crosses slices: data={shape.data} must be a multiple of {slices} slices"
        )


def use_fake_devices(n: int) -> None:
    """Let the CPU pass for n devices, before JAX looks for its devices.

    RuntimeError when JAX has started with fewer, ValueError for more than the CPU's
    collectives bear.
    """
    if n < 1:
        raise ValueError(f"use_fake_devices({n}): give at least 1")
    if n > RENDEZVOUS_LIMIT:
        raise ValueError(
            f"use_fake_devices({n}): beyond {RENDEZVOUS_LIMIT} devices the CPU's collectives abort the process. Run on "
            "fewer; to compile for more without running, set jax_num_cpu_devices yourself in a process of its own"
        )
    try:
        jax.config.update("jax_num_cpu_devices", n)
    except RuntimeError as error:
        if jax.device_count() >= n:
            return
        raise RuntimeError(
            f"JAX has already started with {jax.device_count()} device(s), too late for {n}: call "
            f"use_fake_devices({n}) first, before any array is made (in a notebook: restart the kernel)"
        ) from error

"""Every mesh of a number of chips, estimated and ranked, or refused with the reason."""

import math
from collections import Counter
from typing import NamedTuple

from ...config import AFMConfig
from ..mesh import AXES, MeshShape
from ..sharded.plan import Plan
from .roofline import Chip, Estimate, step

RESERVED = 0.05  # of HBM: the compiler's own buffers and fragmentation, our allowance


class Candidate(NamedTuple):
    """A mesh with its estimate and what speaks for or against it."""

    shape: MeshShape
    estimate: Estimate | None
    fits: bool
    reasons: tuple[str, ...]


def choose(
    cfg: AFMConfig, chips: int, chip: Chip, B: int, T: int, *, slices: int = 1
) -> list[Candidate]:
    """Return every mesh of so many chips, the fastest first, then those that do not fit.

    Of two meshes within 1% the simpler comes first: fewer axes, then less memory.
    """
    if chips < 1:
        raise ValueError(f"{chips} chips: give at least 1")

    def order(candidate):
        estimate = candidate.estimate
        if not candidate.fits:
            return (1, estimate is None, estimate.memory_bytes if estimate else 0)
        axes = sum(size > 1 for size in candidate.shape.sizes)
        # steps of 1%
        return (0, round(math.log(estimate.step_s, 1.01)), axes, estimate.memory_bytes)

    return sorted(
        (_judge(cfg, shape, B, T, chip, slices) for shape in shapes(chips)), key=order
    )


def plan_for(cfg: AFMConfig, shape: MeshShape, B: int) -> Plan:
    """Return the plan by which a mesh is judged.

    Remat, keys gathered over seq, as many microbatches as divide the rows, at most 4 a
    stage.
    """
    rows = max(1, B // (shape.data * shape.fsdp))
    most = 4 * shape.pipe if shape.pipe > 1 else 1
    microbatches = max(m for m in range(1, most + 1) if rows % m == 0)
    sequence = "gather" if shape.seq > 1 else None
    return Plan(cfg, shape, sequence=sequence, remat=True, microbatches=microbatches)


def shapes(chips: int) -> list[MeshShape]:
    """Return every way to write the number of chips as a product of the five axes."""

    def factors(n, axes):
        if axes == 1:
            return [(n,)]
        divisors = (size for size in range(1, n + 1) if n % size == 0)
        return [(size, *rest) for size in divisors for rest in factors(n // size, axes - 1)]

    return [MeshShape(*sizes) for sizes in factors(chips, len(AXES))]


def _judge(cfg, shape, B, T, chip, slices):
    try:
        estimate = step(plan_for(cfg, shape, B), B, T, chip, slices=slices)
    except ValueError as error:
        return Candidate(shape, None, False, (str(error),))
    room = (1 - RESERVED) * chip.hbm_bytes
    if estimate.memory_bytes <= room:
        return Candidate(shape, estimate, True, tuple(reasons(estimate)))
    largest = Counter(estimate.memory).most_common(2)
    parts = " and ".join(f"{name} {size / 2**30:.3g} GiB" for name, size in largest)
    text = f"needs {estimate.memory_bytes / 2**30:.3g} GiB of {room / 2**30:.3g}: {parts}"
    return Candidate(shape, estimate, False, (text,))


def reasons(estimate: Estimate) -> list[str]:
    """Return what the step waits for, in words, the largest part first."""
    parts = {
        "compute": estimate.compute_s,
        "communication it waits for": estimate.exposed_s,
        "the pipeline's bubble": estimate.idle_s,
    }
    said = [
        f"{seconds / estimate.step_s:.0%} {name}"
        for name, seconds in Counter(parts).most_common()
        if seconds > 0.005 * estimate.step_s
    ]
    ((busiest, seconds),) = Counter(estimate.communication_s).most_common(1)
    if seconds > 0:
        said.append(
            f"most of the traffic is {busiest}'s, {estimate.sent_bytes[busiest] / 1e9:.2g} GB a chip"
        )
    return said

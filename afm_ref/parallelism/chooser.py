"""The chooser: every mesh of a number of chips, estimated, ranked, and where it does not fit, told why."""

import dataclasses
import itertools
import math

from ..config import AFMConfig
from .costs import Chip, Estimate, misfits, step
from .mesh import AXES, MeshShape

RESERVED = 0.05  # of HBM: the compiler's own buffers and fragmentation, our allowance


@dataclasses.dataclass(frozen=True)
class Choice:
    """A mesh with its estimate and what speaks for or against it; an indivisible mesh has no estimate."""

    shape: MeshShape
    estimate: Estimate | None
    fits: bool
    reasons: tuple[str, ...]


def choose(
    cfg: AFMConfig, chips: int, chip: Chip, batch: int, seq_len: int, *, slices: int = 1, zero: int = 3,
    remat: bool = True, fused_attention: bool = True,
) -> list[Choice]:  # fmt: skip
    """Return every mesh of so many chips: those that fit from fastest to slowest, then those that do not, with why.

    Of two meshes within 1% the simpler comes first: fewer axes, then less memory.

    Source: costs.step [ours].
    Test: tests/parallelism/test_costs.py::test_chooser_ranks_by_time_and_refuses_with_reasons
    """
    if chips < 1:
        raise ValueError(f"{chips} chips: give at least 1")
    options = dict(zero=zero, remat=remat, fused_attention=fused_attention, slices=slices)
    found = [_judge(cfg, shape, batch, seq_len, chip, options) for shape in shapes(chips)]

    def order(choice):
        if not choice.fits:
            return (1, choice.estimate is None, choice.estimate.memory_bytes if choice.estimate else 0)
        axes = sum(size > 1 for size in choice.shape.sizes)
        return (0, round(_log(choice.estimate.step_s)), axes, choice.estimate.memory_bytes)

    return sorted(found, key=order)


def _log(seconds):
    """Seconds on a scale of 1%."""
    return math.log(seconds) / math.log(1.01)


def shapes(chips: int) -> list[MeshShape]:
    """Return every way to write the number of chips as a product of the five axes."""

    def factors(n, axes):
        if axes == 1:
            yield (n,)
            return
        for size in (d for d in range(1, n + 1) if n % d == 0):
            for rest in factors(n // size, axes - 1):
                yield (size, *rest)

    return [MeshShape(*sizes) for sizes in factors(chips, len(AXES))]


def _judge(cfg, shape, batch, seq_len, chip, options):
    if problems := misfits(cfg, shape, batch, seq_len, options["slices"]):
        return Choice(shape, None, False, tuple(problems))
    estimate = step(cfg, shape, batch, seq_len, chip, **options)
    room = (1 - RESERVED) * chip.hbm_bytes
    if estimate.memory_bytes > room:
        largest = sorted(estimate.memory.items(), key=lambda item: -item[1])[:2]
        parts = " and ".join(f"{name} {size / 2**30:.3g} GiB" for name, size in largest)
        text = f"needs {estimate.memory_bytes / 2**30:.3g} GiB of {room / 2**30:.3g}: {parts}"
        return Choice(shape, estimate, False, (text,))
    return Choice(shape, estimate, True, tuple(reasons(estimate)))


def reasons(estimate: Estimate) -> list[str]:
    """Return what the step waits for, in words, the largest part first."""
    parts = {
        "compute": estimate.compute_s,
        "communication it waits for": estimate.exposed_s,
        "the pipeline's bubble": estimate.step_s * estimate.bubble / (1 + estimate.bubble),
    }
    shares = {name: seconds / estimate.step_s for name, seconds in parts.items()}
    said = [f"{share:.0%} {name}" for name, share in sorted(shares.items(), key=lambda item: -item[1]) if share > 0.005]
    busiest = max(estimate.communication_s, key=estimate.communication_s.get)
    if estimate.communication_s[busiest] > 0:
        said.append(f"most of the traffic is {busiest}'s, {estimate.sent_bytes[busiest] / 1e9:.2g} GB a chip")
    return said


def pareto(choices: list[Choice]) -> list[Choice]:
    """Return those that fit and that no other beats in both time and memory."""
    fit = [choice for choice in choices if choice.fits]
    key = lambda c: (c.estimate.step_s, c.estimate.memory_bytes)  # noqa: E731
    best, least = [], float("inf")
    for _, group in itertools.groupby(sorted(fit, key=key), key=key):
        choice = next(group)
        if choice.estimate.memory_bytes < least:
            best.append(choice)
            least = choice.estimate.memory_bytes
    return best

"""Collectives on a ring of fake devices, hop by hop, in NumPy.

Device i sends to device i + 1 only (the last one to device 0). Every function takes one
array per device and returns a `Trace`: the arrays afterwards, and each step on the way with
what every device held and what went over which link.
"""

import collections
import dataclasses
from collections.abc import Hashable
from typing import NamedTuple

import numpy as np


@dataclasses.dataclass(frozen=True)
class Link:
    """A link in the alpha-beta model: b bytes take latency + b / bandwidth.

    The defaults are round numbers in the range of an accelerator's own interconnect [ours].
    """

    latency_s: float = 1e-6
    bandwidth_bytes_per_s: float = 1e11

    def __post_init__(self):
        if self.latency_s < 0 or self.bandwidth_bytes_per_s <= 0:
            raise ValueError(f"a link needs a latency >= 0 and a bandwidth > 0, got {self}")

    def time_s(self, n_bytes: float) -> float:
        """Return the seconds of one message of so many bytes: alpha + bytes / beta."""
        return self.latency_s + n_bytes / self.bandwidth_bytes_per_s


LINK = Link()


class Held(NamedTuple):
    """A chunk in one device's memory, and the devices whose contributions it sums."""

    value: np.ndarray
    sources: frozenset


class Message(NamedTuple):
    """One chunk on one link."""

    source: int
    target: int
    chunk: Hashable
    n_bytes: int


class Hop(NamedTuple):
    """What all devices send at once, and what they hold then: `held[device][chunk]`."""

    messages: tuple[Message, ...]
    held: tuple[dict, ...]


class Trace(NamedTuple):
    """A collective as it happened. `steps[0]` is the start and has no messages."""

    name: str
    result: list  # one array per device
    steps: list[Hop]
    link: Link

    @property
    def n(self) -> int:
        """Return the number of devices."""
        return len(self.result)

    @property
    def link_bytes(self) -> dict[tuple[int, int], int]:
        """Return {(from, to): bytes} over all steps."""
        return _per_link(message for step in self.steps for message in step.messages)

    @property
    def bytes_per_device(self) -> int:
        """Return the bytes on the busiest link, forwarded chunks included."""
        return max(self.link_bytes.values(), default=0)

    @property
    def time_s(self) -> float:
        """Return the seconds: every step waits for its largest message.

            sum over steps of (alpha + largest bytes on a link / beta)

        Source: Thakur et al. 2005, "Optimization of collective communication" [standard].
        Test: tests/parallelism/test_simulator.py::test_time_is_the_alpha_beta_closed_form
        """
        return sum(
            self.link.time_s(max(_per_link(step.messages).values()))
            for step in self.steps
            if step.messages
        )


def _per_link(messages):
    total = collections.Counter()
    for m in messages:
        total[m.source, m.target] += m.n_bytes
    return dict(total)


class _Ring:
    """The memories of the devices, and the tape on which every step is written."""

    def __init__(self, chunks):
        """chunks: [device] {name: array}."""
        self.memories = [
            {name: Held(x, frozenset({device})) for name, x in mine.items()}
            for device, mine in enumerate(chunks)
        ]
        self.steps = []
        self._record()

    def _record(self, messages=()):
        # the values are never changed in place
        self.steps.append(Hop(tuple(messages), tuple(map(dict, self.memories))))

    def step(self, sends, direction=1, add=False, keep=False):
        """Send chunks to the neighbours at once: sends[device]; keep or drop them there."""
        flying = []
        for device, chunks in enumerate(sends):
            target = (device + direction) % len(self.memories)
            memory = self.memories[device]
            for chunk in list(chunks):
                held = memory[chunk] if keep else memory.pop(chunk)
                flying.append((Message(device, target, chunk, held.value.nbytes), held))
        for message, held in flying:
            memory = self.memories[message.target]
            if add and message.chunk in memory:
                mine = memory[message.chunk]
                held = Held(mine.value + held.value, mine.sources | held.sources)
            memory[message.chunk] = held
        self._record(message for message, _ in flying)

    def joined(self, axis):
        """Return the chunks of each device put together."""
        names = range(len(self.memories))
        return [np.concatenate([m[c].value for c in names], axis) for m in self.memories]


def _same(parts):
    arrays = [np.asarray(part) for part in parts]
    if not arrays:
        raise ValueError("a ring needs at least one device: give one array per device")
    kinds = sorted({(a.shape, str(a.dtype)) for a in arrays})
    if len(kinds) > 1:
        raise ValueError(
            f"the devices of a ring must hold arrays of one shape and dtype, got {kinds}"
        )
    return arrays


def cut(x: np.ndarray, n: int, axis: int, what: str) -> list[np.ndarray]:
    """Return n equal chunks of x along an axis; ValueError, naming `what`, if none."""
    if x.shape[axis] % n:
        raise ValueError(
            f"{what} cuts axis {axis} into {n} equal chunks, one per device, but its size is {x.shape[axis]}: "
            f"pad it to {-(-x.shape[axis] // n) * n}, or use another number of devices"
        )
    return np.split(x, n, axis=axis)


def _reduce_scatter_steps(ring, n):
    """Chunk c starts at device c + 1, is added to at every hop, and ends at device c."""
    for s in range(n - 1):
        ring.step([[(device - 1 - s) % n] for device in range(n)], add=True)


def _all_gather_steps(ring, n):
    """Chunk c starts at device c and is copied onwards until all have it."""
    for s in range(n - 1):
        ring.step([[(device - s) % n] for device in range(n)], keep=True)


def all_gather(parts: list, axis: int = 0, link: Link = LINK) -> Trace:
    """Return a trace after which all devices have the parts put together along `axis`.

        bytes per link = (n - 1) / n W          W: bytes of the concatenation

    Source: textbook [standard].
    Test: tests/parallelism/test_simulator.py::test_bytes_are_the_closed_forms
    """
    arrays = _same(parts)
    ring = _Ring([{i: a} for i, a in enumerate(arrays)])
    _all_gather_steps(ring, len(arrays))
    return Trace("all-gather", ring.joined(axis), ring.steps, link)


def reduce_scatter(parts: list, axis: int = 0, link: Link = LINK) -> Trace:
    """Return a trace after which device i has chunk i, along `axis`, of the sum.

        bytes per link = (n - 1) / n W          W: bytes of one part

    Source: textbook [standard].
    Test: tests/parallelism/test_simulator.py::test_bytes_are_the_closed_forms
    """
    arrays = _same(parts)
    n = len(arrays)
    ring = _Ring([dict(enumerate(cut(a, n, axis, "reduce-scatter"))) for a in arrays])
    _reduce_scatter_steps(ring, n)
    result = [memory[i].value for i, memory in enumerate(ring.memories)]
    return Trace("reduce-scatter", result, ring.steps, link)


def all_reduce(parts: list, link: Link = LINK) -> Trace:
    """Return a trace after which all have the sum: a reduce-scatter, then an all-gather.

        bytes per link = 2 (n - 1) / n W        W: bytes of one part, in n chunks

    Source: Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms" [standard].
    Test: tests/parallelism/test_simulator.py::test_bytes_are_the_closed_forms
    """
    arrays = _same(parts)
    n, shape = len(arrays), arrays[0].shape
    ring = _Ring([dict(enumerate(np.array_split(a.reshape(-1), n))) for a in arrays])
    _reduce_scatter_steps(ring, n)
    _all_gather_steps(ring, n)
    return Trace("all-reduce", [x.reshape(shape) for x in ring.joined(0)], ring.steps, link)


def all_to_all(
    parts: list, split_axis: int = 0, concat_axis: int = 0, link: Link = LINK
) -> Trace:
    """Return a trace after which device i has chunk i of every part, in their order.

        every device's own bytes that leave it = (n - 1) / n w        w: bytes of one part
        bytes per link                         = (n - 1) / 2 w     a chunk passes many links

    Source: textbook; on a ring that sends one way [standard].
    Test: tests/parallelism/test_simulator.py::test_bytes_are_the_closed_forms
    """
    arrays = _same(parts)
    n = len(arrays)
    chunks = [cut(a, n, split_axis, "all-to-all") for a in arrays]
    # chunk (i, j) is on its way from i to j
    ring = _Ring([{(i, j): x for j, x in enumerate(mine)} for i, mine in enumerate(chunks)])
    for _ in range(n - 1):
        ring.step(
            [
                sorted((i, j) for i, j in memory if j != device)
                for device, memory in enumerate(ring.memories)
            ]
        )
    result = [
        np.concatenate([memory[i, j].value for i in range(n)], axis=concat_axis)
        for j, memory in enumerate(ring.memories)
    ]
    return Trace("all-to-all", result, ring.steps, link)


def permute(parts: list, shift: int = 1, link: Link = LINK) -> Trace:
    """Return a trace after which device i + shift has what device i had.

        bytes per link = |shift| w              w: bytes of one part, over |shift| hops

    Source: textbook [standard].
    Test: tests/parallelism/test_simulator.py::test_bytes_are_the_closed_forms
    """
    arrays = _same(parts)
    n = len(arrays)
    if abs(shift) >= n > 1:
        raise ValueError(
            f"a shift of {shift} goes around a ring of {n} devices: use shift % {n} = {shift % n}"
        )
    ring = _Ring([{i: a} for i, a in enumerate(arrays)])
    for _ in range(abs(shift) if n > 1 else 0):
        ring.step(ring.memories, direction=1 if shift > 0 else -1)
    result = [held.value for memory in ring.memories for held in memory.values()]
    return Trace("permute", result, ring.steps, link)

"""Chapter 3's exercises: a ring's time, ZeRO, the bubble, an order, merged softmaxes."""

import math

import numpy as np

from ...parallelism.simulator import ring_collectives, schedules
from .registry import Case, exercise


@exercise("3.1", "how long does an all-reduce take?", "easy", 5)
def all_reduce_s():
    """Send real arrays round a simulated ring and look at its clock."""
    for n, n_bytes, latency, bandwidth in (
        (4, 4096, 0.0, 1e3),
        (4, 4096, 0.5, 1e3),
        (8, 8192, 1e-6, 1e11),
    ):
        link = ring_collectives.Link(latency, bandwidth)
        expected = ring_collectives.all_reduce(
            [np.zeros(n_bytes, np.int8)] * n, link
        ).time_s
        hops = n - 1
        mistakes = (
            (
                hops * latency + hops / n * n_bytes / bandwidth,
                "an all-reduce is a reduce-scatter AND an all-gather",
            ),
            (
                2 * hops * (latency + n_bytes / bandwidth),
                "a hop carries a chunk of W/n bytes, not all of W",
            ),
            (
                2 * n * (latency + n_bytes / n / bandwidth),
                "a chunk makes n - 1 hops to visit n devices",
            ),
            (latency + 2 * hops / n * n_bytes / bandwidth, "every hop pays the latency"),
        )
        arguments = {
            "n": n,
            "n_bytes": n_bytes,
            "latency_s": latency,
            "bandwidth_bytes_per_s": bandwidth,
        }
        yield Case(arguments, expected, mistakes)


def _held(n_parameters, n, stage):
    """Add up the bytes of device 0, parameter by parameter."""
    total = 0
    for parameter in range(n_parameters):
        mine = parameter % n == 0
        for width, cut_from in ((4, 3), (4, 2), (8, 1)):  # weights, gradients, two moments
            total += width if mine or stage < cut_from else 0
    return total


@exercise("3.2", "what ZeRO keeps", "easy", 5)
def zero_bytes():
    """Count what one device keeps of each parameter."""
    for n_parameters, n, stage in (
        (1200, 4, 0),
        (1200, 4, 1),
        (1200, 4, 2),
        (1200, 4, 3),
        (1600, 8, 3),
    ):
        right = _held(n_parameters, n, stage)
        mistakes = (
            (16 * n_parameters / n, "only stage 3 cuts everything"),
            (
                _held(n_parameters, n, max(stage - 1, 0)),
                "stage 1 already cuts the optimizer's two moments",
            ),
            (
                (12 + 4 / n) * n_parameters,
                "the optimizer's moments are cut first, the weights last",
            ),
            (
                right - 4 * n_parameters / (n if stage == 3 else 1),
                "Adam keeps TWO moments of 4 bytes each",
            ),
        )
        yield Case(
            {"n_parameters": n_parameters, "n_devices": n, "stage": stage}, right, mistakes
        )


@exercise("3.3", "enough microbatches", "easy", 5)
def fewest_microbatches():
    """Try one number after another on the timeline."""
    for p, most in ((4, 0.22), (3, 0.09), (6, 0.3), (1, 0.1)):
        m = next(
            m for m in range(1, 10_000) if schedules.gpipe(p, m).bubble_fraction <= most
        )
        simple = math.ceil((p - 1) / most)
        mistakes = (
            (
                simple,
                "(p - 1) / m compares the idle time with the busy time, not with all of it",
            ),
            (m - 1, "one too few: the bubble must not exceed the bound, so round up"),
            (0, "without a microbatch nothing is computed: at least 1"),
        )
        yield Case({"n_stages": p, "largest_bubble": most}, m, mistakes)


@exercise("3.4", "a fair order", "medium", 10)
def zigzag():
    """Deal chunks like cards: once round the table, then once back."""
    for T, n in ((8, 2), (16, 4), (24, 3)):
        size = T // (2 * n)
        hands = [[] for _ in range(n)]
        for chunk, device in enumerate([*range(n), *reversed(range(n))]):
            hands[device] += range(chunk * size, (chunk + 1) * size)
        chunks = np.arange(T).reshape(2 * n, size)
        mistakes = (
            (
                np.arange(T).reshape(n, -1),
                "these are contiguous parts: the last device has the most to look at",
            ),
            (
                np.arange(T).reshape(-1, n).T,
                "dealt token by token; deal 2n chunks of neighbouring tokens",
            ),
            (
                np.array([np.concatenate([chunks[i], chunks[n + i]]) for i in range(n)]),
                "the second round goes the same way as the first, so device n - 1 has the later chunk of both",
            ),
        )
        yield Case({"T": T, "n": n}, np.array(hands), mistakes)


@exercise("3.5", "two halves of a softmax", "hard", 20)
def merge():
    """Attend to all keys at once: the halves never meet here."""
    rng = np.random.default_rng((3, 5))
    for T, S, H, size in ((1, 4, 2, 1.0), (3, 6, 4, 1.0), (2, 8, 2, 1000.0)):
        scores, values = rng.standard_normal((T, S)) * size, rng.standard_normal((S, H))
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        expected = weights @ values / weights.sum(-1, keepdims=True)
        a, b = (
            _part(scores[:, half], values[half])
            for half in (slice(0, S // 3), slice(S // 3, S))
        )
        mistakes = (
            (
                (a["out"] / a["total"] + b["out"] / b["total"]) / 2,
                "the two averages do not weigh the same",
            ),
            (
                (a["out"] + b["out"]) / (a["total"] + b["total"]),
                "the sums are scaled by exp(-top) with different tops: bring both to the larger one first",
            ),
        )
        arguments = {
            f"{name}_{side}": part[name]
            for side, part in (("a", a), ("b", b))
            for name in part
        }
        yield Case(arguments, expected, mistakes)


def _part(scores, values):
    """Return what a device knows of its keys: largest score; sums of weights and values."""
    top = scores.max(-1, keepdims=True)
    weights = np.exp(scores - top)
    return {"top": top, "total": weights.sum(-1, keepdims=True), "out": weights @ values}

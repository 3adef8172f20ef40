"""Chapter 6's exercises: a ring's time, ZeRO, the bubble, an order, merged softmaxes."""

import math

import numpy as np

from ...parallelism.simulator import pipeline_schedules, ring_collectives
from .registry import Case, exercise

RINGS = ((4, 4096, 0.0, 1e3), (4, 4096, 0.5, 1e3), (8, 8192, 1e-6, 1e11))


@exercise("6.1", "how long does an all-reduce take?", "easy", 5, RINGS)
def all_reduce_s(n, n_bytes, latency_s, bandwidth_bytes_per_s):
    """Send real arrays round a simulated ring and look at its clock."""
    latency, whole_s, hops = latency_s, n_bytes / bandwidth_bytes_per_s, n - 1
    link = ring_collectives.Link(latency, bandwidth_bytes_per_s)
    return ring_collectives.all_reduce([np.zeros(n_bytes, np.int8)] * n, link).time_s, {
        "an all-reduce is a reduce-scatter AND an all-gather": hops
        * (latency + whole_s / n),
        "a hop carries a chunk of W/n bytes, not all of W": 2 * hops * (latency + whole_s),
        "a chunk makes n - 1 hops to visit n devices": 2 * n * (latency + whole_s / n),
        "every hop pays the latency": latency + 2 * hops * whole_s / n,
    }


SHARDED = ((1200, 4, 0), (1200, 4, 1), (1200, 4, 2), (1200, 4, 3), (1600, 8, 3))


@exercise("6.2", "what ZeRO keeps", "easy", 5, SHARDED)
def zero_bytes(n_parameters, n_devices, stage):
    """Count what one device keeps of each parameter."""
    P, n = n_parameters, n_devices
    right = _held(P, n, stage)
    return right, {
        "only stage 3 cuts everything": 16 * P / n,
        "stage 1 already cuts the optimizer's two moments": _held(P, n, max(stage - 1, 0)),
        "the optimizer's moments are cut first, the weights last": (12 + 4 / n) * P,
        "Adam keeps TWO moments of 4 bytes each": right - 4 * P / (n if stage == 3 else 1),
    }


def _held(n_parameters, n, stage):
    """Add up the bytes of device 0, parameter by parameter."""
    total = 0
    for parameter in range(n_parameters):
        mine = parameter % n == 0
        for width, cut_from in ((4, 3), (4, 2), (8, 1)):  # weights, gradients, two moments
            total += width if mine or stage < cut_from else 0
    return total


@exercise(
    "6.3", "enough microbatches", "easy", 5, ((4, 0.22), (3, 0.09), (6, 0.3), (1, 0.1))
)
def fewest_microbatches(n_stages, largest_bubble):
    """Try one number after another on the timeline."""
    m = 1
    while pipeline_schedules.gpipe(n_stages, m).bubble_fraction > largest_bubble:
        m += 1
    simple = math.ceil((n_stages - 1) / largest_bubble)
    return m, {
        "(p - 1) / m compares the idle time with the busy time, not with all of it": simple,
        "one too few: the bubble must not exceed the bound, so round up": m - 1,
        "without a microbatch nothing is computed: at least 1": 0,
    }


@exercise("6.4", "a fair order", "medium", 10, ((8, 2), (16, 4), (24, 3)))
def zigzag(T, n):
    """Deal chunks like cards: once round the table, then once back."""
    chunks = np.arange(T).reshape(2 * n, -1)  # [T] -> [2n, T / 2n]
    hands = [[] for _ in range(n)]
    for chunk, device in zip(chunks, [*range(n), *reversed(range(n))], strict=True):
        hands[device] += [*chunk]
    straight = "the second round goes the same way as the first, so device n - 1 has the later chunk of both"
    return np.array(hands), {
        "these are contiguous parts: the last device has the most to look at": np.arange(
            T
        ).reshape(n, -1),
        "dealt token by token; deal 2n chunks of neighbouring tokens": np.arange(T)
        .reshape(-1, n)
        .T,
        straight: np.hstack([chunks[:n], chunks[n:]]),
    }


@exercise("6.5", "two halves of a softmax", "hard", 20)
def merge():
    """Attend to all keys at once: the halves never meet here."""
    rng = np.random.default_rng((3, 5))
    for T, S, H, size in ((1, 4, 2, 1.0), (3, 6, 4, 1.0), (2, 8, 2, 1000.0)):
        scores, values = rng.standard_normal((T, S)) * size, rng.standard_normal((S, H))
        halves = np.split(scores, [S // 3], axis=1), np.split(values, [S // 3])
        a, b = map(_part, *halves)
        all_keys = _part(scores, values)
        tops = "the sums are scaled by exp(-top) with different tops: bring both to the larger one first"
        mistakes = {
            "the two averages do not weigh the same": (
                a["out"] / a["total"] + b["out"] / b["total"]
            )
            / 2,
            tops: (a["out"] + b["out"]) / (a["total"] + b["total"]),
        }
        arguments = {f"{name}_a": value for name, value in a.items()}
        arguments |= {f"{name}_b": value for name, value in b.items()}
        yield Case(arguments, all_keys["out"] / all_keys["total"], mistakes)


def _part(scores, values):
    """Return what a device knows of its keys: largest score; sums of weights and values."""
    top = scores.max(-1, keepdims=True)
    weights = np.exp(scores - top)
    return {"top": top, "total": weights.sum(-1, keepdims=True), "out": weights @ values}

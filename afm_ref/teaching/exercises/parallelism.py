"""Chapter 6's exercises: two kinds of links, ZeRO, a vocabulary in parts, the bubble."""

import math

import numpy as np

from ...parallelism.simulator import pipeline_schedules, ring_collectives
from .registry import Case, exercise

MESHES = ((4, 2, 4096), (8, 4, 8192), (2, 16, 1024))


@exercise("6.1", "fast links and slow ones", "medium", 10, MESHES)
def two_axis_bytes(n_fast, n_slow, n_bytes):
    """Send real arrays round simulated rings: along the fast axis, the slow one, and back."""
    down = ring_collectives.reduce_scatter([np.zeros(n_bytes, np.int8)] * n_fast)
    across = ring_collectives.all_reduce(down.result[:1] * n_slow)
    back = ring_collectives.all_gather(across.result[:1] * n_fast)
    half, fast = down.bytes_per_device, down.bytes_per_device + back.bytes_per_device
    slow, everything = across.bytes_per_device, 2 * (n_slow - 1) * n_bytes / n_slow
    whole = "after the reduce-scatter a device has 1 / n_fast of the array to sum over the slow links"
    return [fast, slow], {
        whole: [fast, everything],
        "the all-gather at the end goes over the fast links too": [half, slow],
        "the sum over the slow links is an all-reduce: there and back": [fast, slow / 2],
        "the answer is [fast, slow]": [slow, fast],
    }


STATES = (
    *((1000, memory, 1) for memory in (12_000, 9_000, 7_000)),
    (1000, 7_000, 2), (1000, 700, 3), (1000, 16_000, 0), (1000, 15_999, 0),
)  # fmt: skip


@exercise("6.2", "does it fit?", "medium", 10, STATES)
def fewest_devices(n_parameters, memory_bytes, zero):
    """Try one number after another, and give up at many."""
    right = _fewest(n_parameters, memory_bytes, zero)
    return right, {
        "only ZeRO-3 shards everything": _fewest(n_parameters, memory_bytes, 3),
        "ZeRO-1 shards the moments, ZeRO-2 the gradients too": _fewest(
            n_parameters, memory_bytes, max(zero - 1, 0)
        ),
        "one too few: it must fit, so round up": right - 1,
        "what is not sharded lies on every device, so it takes its memory first": math.ceil(
            (0, 8, 12, 16)[zero] * n_parameters / memory_bytes
        ),
    }


def _fewest(n_parameters, memory_bytes, zero, most=10_000):
    parts = (4, 3), (4, 2), (8, 1)  # bytes of weight, gradient, moments; sharded from
    for n in range(1, most):
        # in whole bytes of all n devices
        held = sum(width * (1 if zero >= sharded else n) for width, sharded in parts)
        if n_parameters * held <= memory_bytes * n:
            return n
    return 0


@exercise("6.3", "a vocabulary in parts", "hard", 20)
def log_probability():
    """Take the softmax of the whole vocabulary at once: the parts never meet here."""
    rng = np.random.default_rng((6, 3))
    for n, T, part, size in ((1, 2, 3, 1.0), (2, 3, 4, 1.0), (4, 5, 3, 1000.0)):
        logits = rng.standard_normal((n, T, part)) * size
        targets = rng.integers(0, n * part, T)
        given = {"logits": logits, "targets": targets}
        right = _log_probability(np.concatenate(logits, axis=-1), targets)
        yield Case(given, right, _slips(logits, targets, right))


def _log_probability(logits, targets):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted[np.arange(len(targets)), targets] - np.log(np.exp(shifted).sum(-1))


def _slips(logits, targets, right):
    at, whole = np.arange(len(targets)), np.concatenate(logits, axis=-1)
    own, first = whole[at, targets], logits[0][at, targets % logits.shape[-1]]
    apart = np.exp(logits - logits.max(-1, keepdims=True)).sum((0, 2))
    return {
        "device i has the tokens from i V / n on: look a target up where it lies": right
        - own
        + first,
        "each device's sum is over another largest logit: bring them to the largest of all": (
            own - whole.max(-1) - np.log(apart)
        ),
        "this is the loss; the log-probability is minus that": -right,
    }


@exercise(
    "6.4", "enough microbatches", "easy", 5, ((4, 0.22), (3, 0.09), (6, 0.3), (1, 0.1))
)
def fewest_microbatches(n_stages, largest_bubble):
    """Try one number after another on the timeline."""
    n = 1
    while pipeline_schedules.gpipe(n_stages, n).bubble_fraction > largest_bubble:
        n += 1
    simple = math.ceil((n_stages - 1) / largest_bubble)
    return n, {
        "that compares the idle time with the busy time, not with all of it": simple,
        "one too few: the bubble must not exceed the bound, so round up": n - 1,
        "without a microbatch nothing is computed: at least 1": 0,
    }

"""Measures of a model, and the interval that every comparison carries."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from ._typing import Float
from .config import AFMConfig
from .losses import next_token
from .weights import Params


def total_loss(
    params: Params, loss: Callable, batches: Iterable, progress: bool = True
) -> tuple[float, float]:
    """Return (sum, count) of a loss over all batches, added in float64 on the host.

    loss(params, batch) -> (sum, count) is compiled once; the batches should share one
    shape.
    """
    import jax

    compiled = jax.jit(loss)
    sums = [compiled(params, batch) for batch in bar(batches, "evaluate", progress)]
    if not sums:
        raise ValueError("nothing to evaluate: no batches were given")
    total, count = np.sum(sums, axis=0, dtype=np.float64)
    return float(total), float(count)


def bar(items: Iterable, what: str, show: bool = True) -> Iterable:
    """Return the items, with a progress bar as they are taken, which goes at their end."""
    from tqdm.auto import tqdm

    return tqdm(items, what, disable=not show, leave=False)


def bits_per_byte(
    params: Params, cfg: AFMConfig, batches: Iterable, n_bytes: int, progress: bool = True
) -> float:
    """Return how many bits the model needs per byte of the text that the batches hold.

        bits per byte = sum of nats / (ln 2 * bytes)

    n_bytes is the UTF-8 length of the text whose tokens are the weighted targets. Unlike a
    loss per token it can be compared across tokenizers, n-gram models and compressors.

    Source: Shannon 1948; standard for language models on text of several tokenizers
        [standard].
    Test: tests/transformer/test_transformer.py::test_a_uniform_model_needs_log2_V_bits_a_token
    """
    if n_bytes < 1:
        raise ValueError(
            f"n_bytes must be at least 1, got {n_bytes}: bits per byte of no text is undefined"
        )
    nats, _ = total_loss(
        params, lambda p, batch: next_token(p, batch, cfg), batches, progress
    )
    return nats / (math.log(2) * n_bytes)


class Interval(NamedTuple):
    """A mean with the ends of its confidence interval."""

    mean: float
    low: float
    high: float


def mean_interval(values, confidence: float = 0.95) -> Interval:
    """Return the mean of independent runs (seeds) and its Student t confidence interval.

        mean +- t_{n-1, (1 + confidence) / 2} * s / sqrt(n)

    For a comparison pass the paired differences: it holds if the interval excludes 0. Fewer
    than two values raise ValueError, for one run has no spread.

    Source: Student 1908 [standard].
    Test: tests/transformer/test_transformer.py::test_interval_against_a_table_of_t
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(
            f"an interval needs a list of at least 2 runs, got shape {values.shape}"
        )
    from scipy.stats import t  # comes with jax

    n, mean, s = len(values), float(values.mean()), float(values.std(ddof=1))
    half = float(t.ppf((1 + confidence) / 2, n - 1)) * s / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def mean_and_bound(differences: Float[np.ndarray, "runs records"]) -> tuple[float, float]:
    """Return the mean of paired differences, one arm less another, and what it is at least:
    the lower of two one-sided 95% bounds, over runs (Student's t) and over records.

        mean - max(t_{n-1, .95} s_runs / sqrt(n), 1.645 s_records / sqrt(m))

    A row is a run (seed) and has the same records as every other; s_records is the standard
    deviation of the records' means over runs. An arm is not worse by a margin if the bound
    lies above minus the margin. ValueError: fewer than two runs or records.

    Source: Student 1908; non-inferiority by one-sided bound [standard].
    Test: tests/transformer/test_transformer.py::test_a_bound_is_the_lower_of_that_over_runs_and_over_records
    """
    differences = np.asarray(differences, np.float64)
    if differences.ndim != 2 or min(differences.shape) < 2:
        raise ValueError(
            f"a bound needs at least 2 runs of at least 2 records, got shape {differences.shape}"
        )
    mean, over_runs, _ = mean_interval(differences.mean(axis=1), 0.9)
    of_records = differences.mean(axis=0)
    over_records = mean - 1.645 * float(of_records.std(ddof=1)) / math.sqrt(len(of_records))
    return mean, min(over_runs, over_records)

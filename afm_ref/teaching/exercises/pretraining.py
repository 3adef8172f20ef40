"""Exercises of chapters 2 and 3: benchmark texts, bands, Apple's step."""

import math

import numpy as np

from .registry import Case, exercise

CORPORA = (  # (benchmark, documents, low, high, threshold)
    (
        "what is the sum of two primes",
        [
            "what is the sum here",  # in four documents
            "and what is the sum",
            "so what is the sum",
            "guess what is the sum of two numbers",  # holds all the others too
            "the sum of two tens",  # in three, the threshold
            "it was the sum of two",
            "is the sum of one",  # in two
            # three times, in one
            "sum of two primes or sum of two primes or sum of two primes",
            "a quiet day",
        ],
        4,
        6,
        3,
    ),
    (
        "a b c d e",
        ["a b c d x", "a b c d y", "z b c d e", "y b c d e", "a b c d e", "b c d"],
        4,
        5,
        3,
    ),
    (
        "up and down the hill",
        ["up and down up and down", "up and down", "up and away", "down the hill"],
        3,
        5,
        3,
    ),
    (
        "one two three four",
        ["one two three five", "two three four", "one two", "five"],
        2,
        4,
        1,
    ),
)


@exercise("2.1", "which documents are dropped", "medium", 15, CORPORA)
def dropped(benchmark, documents, low, high, threshold):
    """Compare runs of words as strings with spaces around them, document by document."""
    hits = [_hits(benchmark, text, low, high) for text in documents]
    counts = {run: sum(run in found for found in hits) for found in hits for run in found}
    occurrences = {
        run: sum(f" {text} ".count(f" {run} ") for text in documents) for run in counts
    }

    def by(test, how=any):
        return [float(bool(found) and how(map(test, found))) for found in hits]

    def rare(run):
        return counts[run] < threshold

    def of_length(n):
        return by(lambda run: rare(run) and run.count(" ") == n - 1)

    expected = by(rare)
    reached = by(lambda run: counts[run] <= threshold)
    repeated = by(lambda run: occurrences[run] < threshold)
    return expected, {
        "a run that reaches the threshold is common usage and drops nothing": by(
            lambda run: True
        ),
        "a run that REACHES the threshold is common: rare is below it": reached,
        "the other way round: rare runs drop, common ones do not": by(
            lambda run: not rare(run)
        ),
        "count documents: a run counts once for each, however often": repeated,
        "look at all lengths, not `low` alone": of_length(low),
        "look at all lengths, not `high` alone": of_length(high),
        "one rare run is enough to drop a document": by(rare, how=all),
        "1 is for a document that is dropped": [1 - x for x in expected],
    }


def _hits(benchmark, text, low, high):
    """Return the runs of the benchmark that the text holds, each found as a string."""
    words = benchmark.split()
    runs = {
        " ".join(words[i:j])
        for i in range(len(words))
        for j in range(i + low, min(i + high, len(words)) + 1)
    }
    return {run for run in runs if f" {run} " in f" {text} "}


# (similarity, rows, wanted)
PAIRS = ((0.8, 8, 0.9), (0.5, 3, 0.5), (0.9, 13, 0.99), (0.75, 8, 0.8), (1.0, 5, 0.99))


@exercise("2.2", "how many bands", "easy", 10, PAIRS)
def fewest_bands(similarity, rows, wanted):
    """Add bands one by one until the probability that all of them miss is small enough."""
    s, agrees = similarity, similarity**rows
    expected = _count(agrees, wanted)
    all_rows = "a band agrees if ALL its rows do: the chance is s to the power of the rows"
    return expected, {
        all_rows: _count(s, wanted),
        "a band needs ALL its rows equal, not one of them": _count(
            1 - (1 - s) ** rows, wanted
        ),
        "round up: with one band less the probability is below what is wanted": expected
        - 1,
        "wanted is the chance of a candidate; (1 - s^r)^b that of a miss": _count(
            agrees, 1 - wanted
        ),
    }


def _count(agrees, wanted):
    """Return the first number of bands with which 1 - P(all miss) is at least `wanted`."""
    bands, missed = 0, 1.0
    while 1 - missed < wanted:
        bands, missed = bands + 1, missed * (1 - agrees)
    return bands


B1, B2 = 0.95, 0.95


@exercise("3.1", "one step of Apple's update", "medium", 15)
def apple_step():
    """Go through the block weight by weight, and again for each way to get it wrong."""
    rng = np.random.default_rng((2, 3))
    for n, t, size in ((1, 1, 0.5), (3, 2, 0.01), (4, 7, 3.0)):
        w, m = rng.standard_normal((2, n))
        v = size**2 * rng.random(n) * (t > 1)
        m = 0.3 * m * (t > 1)
        g = size * rng.standard_normal(n)
        g[0] = 6 * size  # the clip has work to do in the later cases
        given = dict(w=w, g=g, v=v, m=m, t=t, s=0.5, rate=0.1, decay=0.02)
        wrong = {
            "the decay is not multiplied by the learning rate here": "decay times rate",
            "the schedule scales the decay as well": "decay not scheduled",
            "the second moment starts at 0: divide it by 1 - b2^t": "uncorrected",
            "t counts from 1: after t steps the weight gathered is 1 - b2^t": "t from 0",
            "the momentum runs over the normalised update, not over the gradient": "of g",
            "Apple does not correct the momentum for its start at 0": "corrected momentum",
            "the block's RMS may be 1 at most: divide by max(1, rms)": "not clipped",
            "clip by the RMS of the block, not by its norm": "clipped by norm",
        }
        mistakes = {why: _step(**given, wrong=name) for why, name in wrong.items()}
        yield Case(given, _step(**given), mistakes)


def _step(w, g, v, m, t, s, rate, decay, wrong=""):
    """Return the rows new w, v, m; `wrong` names a mistake."""

    def running(mean, new, b):
        return [b * old + (1 - b) * x for old, x in zip(mean, new)]

    n, squares = len(w), [x * x for x in g]
    if wrong == "of g":
        m = g = running(m, g, B1)
    v = running(v, squares, B2)
    power = t - 1 if wrong == "t from 0" and t > 1 else t
    share = 1.0 if wrong == "uncorrected" else 1 - math.pow(B2, power)
    u = [g[i] / math.sqrt(v[i] / share) for i in range(n)]
    size = math.sqrt(sum(x * x for x in u) / (1 if wrong == "clipped by norm" else n))
    if wrong != "not clipped":
        u = [x / max(1.0, size) for x in u]
    if wrong != "of g":
        m = u = running(m, u, B1)
    if wrong == "corrected momentum":
        u = [x / (1 - math.pow(B1, t)) for x in u]
    shrink = decay if wrong == "decay not scheduled" else s * decay
    if wrong == "decay times rate":
        shrink *= rate
    return np.array([[w[i] - s * rate * u[i] - shrink * w[i] for i in range(n)], v, m])

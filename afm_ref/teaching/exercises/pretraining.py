"""Chapter 2's exercises: benchmark texts, bands, Apple's step, a window, soft top-k."""

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


@exercise("2.1", "which documents are dropped", "medium", 15)
def dropped():
    """Compare runs of words as strings with spaces around them, document by document."""
    return [_case(*case) for case in CORPORA]


def _case(benchmark, documents, low, high, threshold):
    hits = [_hits(benchmark, text, low, high) for text in documents]
    counts = {run: sum(run in found for found in hits) for found in hits for run in found}
    occurrences = {
        run: sum(f" {text} ".count(f" {run} ") for text in documents) for run in counts
    }

    def by(test, of=hits, how=any):
        return [float(bool(found) and how(test(run) for run in found)) for found in of]

    expected = by(lambda run: counts[run] < threshold)
    mistakes = (
        (
            by(lambda run: True),
            "a run that reaches the threshold is common usage and drops nothing",
        ),
        (
            by(lambda run: counts[run] <= threshold),
            "a run that REACHES the threshold is common: rare is below it",
        ),
        (
            by(lambda run: counts[run] >= threshold),
            "the other way round: rare runs drop, common ones do not",
        ),
        (
            by(lambda run: occurrences[run] < threshold),
            "count documents: a run counts once for each, however often",
        ),
        (
            by(lambda run: counts[run] < threshold and run.count(" ") == low - 1),
            "look at all lengths, not `low` alone",
        ),
        (
            by(lambda run: counts[run] < threshold and run.count(" ") == high - 1),
            "look at all lengths, not `high` alone",
        ),
        (
            by(lambda run: counts[run] < threshold, how=all),
            "one rare run is enough to drop a document",
        ),
        ([1 - x for x in expected], "1 is for a document that is dropped"),
    )
    given = dict(
        benchmark=benchmark, documents=documents, low=low, high=high, threshold=threshold
    )
    return Case(given, expected, mistakes)


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


@exercise("2.2", "how many bands", "easy", 10)
def fewest_bands():
    """Add bands one by one until the probability that all of them miss is small enough."""
    for similarity, rows, wanted in PAIRS:
        expected = _count(similarity**rows, wanted)
        mistakes = (
            (
                _count(similarity, wanted),
                "a band agrees if ALL its rows do: the chance is s to the power of the rows",
            ),
            (
                _count(1 - (1 - similarity) ** rows, wanted),
                "a band needs ALL its rows equal, not one of them",
            ),
            (
                expected - 1,
                "round up: with one band less the probability is below what is wanted",
            ),
            (
                _count(similarity**rows, 1 - wanted),
                "wanted is the chance of a candidate; (1 - s^r)^b that of a miss",
            ),
        )
        yield Case(
            {"similarity": similarity, "rows": rows, "wanted": wanted}, expected, mistakes
        )


def _count(agrees, wanted):
    """Return the first number of bands with which 1 - P(all miss) is at least `wanted`."""
    bands, missed = 0, 1.0
    while 1 - missed < wanted:
        bands, missed = bands + 1, missed * (1 - agrees)
    return bands


B1, B2 = 0.95, 0.95


@exercise("2.3", "one step of Apple's update", "medium", 15)
def apple_step():
    """Go through the block weight by weight, and again for each way to get it wrong."""
    rng = np.random.default_rng((2, 3))
    for n, t, size in ((1, 1, 0.5), (3, 2, 0.01), (4, 7, 3.0)):
        w, m = rng.standard_normal((2, n))
        v = size**2 * rng.random(n) * (t > 1)
        m = 0.3 * m * (t > 1)
        g = size * rng.standard_normal(n)
        g[0] = 6 * size  # the clip has work to do in the later cases
        given = {
            "w": w,
            "g": g,
            "v": v,
            "m": m,
            "t": t,
            "s": 0.5,
            "rate": 0.1,
            "decay": 0.02,
        }
        mistakes = (
            (
                _step(**given, decay_times_rate=True),
                "the decay is not multiplied by the learning rate here",
            ),
            (
                _step(**given, scheduled_decay=False),
                "the schedule scales the decay as well",
            ),
            (
                _step(**given, corrected=False),
                "the second moment starts at 0: divide it by 1 - b2^t",
            ),
            (
                _step(**given, from_zero=True),
                "t counts from 1: after t steps the weight gathered is 1 - b2^t",
            ),
            (
                _step(**given, over_gradient=True),
                "the momentum runs over the normalised update, not over the gradient",
            ),
            (
                _step(**given, corrected_momentum=True),
                "Apple does not correct the momentum for its start at 0",
            ),
            (
                _step(**given, clipped=False),
                "the block's RMS may be 1 at most: divide by max(1, rms)",
            ),
            (_step(**given, by_norm=True), "clip by the RMS of the block, not by its norm"),
        )
        yield Case(given, _step(**given), mistakes)


def _step(w, g, v, m, t, s, rate, decay, *, decay_times_rate=False, scheduled_decay=True, corrected=True,
          from_zero=False, over_gradient=False, corrected_momentum=False, clipped=True, by_norm=False):  # fmt: skip
    """Return the rows new w, v, m; each keyword is one mistake."""
    n, given, powers = len(w), g, t - 1 if from_zero and t > 1 else t
    if over_gradient:
        m = g = [B1 * m[i] + (1 - B1) * g[i] for i in range(n)]
    v = [B2 * v[i] + (1 - B2) * given[i] * given[i] for i in range(n)]
    share = 1 - math.pow(B2, powers) if corrected else 1.0
    u = [g[i] / math.sqrt(v[i] / share) for i in range(n)]
    size = math.sqrt(sum(x * x for x in u) / (1 if by_norm else n))
    u = [x / max(1.0, size) for x in u] if clipped else u
    if not over_gradient:
        m = u = [B1 * m[i] + (1 - B1) * u[i] for i in range(n)]
    if corrected_momentum:
        u = [x / (1 - math.pow(B1, t)) for x in u]
    shrink = decay * (rate if decay_times_rate else 1.0) * (s if scheduled_decay else 1.0)
    return np.array([[w[i] - s * rate * u[i] - shrink * w[i] for i in range(n)], v, m])


@exercise("2.4", "a base for a longer window", "easy", 10, tolerance=1e-4)
def longer_base():
    """Bisect the base at which the pair that just completed a turn does so again."""
    for base, T_train, T in (
        (500_000.0, 8192, 32_768),
        (10_000.0, 2048, 16_384),
        (500_000.0, 256, 1024),
    ):
        expected = _bisected_base(base, T_train, T)
        mistakes = (
            (base ** (math.log(T) / math.log(T_train)), "wavelengths are 2 pi base^x: divide both windows by 2 pi"),
            (base * T / T_train, "that stretches all pairs alike only in the slowest; the fast ones need no change"),
            (base ** (math.log(T_train / (2 * math.pi)) / math.log(T / (2 * math.pi))), "upside down: it should grow"),
            (base ** (math.log(T / (2 * math.pi)) / math.log(T_train / 2 / (2 * math.pi))),
             "that is the window before: the reference is the one that was trained LAST with the old base"),
            (math.log(expected), "that is its logarithm"),
        )  # fmt: skip
        yield Case({"base": base, "T_train": T_train, "T": T}, np.array(expected), mistakes)


def _bisected_base(base, T_train, T):
    # the critical pair x of the old base, as a share of the head: 2 pi base^x = T_train
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if 2 * math.pi * base**middle < T_train else (low, middle)
        )
    # the logarithm of the new base: 2 pi base'^x = T
    critical, (low, high) = low, (0.0, 60.0)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (
            (middle, high)
            if 2 * math.pi * math.exp(middle * critical) < T
            else (low, middle)
        )
    return math.exp(low)


@exercise("2.5", "the threshold of soft top-k", "medium", 15)
def threshold():
    """Bisect the threshold, without sorting and without a count of the clipped."""
    rng = np.random.default_rng((2, 9))
    for F, k, eps in ((4, 2, 0.5), (6, 1, 1.0), (9, 5, 0.2), (12, 4, 0.05)):
        s = np.round(rng.normal(size=F), 2)
        a, z = _bisected_threshold(s, k, eps), s / eps
        unclipped = eps * (np.log(k) - np.logaddexp.reduce(z))
        inside = np.exp(np.minimum((s + a) / eps, 0))
        mistakes = (
            (inside, "the threshold a is asked, one number; these are the weights"),
            (-a, "the sign: a is added to the scores"),
            (a / eps, "a is in the units of the scores: times eps"),
            (unclipped, "that is right while nobody is clipped; here the largest weight would be above 1"),
            (-np.sort(s)[-k], "that is minus the k-th largest score, the limit for eps -> 0"),
        )  # fmt: skip
        yield Case({"scores": s, "k": k, "eps": eps}, a, mistakes)


def _bisected_threshold(s, k, eps):
    low, high = -s.max() - 60 * eps, -s.min() + 60 * eps
    for _ in range(200):
        middle = (low + high) / 2
        total = np.exp(np.minimum((s + middle) / eps, 0)).sum()
        low, high = (middle, high) if total < k else (low, middle)
    return high

"""Chapter 2's exercise on benchmark texts: which documents are dropped."""

from .registry import Case, exercise

CASES = (  # (benchmark, documents, low, high, threshold)
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
            "sum of two primes or sum of two primes or sum of two primes",  # three times, in one
            "a quiet day",
        ],
        4,
        6,
        3,
    ),
    ("a b c d e", ["a b c d x", "a b c d y", "z b c d e", "y b c d e", "a b c d e", "b c d"], 4, 5, 3),
    ("up and down the hill", ["up and down up and down", "up and down", "up and away", "down the hill"], 3, 5, 3),
    ("one two three four", ["one two three five", "two three four", "one two", "five"], 2, 4, 1),
)


@exercise("2.8", "which documents are dropped", "medium", 15)
def dropped():
    """Compare runs of words as strings with spaces around them, document by document."""
    return [_case(*case) for case in CASES]


def _case(benchmark, documents, low, high, threshold):
    hits = [_hits(benchmark, text, low, high) for text in documents]
    counts = {run: sum(run in found for found in hits) for found in hits for run in found}
    occurrences = {run: sum(f" {text} ".count(f" {run} ") for text in documents) for run in counts}

    def by(test, of=hits, how=any):
        return [float(bool(found) and how(test(run) for run in found)) for found in of]

    expected = by(lambda run: counts[run] < threshold)
    mistakes = (
        (by(lambda run: True), "a run that reaches the threshold is common usage and drops nothing"),
        (by(lambda run: counts[run] <= threshold), "a run that REACHES the threshold is common: rare is below it"),
        (by(lambda run: counts[run] >= threshold), "the other way round: rare runs drop, common ones do not"),
        (by(lambda run: occurrences[run] < threshold), "count documents: a run counts once for each, however often"),
        (by(lambda run: counts[run] < threshold and run.count(" ") == low - 1), "look at all lengths, not `low` alone"),
        (
            by(lambda run: counts[run] < threshold and run.count(" ") == high - 1),
            "look at all lengths, not `high` alone",
        ),
        (by(lambda run: counts[run] < threshold, how=all), "one rare run is enough to drop a document"),
        ([1 - x for x in expected], "1 is for a document that is dropped"),
    )
    told = tuple((wrong, why) for wrong, why in mistakes if wrong != expected)
    given = dict(benchmark=benchmark, documents=documents, low=low, high=high, threshold=threshold)
    return Case(given, expected, told)


def _hits(benchmark, text, low, high):
    """Return the runs of the benchmark that the text holds, each found as a string."""
    words = benchmark.split()
    runs = {" ".join(words[i:j]) for i in range(len(words)) for j in range(i + low, min(i + high, len(words)) + 1)}
    return {run for run in runs if f" {run} " in f" {text} "}

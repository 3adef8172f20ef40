"""Exercises of chapter 2: repeated lines, what a filter keeps, benchmark texts, bands."""

from .registry import exercise

TEXTS = (
    ("home\nabout\nhome\ntea is hot\nhome",),
    ("one\ntwo\nthree",),
    ("a\na\nb\nb\nb\nlast",),
    ("x\n\n\nx\n\ny",),
)


@exercise("2.1", "repeated lines", "easy", 10, TEXTS)
def repeated_lines(text):
    """Go line by line, and look among those before it."""
    lines = [line for line in text.split("\n") if line]
    with_empty = text.split("\n")

    def share(lines, counts):
        return sum(map(counts, range(len(lines)))) / len(lines)

    expected = share(lines, lambda i: lines[i] in lines[:i])
    return expected, {
        "the first time a line is said it repeats nothing": share(
            lines, lambda i: lines.count(lines[i]) > 1
        ),
        "empty lines do not count": share(
            with_empty, lambda i: with_empty[i] in with_empty[:i]
        ),
        "the share of lines, not their number": expected * len(lines),
        "the share that repeats, not the share that is new": 1 - expected,
        "each repeat counts: a line said three times repeats twice": len(
            {line for line in lines if lines.count(line) > 1}
        )
        / len(lines),
    }


# (good in the crawl, good kept, junk kept)
FILTERS = ((0.05, 0.98, 0.03), (0.5, 0.9, 0.1), (0.01, 0.99, 0.01), (1.0, 0.8, 0.2))


@exercise("2.2", "what is left is how good", "easy", 10, FILTERS)
def good_among_kept(good, good_kept, junk_kept):
    """Count a million pages one kind after the other."""
    pages = 1e6
    left, junk = pages * good * good_kept, pages * (1 - good) * junk_kept
    return left / (left + junk), {
        "that is as if the crawl held as much good as junk": good_kept
        / (good_kept + junk_kept),
        "that is the share of all pages that is kept": (left + junk) / pages,
        "of the pages that are KEPT: divide by them, not by all": left / pages,
        "that is the share of junk": junk / (left + junk),
    }


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


@exercise("2.3", "which documents are dropped", "medium", 15, CORPORA)
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


@exercise("2.4", "how many bands", "easy", 10, PAIRS)
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

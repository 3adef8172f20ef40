"""Chapter 2's exercise on near-duplicates: how many bands it takes."""

from .registry import Case, exercise

CASES = ((0.8, 8, 0.9), (0.5, 3, 0.5), (0.9, 13, 0.99), (0.75, 8, 0.8), (1.0, 5, 0.99))  # (similarity, rows, wanted)


@exercise("2.7", "how many bands", "easy", 10)
def fewest_bands():
    """Add bands one by one until the probability that all of them miss is small enough."""
    cases = []
    for similarity, rows, wanted in CASES:
        expected = _count(similarity**rows, wanted)
        mistakes = (
            (_count(similarity, wanted), "a band agrees if ALL its rows do: the chance is s to the power of the rows"),
            (_count(1 - (1 - similarity) ** rows, wanted), "a band needs ALL its rows equal, not one of them"),
            (expected - 1, "round up: with one band less the probability is below what is wanted"),
            (_count(similarity**rows, 1 - wanted), "wanted is the chance of a candidate; (1 - s^r)^b that of a miss"),
        )
        cases.append(Case({"similarity": similarity, "rows": rows, "wanted": wanted}, expected, mistakes))
    return cases


def _count(agrees, wanted):
    """Return the first number of bands with which 1 - P(all miss) is at least `wanted`."""
    bands, missed = 0, 1.0
    while 1 - missed < wanted:
        bands, missed = bands + 1, missed * (1 - agrees)
    return bands

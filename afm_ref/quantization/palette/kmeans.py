"""K-means in one dimension, where the optimum can be found: clusters of sorted numbers are
runs of neighbours.

    exact    the optimum, by dynamic programming over all positions of the cuts
    fast     the optimum among 127 places to cut at, then among ever closer ones

Both minimise the weighted squared error

    sum_i w_i (v_i - c(i))^2          c(i): the centre of v_i's cluster, the weighted mean of its members

and work on prefix sums: with W, V and S the sums of w, w v and w v^2 over a run, it costs
S - V^2 / W. The S of all runs add up to the same however they are cut, so that -V^2 / W is
what is minimised.
"""

import numpy as np

PARTS = 128  # the fast mode may first cut between this many parts: at 127 places
# how many places a cut may move, among those and later
FAR, NEAR = np.arange(-10, 11), np.arange(-6, 7)
MOST_ROUNDS = 12


def exact(values, k: int, weights=None) -> np.ndarray:
    """Return the k centres of least squared error, ascending, in float64: [k].

        D_j(m) = min over i < m of D_{j-1}(i) + cost(i, m)          D_j(m): m values in j runs

    Equal values are one value of their summed weight. If there are at most k distinct
    values they are the centres and the last one is repeated: the error is zero.

    Source: Wu 1991; Gronlund et al. 2017, k-means in one dimension [standard].
    Test: tests/quantization/test_quantizers.py::test_exact_is_the_best_of_all_partitions
    """
    values, weights = _checked(values, k, weights)
    v, which = np.unique(values.astype(np.float64), return_inverse=True)
    if len(v) <= k:
        return np.pad(v, (0, k - len(v)), "edge")
    sums = PrefixSums(v, np.bincount(which, weights))
    ends = np.arange(1, len(v) + 1)
    D = np.append(0.0, sums.cost(0, ends))
    choices = []
    for _ in range(k - 1):
        starts = _best_starts(sums, D, ends)
        D = np.append(0.0, D[starts] + sums.cost(starts, ends))
        choices.append(starts)
    cuts = [len(v)]
    for starts in reversed(choices):
        cuts.append(starts[cuts[-1] - 1])
    return sums.means(np.array([0, *cuts[::-1]]))


def _best_starts(sums, D, ends):
    """Return where the last run best begins, for each of these ascending ends.

    That never moves left as the end grows (the cost is a Monge array). So every other end
    comes first, and the rest search between their neighbours' starts: O(n log n) in all.
    """
    if not len(ends):
        return ends
    starts = np.empty_like(ends)
    starts[1::2] = _best_starts(sums, D, ends[1::2])
    rest = ends[::2]
    low = np.append(0, starts[1::2])[: len(rest)]
    high = np.minimum(np.append(starts[1::2], ends[-1])[: len(rest)], rest - 1)
    starts[::2] = _least(sums, D, rest, low, high)
    return starts


def _least(sums, D, ends, low, high):
    """Return the first i in low .. high with the least D(i) + cost(i, end), for each end.

    The starts of all ends lie in one array, one end's behind the other's: 35 times as fast
    as a loop over the ends, for the 49,152 values of a table of AFM-on-device's.
    """
    lengths = high - low + 1
    first = np.cumsum(lengths) - lengths
    starts = np.arange(lengths.sum()) + np.repeat(low - first, lengths)
    costs = D[starts] + sums.cost(starts, np.repeat(ends, lengths))
    least = np.repeat(np.minimum.reduceat(costs, first), lengths)
    return np.minimum.reduceat(np.where(costs == least, starts, len(D)), first)


def fast(values, k: int, weights=None) -> np.ndarray:
    """Return k centres near the optimum, ascending, in float64: [k]. Within 1e-4 of its
    error for 16 centres.

    Dynamic programming over few places to cut at finds the right basin, which Lloyd's
    iteration from quantiles or random centres often misses. Then all cuts move together,
    again by dynamic programming, each to one of the places around it, until none moves,
    among ever closer places: Lloyd's iteration creeps there for a hundred rounds. A hundred
    times as fast as `exact` for 49,152 values; equal to it if few values differ.

    Source: Wu 1991 over a subset of cuts [standard]; the places and the moves [ours].
    Test: tests/quantization/test_quantizers.py::test_fast_is_near_the_optimum
    """
    values, weights = _checked(values, k, weights)
    if weights is None:
        v, w = np.sort(values), None
    else:
        order = np.argsort(values, kind="stable")
        v, w = values[order], weights[order]
    # where a new value begins: the only places that may be cut
    starts = np.flatnonzero(v[1:] != v[:-1]) + 1
    if k == 1 or len(starts) < 8 * max(PARTS, k):
        return exact(values, k, weights)
    sums = PrefixSums(v, w)
    few, more = _places(v, max(PARTS, 4 * k))
    cuts = _moved(sums, _cuts_among(sums, few, k), more, FAR)
    for stride in (len(starts) // 2048, len(starts) // 8192):
        cuts = _moved(sums, cuts, starts, stride * NEAR, 1)
    return sums.means(_moved(sums, cuts, starts, NEAR, MOST_ROUNDS))


def _places(v, parts):
    """Return (places to cut sorted values at, between `parts` parts; those and three times
    as many between them).

    Every gap between neighbours weighs its length to the power 2/3, and parts weigh the
    same. Where values have the density f, gaps are as 1/f, and so places have the density
    f^(1/3), as the cuts of the best palette have (Panter and Dite 1951); and a value that
    stands alone has its own. Half of the places are spread over all gaps alike, lest an
    outlier draw all.
    """
    gaps = v[1:] - v[:-1]
    weight = gaps ** gaps.dtype.type(2 / 3)
    weight += weight.mean() * (gaps > 0)
    weight = np.cumsum(weight, dtype=np.float64)
    levels = np.linspace(0, weight[-1], 4 * parts + 1)[1:-1]
    places = np.searchsorted(weight, levels) + 1
    return np.unique(places[3::4]), np.unique(places)


def _cuts_among(sums, places, k):
    """Return the k+1 ends of the k best runs that are cut at ascending places alone."""
    n = len(sums.v)
    path = _cheapest_path(
        sums.cost(0, places),
        [sums.cost(places[:, None], places)] * (k - 2),
        sums.cost(places, n),
    )
    return np.array([0, *places[path], n])


def _moved(sums, cuts, places, offsets, most_rounds=2):
    """Return the cuts after each has moved by one of the offsets, counted in places, until
    none moves.
    """
    n = len(sums.v)
    for _ in range(most_rounds):
        near = np.searchsorted(places, cuts[1:-1])[:, None] + offsets
        near = places[np.clip(near, 0, len(places) - 1)]  # [cut, place]
        steps = sums.cost(near[:-1, :, None], near[1:, None, :])
        path = _cheapest_path(sums.cost(0, near[0]), steps, sums.cost(near[-1], n))
        before, cuts = cuts, np.array([0, *near[np.arange(len(path)), path], n])
        if (cuts == before).all():
            break
    return cuts


def _cheapest_path(first, steps, last):
    """Return the place taken at each stage: i at the first costs first[i], going on to j
    step[i, j], ending last[i].
    """
    costs = [first]  # of the cheapest way to every place of a stage
    for step in steps:
        costs.append((costs[-1][:, None] + step).min(axis=0))
    path = [int(np.argmin(costs[-1] + last))]
    for cost, step in zip(costs[-2::-1], steps[::-1]):
        path.append(int(np.argmin(cost + step[:, path[-1]])))
    return path[::-1]


def nearest(values, centres) -> np.ndarray:
    """Return the index of the nearest of ascending centres for every value, as uint8; a tie
    goes to the lower one.

    Source: textbook [standard].
    Test: tests/quantization/test_quantizers.py::test_nearest_is_the_argmin
    """
    bounds = ((centres[1:] + centres[:-1]) / 2).astype(values.dtype)
    codes = np.zeros(values.shape, np.uint8)
    # 15 comparisons at full vector width are faster than a binary search each
    for bound in bounds:
        codes += values > bound
    return codes


class PrefixSums:
    """Costs and means of the runs [start, end) of sorted values, from prefix sums in
    float64.

    The values are shifted to mean zero, for differences lose the digits that a common
    offset takes.
    """

    def __init__(self, v, w=None):
        self.v = v
        self.shift = float(np.mean(v, dtype=np.float64))
        centred = np.subtract(v, self.shift, dtype=np.float64)
        w = np.ones(len(v)) if w is None else w
        self.count, self.first = (
            np.append(0.0, np.cumsum(each)) for each in (w, centred * w)
        )

    def cost(self, start, end):
        """Return the squared error of the runs [start, end) less their sum of squares;
        infinite for an empty one.
        """
        count = self.count[end] - self.count[start]
        total = self.first[end] - self.first[start]
        return np.where(count > 0, -total * total / np.where(count > 0, count, 1), np.inf)

    def means(self, cuts):
        """Return the mean of every run between neighbouring cuts; of an empty one, its
        first value.
        """
        count, total = np.diff(self.count[cuts]), np.diff(self.first[cuts])
        alone = self.v[np.minimum(cuts[:-1], len(self.v) - 1)].astype(np.float64)
        return np.where(
            count > 0, total / np.where(count > 0, count, 1) + self.shift, alone
        )


def _checked(values, k, weights):
    """Return flat floats and their weights, or say what is wrong with them."""
    values = floats(values).ravel()
    if isinstance(k, bool) or k < 1:
        raise ValueError(f"k-means needs at least one centre, got k={k!r}")
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(
            f"{len(values)} values, all of which must be finite, at least one: k-means cannot use them"
        )
    if weights is None:
        return values, None
    weights = np.asarray(weights, np.float64).ravel()
    fits = len(weights) == len(values)
    if not (fits and weights.min() >= 0 and 0 < weights.max() < np.inf):
        raise ValueError(
            f"weights must be {len(values)} finite numbers of at least 0, one for each value, not all zero"
        )
    keep = weights > 0  # a value without weight moves no centre
    return values[keep], weights[keep]


def floats(values) -> np.ndarray:
    """Return an array in float64 if it is in that, else in float32."""
    values = np.asarray(values)
    kept = np.float64 if values.dtype == np.float64 else np.float32
    return values.astype(kept, copy=False)

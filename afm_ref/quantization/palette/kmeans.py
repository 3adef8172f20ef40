"""K-means in one dimension, where the optimum can be found: clusters of sorted numbers are runs of neighbours.

    exact    the optimum, by dynamic programming over all positions of the cuts
    fast     the optimum among some 200 places to cut at, then among ever closer ones: within 1e-4 for 16 centres

Both minimise the weighted squared error

    sum_i w_i (v_i - c(i))^2          c(i): the centre of v_i's cluster, the weighted mean of its members

and work on prefix sums: with W, V and S the sums of w, w v and w v^2 over a run, it costs S - V^2 / W. The S of all
runs add up to the same however they are cut, so that -V^2 / W is what is minimised.
"""

import numpy as np

PLACES = 128  # where the fast mode may cut at first; four times as many, then more, around the cuts found
FAR, NEAR = np.arange(-10, 11), np.arange(-6, 7)  # how many places a cut may move, among those and later
MOST_ROUNDS = 12


def exact(values, k: int, weights=None) -> np.ndarray:
    """Return the k centres of least squared error, ascending, in float64: [k].

        D_k(j) = min over i <= j of D_{k-1}(i - 1) + cost(i .. j)

    The best cut i never moves left as j grows (the cost is a Monge array), so every D_k takes O(n log n) by divide and
    conquer. Equal values are one value of their summed weight. If there are at most k distinct values they are the
    centres and the last one is repeated: the error is zero.

    Source: Wu 1991; Gronlund et al. 2017, k-means in one dimension [standard].
    Test: tests/quantization/test_kmeans.py::test_exact_is_the_best_of_all_partitions
    """
    values, weights = _checked(values, k, weights)
    v, w = _distinct(values, weights)
    if len(v) <= k:
        return _padded(v, k)
    runs = Runs(v, w)
    ends = np.arange(len(v))
    best = runs.cost(0, ends + 1)
    choices = []
    for _ in range(k - 1):
        best, choice = _cheapest_cuts(runs, best)
        choices.append(choice)
    cuts = [len(v)]
    for choice in reversed(choices):
        cuts.append(choice[cuts[-1] - 1])
    return runs.means(np.array([0, *cuts[::-1]]))


def fast(values, k: int, weights=None) -> np.ndarray:
    """Return k centres near the optimum, ascending, in float64: [k].

    Dynamic programming over few places to cut at finds the right basin, which Lloyd's iteration from quantiles or
    random centres often misses. Then all cuts move together, again by dynamic programming, each to one of the places
    around it, until none moves, among ever closer places: Lloyd's iteration creeps there for a hundred rounds. Equal
    to `exact` if few values differ.

    Source: Wu 1991 over a subset of cuts [standard]; the places and the moves [ours].
    Test: tests/quantization/test_kmeans.py::test_fast_is_near_the_optimum
    """
    return finish(prepare(values, k, weights), k)


def prepare(values, k: int, weights=None):
    """Return the first half of `fast`: the values sorted, their running sums, places to cut at; or centres, if few.

    NumPy calls over all values, in which other threads can run. `finish` makes short ones, which gain nothing from it.
    """
    values, weights = _checked(values, k, weights)
    if weights is None:
        v, w = np.sort(values), None
    else:
        order = np.argsort(values, kind="stable")
        v, w = values[order], weights[order]
    starts = np.flatnonzero(v[1:] != v[:-1]) + 1  # where a new value begins: the only places that may be cut
    if len(starts) < k:
        return _padded(v[np.concatenate([[0], starts])].astype(np.float64), k)
    if k == 1 or len(starts) < 8 * max(PLACES, k):
        return exact(values, k, weights)
    return Runs(v, w), starts, *_places(v, max(PLACES, 4 * k))


def finish(prepared, k: int) -> np.ndarray:
    """Return the k centres, from what `prepare` returned."""
    if isinstance(prepared, np.ndarray):
        return prepared
    runs, starts, few, more = prepared
    cuts = _moved(runs, _cuts_among(runs, few, k), more, FAR)
    for stride in (len(starts) // 2048, len(starts) // 8192):
        cuts = _moved(runs, cuts, starts, stride * NEAR, 1)
    return runs.means(_moved(runs, cuts, starts, NEAR, MOST_ROUNDS))


def nearest(values, centres) -> np.ndarray:
    """Return the index of the nearest of ascending centres for every value, as uint8; a tie goes to the lower one.

    Source: textbook [standard].
    Test: tests/quantization/test_kmeans.py::test_nearest_is_the_argmin
    """
    bounds = ((centres[1:] + centres[:-1]) / 2).astype(values.dtype)
    codes = np.zeros(values.shape, np.uint8)
    for bound in bounds:  # 15 comparisons at full vector width are faster than a binary search each
        codes += values > bound
    return codes


class Runs:
    """Costs and means of the runs [start, end) of sorted values, from prefix sums in float64.

    The values are shifted to mean zero, for differences lose the digits that a common offset takes.
    """

    def __init__(self, v, w=None):
        self.v = v
        self.shift = float(np.mean(v, dtype=np.float64))
        centred = np.subtract(v, self.shift, dtype=np.float64)
        self.count = np.arange(len(v) + 1, dtype=np.float64) if w is None else _prefix(w)
        self.first = _prefix(centred if w is None else centred * w)

    def cost(self, start, end):
        """Return the squared error of the runs [start, end) less their sum of squares; infinite for an empty one."""
        count = self.count[end] - self.count[start]
        total = self.first[end] - self.first[start]
        return np.where(count > 0, -total * total / np.where(count > 0, count, 1), np.inf)

    def means(self, cuts):
        """Return the mean of every run between neighbouring cuts; of an empty one, its first value."""
        count, total = np.diff(self.count[cuts]), np.diff(self.first[cuts])
        alone = self.v[np.minimum(cuts[:-1], len(self.v) - 1)].astype(np.float64)
        return np.where(count > 0, total / np.where(count > 0, count, 1) + self.shift, alone)


def _prefix(x):
    out = np.zeros(len(x) + 1)
    np.cumsum(x, out=out[1:])
    return out


def _checked(values, k, weights):
    """Return flat floats and their weights, or say what is wrong with them."""
    values = np.asarray(values)
    values = values.astype(np.float64 if values.dtype == np.float64 else np.float32, copy=False).ravel()
    if isinstance(k, bool) or k < 1:
        raise ValueError(f"k-means needs at least one centre, got k={k!r}")
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(f"{len(values)} values, all of which must be finite, at least one: k-means cannot use them")
    if weights is None:
        return values, None
    weights = np.asarray(weights, np.float64).ravel()
    if len(weights) != len(values) or not np.isfinite(weights).all() or weights.min() < 0 or not weights.any():
        raise ValueError(
            f"weights must be {len(values)} finite numbers of at least 0, one for each value, not all zero"
        )
    keep = weights > 0  # a value without weight moves no centre
    return values[keep], weights[keep]


def _distinct(values, weights):
    v, inverse = np.unique(values, return_inverse=True)
    return v.astype(np.float64), np.bincount(inverse, weights, len(v)).astype(np.float64)


def _padded(centres, k):
    return np.concatenate([centres, np.full(k - len(centres), centres[-1])])


def _cheapest_cuts(runs, best):
    """Return (cost, start of the last run) of the best way to add one run, for every last element.

    best[j]: the cost of 0 .. j with one run fewer. All middles of one level of the recursion are done at once.
    """
    n = len(best)
    before = np.concatenate([[0.0], best])  # before[i]: the cost of everything in front of i
    cost, choice = np.empty(n), np.full(n + 1, n - 1)
    step = 1 << max(n - 1, 1).bit_length()
    while step >= 1:
        ends = np.arange(step - 1, n, 2 * step)  # their neighbours at +-step are done, except past the two ends
        if len(ends):
            low = np.where(ends >= step, choice[np.maximum(ends - step, 0)], 0)
            high = np.minimum(choice[np.minimum(ends + step, n)], ends)
            cost[ends], choice[ends] = _least(runs, before, ends, low, high)
        step //= 2
    return cost, choice[:n]


def _least(runs, before, ends, low, high):
    """Return (least cost, its start) over the starts low .. high of each end."""
    lengths = high - low + 1
    offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    starts = np.arange(lengths.sum()) - np.repeat(offsets - low, lengths)
    costs = before[starts] + runs.cost(starts, np.repeat(ends + 1, lengths))
    least = np.minimum.reduceat(costs, offsets)
    first = np.where(costs == np.repeat(least, lengths), starts, len(before))
    return least, np.minimum.reduceat(first, offsets)


def _places(v, count):
    """Return (about `count` places to cut sorted values at, those and three times as many between them).

    Every gap between neighbours weighs its length to the power 2/3. Where values have the density f, gaps are as 1/f,
    and so places have the density f^(1/3), as the cuts of the best palette have (Panter and Dite 1951); and a value
    that stands alone has its own. Half of the places are spread over all gaps alike, lest an outlier draw all of them.
    """
    gaps = v[1:] - v[:-1]
    weight = gaps ** gaps.dtype.type(2 / 3)
    weight += weight.mean() * (gaps > 0)
    weight = np.cumsum(weight, dtype=np.float64)
    levels = np.linspace(0, weight[-1], 4 * count + 1)[1:-1]
    places = np.searchsorted(weight, levels) + 1
    return np.unique(places[3::4]), np.unique(places)


def _cuts_among(runs, places, k):
    """Return the k+1 ends of the k best runs that are cut at ascending places alone."""
    n = len(runs.v)
    path = _cheapest_path(runs.cost(0, places), [runs.cost(places[:, None], places)] * (k - 2), runs.cost(places, n))
    return np.array([0, *places[path], n])


def _moved(runs, cuts, places, offsets, most_rounds=2):
    """Return the cuts after each has moved by one of the offsets, counted in places, until none moves."""
    n = len(runs.v)
    for _ in range(most_rounds):
        near = np.searchsorted(places, cuts[1:-1])[:, None] + offsets
        near = places[np.clip(near, 0, len(places) - 1)]  # [cut, place]
        steps = runs.cost(near[:-1, :, None], near[1:, None, :])
        path = _cheapest_path(runs.cost(0, near[0]), steps, runs.cost(near[-1], n))
        before, cuts = cuts, np.array([0, *near[np.arange(len(path)), path], n])
        if (cuts == before).all():
            break
    return cuts


def _cheapest_path(first, steps, last):
    """Return the place taken at each stage: i at the first costs first[i], going on to j step[i, j], ending last[i]."""
    costs = [first]  # of the cheapest way to every place of a stage
    for step in steps:
        costs.append((costs[-1][:, None] + step).min(axis=0))
    path = [int(np.argmin(costs[-1] + last))]
    for cost, step in zip(costs[-2::-1], steps[::-1]):
        path.append(int(np.argmin(cost + step[:, path[-1]])))
    return path[::-1]

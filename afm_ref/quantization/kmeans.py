"""K-means in one dimension, where the optimum can be found: clusters of sorted numbers are runs of neighbours.

    exact    the optimum, by dynamic programming over all positions of the cuts
    fast     the optimum among some 250 candidate cuts, then among those around it: within 1e-4 of it in practice

Both minimise the weighted squared error

    sum_i w_i (v_i - c(i))^2          c(i): the centre of v_i's cluster, the weighted mean of its members

and work on prefix sums: with W, V and S the running sums of w, w v and w v^2, a run costs S - V^2 / W.
"""

import numpy as np

CANDIDATES = 256  # positions where the fast mode may cut
MOST_ROUNDS = 100


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
    best = runs.cost(np.zeros_like(ends), ends)
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

    Dynamic programming over candidate cuts finds the right basin, which Lloyd's iteration from quantiles or random
    centres often misses, and Lloyd's iteration moves down in it. Both once more, with candidates around the cuts
    found: a centre for three outliers stops Lloyd's early. Equal to `exact` if at most k values differ.

    Source: Wu 1991 over a subset of cuts; Lloyd 1982 [standard].
    Test: tests/quantization/test_kmeans.py::test_fast_is_near_the_optimum
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
    if len(starts) < 4 * CANDIDATES:
        return exact(values, k, weights)
    runs = Runs(v, w)
    cuts = _lloyd(runs, _cuts_among(runs, _coarse(v, starts, k), k))
    return runs.means(_lloyd(runs, _cuts_among(runs, _around(starts, cuts, k), k)))


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

    The values are shifted to mean zero, for the difference S - V^2 / W loses the digits that a common offset takes.
    """

    def __init__(self, v, w=None):
        self.v = v
        self.shift = float(np.mean(v, dtype=np.float64))
        centred = v.astype(np.float64) - self.shift
        weighted = centred if w is None else centred * w
        self.count = np.arange(len(v) + 1, dtype=np.float64) if w is None else _prefix(w)
        self.first, self.second = _prefix(weighted), _prefix(weighted * centred)

    def cost(self, start, last):
        """Return the squared error of the runs from start to last, inclusive."""
        return self.between(start, last + 1)

    def between(self, start, end):
        """Return the squared error of the runs [start, end); zero for an empty one."""
        count = self.count[end] - self.count[start]
        total = self.first[end] - self.first[start]
        return self.second[end] - self.second[start] - total * total / np.where(count > 0, count, 1)

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
    costs = before[starts] + runs.cost(starts, np.repeat(ends, lengths))
    least = np.minimum.reduceat(costs, offsets)
    first = np.where(costs == np.repeat(least, lengths), starts, len(before))
    return least, np.minimum.reduceat(first, offsets)


def _coarse(v, starts, k):
    """Return about CANDIDATES positions to cut at: equal in count for the bulk, in value and ever rarer for the tails."""
    n, third = len(starts), CANDIDATES // 3
    counts = np.linspace(0, n - 1, max(third, k + 1))
    steps = np.searchsorted(v, np.linspace(v[0], v[-1], third + 2, dtype=v.dtype)[1:-1])
    steps = np.minimum(np.searchsorted(starts, steps), n - 1)
    tail = np.geomspace(1, n / 2, third // 2) - 1  # the outermost, each of which may deserve a centre of its own
    return starts[np.unique(np.concatenate([counts, steps, tail, n - 1 - tail]).astype(np.int64))]


def _around(starts, cuts, k):
    """Return positions to cut at that lie around the given cuts, close ones first and up to a quarter of a run away."""
    n = len(starts)
    near = np.geomspace(1, max(2, n / (4 * k)), 8).astype(np.int64)
    at = np.searchsorted(starts, cuts[1:-1])[:, None] + np.concatenate([-near, [0], near])
    spread = np.linspace(0, n - 1, k + 1).astype(np.int64)  # enough places to cut, whatever the clipping leaves
    return starts[np.unique(np.concatenate([np.clip(at, 0, n - 1).ravel(), spread]))]


def _cuts_among(runs, candidates, k):
    """Return the k+1 ends of the best runs that are cut at candidates alone."""
    at = np.concatenate([[0], candidates, [len(runs.v)]])
    costs = np.where(at[:, None] < at, runs.between(at[:, None], at), np.inf)  # [from, to]
    tables = [costs[0]]
    for _ in range(k - 2):
        tables.append((tables[-1][:, None] + costs).min(axis=0))
    cuts = [len(at) - 1]
    for table in reversed(tables):
        cuts.append(int(np.argmin(table + costs[:, cuts[-1]])))
    return at[[0, *cuts[::-1]]] if k > 1 else at[[0, -1]]


def _lloyd(runs, cuts):
    """Return the cuts after moving them to the middles between means until none moves."""
    for _ in range(MOST_ROUNDS):
        means = runs.means(cuts)
        middles = ((means[1:] + means[:-1]) / 2).astype(runs.v.dtype)
        new = np.concatenate([[0], np.searchsorted(runs.v, middles, side="right"), [len(runs.v)]])
        if (new == cuts).all():
            break
        cuts = new
    return cuts

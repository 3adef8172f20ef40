"""How many bits each matrix gets: the least summed loss within an average of bits a weight.

allocate     the optimum
lagrangian   the best at one price for a bit, the same for all matrices; `lower_bound` comes with it
greedy       from the fewest bits up, always the step that saves the most loss for its bits

costs {(matrix, layer): {bits: loss}} are those of `sensitivity`, taken to add up: what a matrix costs is assumed not
to depend on the others. weights {(matrix, layer): count} are those of `weight_counts`, or the sizes of the arrays.
Averages count code bits per projection weight, `projection_bits` of `sizes`.
"""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from ...config import AFMConfig, matrix_shapes

MOST_POINTS = 2**16
BISECTIONS = 100


class Point(NamedTuple):
    """One point of the frontier: the average that its bits have, their summed loss, and the bits."""

    average_bits: float
    loss: float
    bits: dict


def weight_counts(cfg: AFMConfig) -> dict:
    """Return the number of weights of every matrix of every layer: {("wq", 0): N H D, ...}.

    Source: TR24 Table 1 (AXLearn honeycrisp-3B for F) [inferred].
    Test: tests/quantization/test_allocation.py::test_weight_counts_are_the_sizes_of_real_arrays
    """
    counts = {name: math.prod(shape) for name, shape in matrix_shapes(cfg).items()}
    return {(name, i): count for i in range(cfg.n_layers) for name, count in counts.items()}


def allocate(
    costs: Mapping,
    weights: Mapping,
    average_bits: float,
    fixed: Mapping | None = None,
    within: float | None = None,
    most_points: int = MOST_POINTS,
) -> dict:
    """Return the bits of every matrix, {(matrix, layer): bits}, of least summed loss within the average.

        minimise sum_k cost_k(b_k)   with   sum_k b_k n_k <= average_bits sum_k n_k

    A knapsack with one choice from each group, solved by dynamic programming over the matrices: of all assignments to
    the first k matrices, those are kept to which no smaller one is as good. Their sizes are multiples of the greatest
    common divisor of the steps b n, so they are few: some 6,600 for AFM-on-device's 182 matrices at 2 or 4 bits.

    Exact as long as at most `most_points` are kept. With counts that share no divisor there may be more; then one is
    kept for each of `most_points` equal steps of size. Each matrix can lose one step by that, so the result is still
    never worse than the optimum of an average smaller by K (most - least) / most_points, K matrices and most, least
    the averages at all their most and fewest bits: 0.006 for 182 matrices at 2 or 4 bits. `lower_bound` tells how far
    any result can be from the optimum.

    The optimum can lie well below the average where the bits left over buy nothing: in AFM_TINY one step of the
    smallest matrix is 0.014 bits. `within` asks for the best that is not further below than that, at a higher loss.

    fixed: {(matrix, layer): bits} set by hand, among those in costs. More bits than the most are no error.
    Raises ValueError for an average below what the fewest bits take, one that nothing comes `within`, and for costs,
    weights or fixed that do not fit together.

    Source: BLOG24, TR24 section 5 (mixed 2 and 4 bits, 3.5 to 3.7 on average) [confirmed]; Nemhauser and Ullmann 1969
    (lists of undominated states) [standard]; their use here [ours].
    Test: tests/quantization/test_allocation.py::test_no_assignment_is_better
    """
    problem = _Problem(costs, weights, fixed)
    budget = problem.budget(average_bits)
    if within is None:
        return _Front(problem, most_points).read(budget)
    floor = min((average_bits - within) * problem.total * (1 - 1e-12), problem.most)
    return _Front(problem, most_points, dominated=True).read(budget, floor)


def frontier(costs: Mapping, weights: Mapping, averages: Iterable[float], fixed: Mapping | None = None) -> list[Point]:
    """Return the optimum for each average, from one run of the dynamic programming.

    Source: as `allocate` [ours].
    Test: tests/quantization/test_allocation.py::test_the_frontier_is_that_of_single_allocations_and_falls
    """
    problem = _Problem(costs, weights, fixed)
    front = _Front(problem)
    return [problem.point(front.read(problem.budget(average))) for average in averages]


def greedy(costs: Mapping, weights: Mapping, average_bits: float, fixed: Mapping | None = None) -> dict:
    """Return bits found from the fewest up: take the step of the most loss saved per bit that still fits, repeat.

    A step too large for what is left is passed over for one that fits; no step is ever taken back.

    Source: Dantzig 1957 (greedy for the knapsack) [standard].
    Test: tests/quantization/test_allocation.py::test_no_assignment_is_better
    """
    problem = _Problem(costs, weights, fixed)
    at = dict.fromkeys(problem.options, 0)
    left = problem.budget(average_bits) - problem.least
    while True:
        best = (0.0, None, 0, 0)
        for key, i in at.items():
            _, size, cost = problem.options[key][i]
            for j, (_, other_size, other_cost) in enumerate(problem.options[key][i + 1 :], i + 1):
                rate = (cost - other_cost) / (other_size - size)
                if other_size - size <= left and rate > best[0]:
                    best = (rate, key, j, other_size - size)
        _, key, j, step = best
        if key is None:
            return {key: problem.options[key][i][0] for key, i in at.items()}
        at[key], left = j, left - step


def lagrangian(costs: Mapping, weights: Mapping, average_bits: float, fixed: Mapping | None = None) -> dict:
    """Return the bits that each matrix chooses by itself at the lowest price for a bit that keeps the average.

        b_k = argmin_b cost_k(b) + price b n_k

    Optimal for the average that it reaches; what is left of the budget, where no price uses it up, stays unused.
    Matrices with the same gain per bit go up together or not at all.

    Source: Everett 1963; Shoham and Gersho 1988 (rate allocation) [standard].
    Test: tests/quantization/test_allocation.py::test_no_assignment_is_better
    """
    problem = _Problem(costs, weights, fixed)
    return problem.chosen(problem.price(problem.budget(average_bits)))


def lower_bound(costs: Mapping, weights: Mapping, average_bits: float, fixed: Mapping | None = None) -> float:
    """Return a loss that no assignment within the average can go below: the Lagrangian's dual at its best price.

        max over price >= 0 of   sum_k min_b (cost_k(b) + price b n_k) - price budget

    Source: Everett 1963 (weak duality) [standard].
    Test: tests/quantization/test_allocation.py::test_no_assignment_is_better
    """
    problem = _Problem(costs, weights, fixed)
    budget = problem.budget(average_bits)
    price = problem.price(budget)
    cheapest = sum(min(cost + price * size for _, size, cost in options) for options in problem.options.values())
    return cheapest - price * budget


class _Problem:
    """Checked options, {key: [(bits, size in bits, cost), ...] with ascending bits}."""

    def __init__(self, costs, weights, fixed):
        fixed = fixed or {}
        if not costs or set(costs) != set(weights):
            raise ValueError(
                "costs and weights must name the same matrices, at least one; "
                f"different: {sorted(set(costs) ^ set(weights))[:4]}"
            )
        if unknown := sorted(set(fixed) - set(costs)):
            raise ValueError(f"fixed names {unknown[:4]}, which costs do not have")
        self.counts = {key: int(n) for key, n in weights.items()}
        self.total = sum(self.counts.values())
        self.options = {key: _options(key, costs[key], self.counts[key], fixed.get(key)) for key in costs}
        self.least = sum(options[0][1] for options in self.options.values())
        self.most = sum(options[-1][1] for options in self.options.values())

    def budget(self, average_bits):
        """Return the code bits of an average, or say that they do not suffice."""
        least = self.least / self.total
        if not average_bits >= least * (1 - 1e-12):  # averages such as 3.7 are not exact in binary
            raise ValueError(
                f"an average of {average_bits} bits is impossible: the fewest bits of all matrices take {least:.4g} on "
                "average. Ask for that or more, offer fewer bits in costs, or fix fewer matrices"
            )
        return max(self.least, math.floor(min(average_bits * self.total * (1 + 1e-12), self.most)))

    def size(self, bits):
        """Return the code bits that an assignment takes."""
        return sum(b * self.counts[key] for key, b in bits.items())

    def point(self, bits):
        """Return the average and the loss of an assignment with it."""
        loss = sum(cost for key, options in self.options.items() for b, _, cost in options if b == bits[key])
        return Point(self.size(bits) / self.total, loss, bits)

    def chosen(self, price):
        """Return every matrix's own choice at a price for a bit; a tie goes to the fewer bits."""
        return {
            key: min(options, key=lambda option: (option[2] + price * option[1], option[1]))[0]
            for key, options in self.options.items()
        }

    def price(self, budget):
        """Return the lowest price, to 30 digits of the highest, at which the choices fit the budget."""

        def fits(price):
            return self.size(self.chosen(price)) <= budget

        if fits(0.0):
            return 0.0
        pairs = [(a, b) for options in self.options.values() for a in options for b in options if a[1] < b[1]]
        low, high = 0.0, 2 * max((a[2] - b[2]) / (b[1] - a[1]) for a, b in pairs)  # at which no step up pays
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            low, high = (low, middle) if fits(middle) else (middle, high)
        return high


def _options(key, costs, n, fixed):
    if n < 1:
        raise ValueError(f"{key} has {n} weights; at least one is expected")
    if not costs or not all(math.isfinite(cost) for cost in costs.values()):
        raise ValueError(f"{key} needs a finite cost for at least one width, got {dict(costs)}")
    if fixed is not None and fixed not in costs:
        raise ValueError(f"{key} is fixed at {fixed} bits, but costs know {sorted(costs)} for it")
    return [(b, b * n, float(costs[b])) for b in sorted(costs) if fixed in (None, b)]


class _Front:
    """All undominated assignments, or (dominated) the best of every size: size, cost, and how each came about."""

    def __init__(self, problem, most_points=MOST_POINTS, dominated=False):
        self.problem, self.trail = problem, []
        size, cost = np.zeros(1, np.int64), np.zeros(1)
        width = (problem.most - problem.least) / most_points
        for options in problem.options.values():
            sizes = np.concatenate([size + step for _, step, _ in options])
            costs = np.concatenate([cost + more for _, _, more in options])
            keep = _best_of_each_size(sizes, costs) if dominated else _undominated(sizes, costs)
            if len(keep) > most_points:
                keep = _thinned(sizes, costs, keep, width)
            self.trail.append((keep // len(size), keep % len(size)))  # (option, the assignment that it extends)
            size, cost = sizes[keep], costs[keep]
        self.size, self.cost = size, cost  # sizes ascend

    def read(self, budget, floor=0):
        """Return the bits of the cheapest assignment with floor <= size <= budget."""
        start, end = np.searchsorted(self.size, floor), np.searchsorted(self.size, budget, side="right")
        if start == end:
            total = self.problem.total
            raise ValueError(
                f"no assignment comes so near: {floor / total:.4f} bits on average are the least allowed, and the next "
                f"below what is asked for has {self.size[end - 1] / total:.4f}: allow more with `within`"
            )
        at, bits = int(start + np.argmin(self.cost[start:end])), {}
        for (key, options), (option, before) in reversed([*zip(self.problem.options.items(), self.trail)]):
            bits[key] = options[option[at]][0]
            at = before[at]
        return {key: bits[key] for key in self.problem.options}


def _undominated(sizes, costs):
    """Return the indices, by ascending size, of those to which none of at most their size is as good."""
    order = np.lexsort((costs, sizes))
    cheapest = np.minimum.accumulate(costs[order])
    return order[np.append(True, costs[order][1:] < cheapest[:-1])]


def _best_of_each_size(sizes, costs):
    """Return the indices of the cheapest of every size, by ascending size."""
    order = np.lexsort((costs, sizes))
    return order[np.append(True, np.diff(sizes[order]) > 0)]


def _thinned(sizes, costs, keep, width):
    """Return those to keep that are the cheapest of a step of size, and the smallest of all, by ascending size."""
    steps = ((sizes[keep] - sizes[keep[0]]) / width).astype(np.int64)
    best = _best_of_each_size(steps, costs[keep])
    return keep[best] if best[0] == 0 else keep[np.append(0, best)]

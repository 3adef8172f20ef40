"""How many bits each matrix gets: the least summed loss within an average of bits a weight.

allocate     the optimum
lagrangian   the best at one price for a bit, the same for all matrices; `lower_bound` comes with it
greedy       from the fewest bits up, always the step that saves the most loss for its bits

costs {(matrix, layer): {bits: loss}} are those of `sensitivity`, taken to add up: what a
matrix costs is assumed not to depend on the others. weights {(matrix, layer): count} are
those of `weight_counts`, or the sizes of the arrays. fixed {(matrix, layer): bits} are set
by hand. Averages count code bits per projection weight, `projection_bits` of `sizes`.

All raise ValueError for an average below what the fewest bits take, and for costs, weights
or fixed that do not fit together. More bits than the most are no error.
"""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from ...config import AFMConfig, matrix_shapes

BISECTIONS = 100


class Point(NamedTuple):
    """One point of the frontier: the average that its bits have, their summed loss, and the
    bits.
    """

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
) -> dict:
    """Return the bits of every matrix, {(matrix, layer): bits}, of least summed loss within
    the average.

        minimise sum_k cost_k(b_k)   with   sum_k b_k n_k <= average_bits sum_k n_k

    A knapsack with one choice from each group. Its optimum can lie well below the average
    where the bits left over buy nothing: in AFM_TINY one step of the smallest matrix is
    0.014 bits. within: the best that is not further below than that, at a higher loss;
    ValueError if no assignment is.

    Source: BLOG24, TR24 section 5 (mixed 2 and 4 bits, 3.5 to 3.7 on average) [confirmed];
        dynamic programming, Bellman 1957 [standard]; its use here [ours].
    Test: tests/quantization/test_allocation.py::test_no_assignment_is_better
    """
    problem = _Problem(costs, weights, fixed)
    budget = problem.budget(average_bits)
    least = 0
    if within is not None:
        least = min((average_bits - within) * problem.total * (1 - 1e-12), problem.most)
    return _Knapsack(problem).best(budget, least)


def frontier(
    costs: Mapping,
    weights: Mapping,
    averages: Iterable[float],
    fixed: Mapping | None = None,
) -> list[Point]:
    """Return the optimum for each average, from one run of the dynamic programming."""
    problem = _Problem(costs, weights, fixed)
    knapsack = _Knapsack(problem)
    return [problem.point(knapsack.best(problem.budget(average))) for average in averages]


def greedy(costs: Mapping, weights: Mapping, average_bits: float) -> dict:
    """Return bits found from the fewest up: take the step of the most loss saved per bit
    that still fits, repeat.

    A step too large for what is left is passed over for one that fits; no step is ever
    taken back.

    Source: Dantzig 1957 (greedy for the knapsack) [standard].
    Test: tests/quantization/test_allocation.py::test_no_assignment_is_better
    """
    problem = _Problem(costs, weights)
    at = {key: options[0] for key, options in problem.options.items()}
    left = problem.budget(average_bits) - problem.least

    def rate(step):
        (_, size, cost), (_, larger, lower) = at[step[0]], step[1]
        return (cost - lower) / (larger - size)

    while True:
        up = [
            (key, new)
            for key, old in at.items()
            for new in problem.options[key]
            if 0 < new[1] - old[1] <= left and new[2] < old[2]
        ]
        if not up:
            return {key: bits for key, (bits, _, _) in at.items()}
        key, new = max(up, key=rate)
        left -= new[1] - at[key][1]
        at[key] = new


def lagrangian(costs: Mapping, weights: Mapping, average_bits: float) -> dict:
    """Return the bits that each matrix chooses by itself at the lowest price for a bit that
    keeps the average.

        b_k = argmin_b cost_k(b) + price b n_k

    Optimal for the average that it reaches; what is left of the budget, where no price uses
    it up, stays unused. Matrices with the same gain per bit go up together or not at all.

    Source: Everett 1963; Shoham and Gersho 1988 (rate allocation) [standard].
    Test: tests/quantization/test_allocation.py::test_no_assignment_is_better
    """
    problem = _Problem(costs, weights)
    return problem.chosen(problem.price(problem.budget(average_bits)))


def lower_bound(costs: Mapping, weights: Mapping, average_bits: float) -> float:
    """Return a loss that no assignment within the average can go below: the Lagrangian's
    dual at its best price.

        max over price >= 0 of   sum_k min_b (cost_k(b) + price b n_k) - price budget

    Source: Everett 1963 (weak duality) [standard].
    Test: tests/quantization/test_allocation.py::test_no_assignment_is_better
    """
    problem = _Problem(costs, weights)
    budget = problem.budget(average_bits)
    price = problem.price(budget)
    cheapest = sum(
        min(cost + price * size for _, size, cost in options)
        for options in problem.options.values()
    )
    return cheapest - price * budget


class _Problem:
    """Checked options, {key: [(bits, size in bits, cost), ...] with ascending bits}."""

    def __init__(self, costs, weights, fixed=None):
        fixed = fixed or {}
        if not costs or set(costs) != set(weights):
            raise ValueError(
                "costs and weights must name the same matrices, at least one; "
                f"different: {sorted(set(costs) ^ set(weights))[:4]}"
            )
        if unknown := sorted(set(fixed) - set(costs)):
            raise ValueError(f"fixed names {unknown[:4]}, which costs do not have")
        self.costs, self.counts, self.total = costs, weights, sum(weights.values())
        self.options = {
            key: _options(key, costs[key], weights[key], fixed.get(key)) for key in costs
        }
        self.least = sum(options[0][1] for options in self.options.values())
        self.most = sum(options[-1][1] for options in self.options.values())

    def budget(self, average_bits):
        """Return the code bits of an average, or say that they do not suffice."""
        least = self.least / self.total
        # averages such as 3.7 are not exact in binary
        if not average_bits >= least * (1 - 1e-12):
            raise ValueError(
                f"an average of {average_bits} bits is impossible: the fewest bits of all matrices take {least:.4g} on "
                "average. Ask for that or more, offer fewer bits in costs, or fix fewer matrices"
            )
        return max(
            self.least, math.floor(min(average_bits * self.total * (1 + 1e-12), self.most))
        )

    def size(self, bits):
        """Return the code bits that an assignment takes."""
        return sum(b * self.counts[key] for key, b in bits.items())

    def point(self, bits):
        """Return the average and the loss of an assignment with it."""
        loss = sum(float(self.costs[key][b]) for key, b in bits.items())
        return Point(self.size(bits) / self.total, loss, bits)

    def chosen(self, price):
        """Return every matrix's own choice at a price for a bit; a tie goes to the first,
        of the fewer bits.
        """
        return {
            key: min(options, key=lambda option: option[2] + price * option[1])[0]
            for key, options in self.options.items()
        }

    def price(self, budget):
        """Return the lowest price at which the choices fit the budget, to 30 digits of the
        largest difference of costs.
        """

        def fits(price):
            return self.size(self.chosen(price)) <= budget

        if fits(0.0):
            return 0.0
        costs = [[cost for _, _, cost in options] for options in self.options.values()]
        # at which no step up pays, of a weight and a bit at least
        low, high = 0.0, 2 * max(max(each) - min(each) for each in costs)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            low, high = (low, middle) if fits(middle) else (middle, high)
        return high


def _options(key, costs, n, fixed):
    if n < 1 or not costs or not all(math.isfinite(cost) for cost in costs.values()):
        raise ValueError(
            f"{key} needs a weight and a finite cost for at least one width, got {n} and {dict(costs)}"
        )
    if fixed is not None and fixed not in costs:
        raise ValueError(
            f"{key} is fixed at {fixed} bits, but costs know {sorted(costs)} for it"
        )
    return [(b, b * n, float(costs[b])) for b in sorted(costs) if fixed in (None, b)]


class _Knapsack:
    """The least loss at every size that all matrices together can have, and the choices
    that lead to it.

        D_k(s) = min over b of D_{k-1}(s - b n_k) + cost_k(b)

    Sizes s are counted from the least on, in units of the greatest common divisor of all
    steps from width to width: there are 6,579 for AFM-on-device's 182 matrices at 2 or 4
    bits.
    """

    def __init__(self, problem):
        self.options, self.first = problem.options, problem.least
        self.unit = (
            math.gcd(
                *(size - row[0][1] for row in self.options.values() for _, size, _ in row)
            )
            or 1
        )
        self.loss, self.choices = np.zeros(1), []
        for options in self.options.values():
            steps = [(size - options[0][1]) // self.unit for _, size, _ in options]
            table = np.full((len(options), len(self.loss) + steps[-1]), np.inf)  # [b, s]
            for row, step, (_, _, cost) in zip(table, steps, options):
                row[step : step + len(self.loss)] = self.loss + cost
            self.loss = table.min(axis=0)
            self.choices.append(table.argmin(axis=0))

    def best(self, budget, least=0):
        """Return the bits of the least loss with least <= size <= budget."""
        start = math.ceil(max(0, least - self.first) / self.unit)
        end = (budget - self.first) // self.unit + 1
        if not np.isfinite(self.loss[start:end]).any():
            raise ValueError(
                "no assignment comes so near below the average: allow more with `within`"
            )
        at, bits = start + int(np.argmin(self.loss[start:end])), {}
        for (key, options), choice in reversed([*zip(self.options.items(), self.choices)]):
            bits[key], size, _ = options[choice[at]]
            at -= (size - options[0][1]) // self.unit
        return {key: bits[key] for key in self.options}

"""Chapter 9's exercises: two centres, counted bits, packing, an allocation, rounding."""

import itertools

import numpy as np

from .registry import arrays, exercise

VALUES = arrays(
    ([1.0, 2, 6, 7, 8],),
    ([0.0, 0, 0, 10],),
    ([-3.0, 0, 1, 2, 3.5, 30],),
    ([4.0, 1, 3.9, 0.5],),
)


@exercise("9.1", "the best palette of two", "medium", 15, VALUES)
def two_centres(values):
    """Try every way to cut the sorted values in two."""
    v = np.sort(values)

    def centres(cut):
        return [side.mean() for side in np.split(v, [cut])]

    def error(cut):
        return sum(len(side) * side.var() for side in np.split(v, [cut]))

    middle = int(np.searchsorted(v, (v[0] + v[-1]) / 2, side="right"))
    half_way = "the better cut need not lie half way between the smallest and the largest"
    return centres(min(range(1, len(v)), key=error)), {
        "the better cut need not leave equally many values on both sides": centres(
            len(v) // 2
        ),
        half_way: centres(middle),
        "the best centre of a cluster is its mean": [v[0], v[-1]],
    }


MATRICES = ((32, 100, 4, 16), (3072, 3072, 4, 16), (40, 64, 2, 16), (8, 30, 3, 8))


@exercise("9.2", "bits that are really stored", "easy", 10, MATRICES)
def stored_bits(out_dim, in_dim, bits, rows_per_table):
    """Lay out the codes and the tables of every group of rows, and count."""
    rows = rows_per_table
    starts = range(0, out_dim, rows)
    groups = [np.zeros((min(rows, out_dim - start), in_dim)) for start in starts]
    codes, table = bits * sum(group.size for group in groups), 16 * 2**bits
    return codes + table * len(groups), {
        "the tables are stored too: 2^bits entries of 16 bits for every group of rows": codes,
        "every group of rows has a table of its own": codes + table,
        "a table has 2^bits entries, not `bits` of them": codes + 16 * bits * len(groups),
        "the last, smaller group of rows needs a table as well": codes
        + table * (out_dim // rows),
    }


CODES = arrays(([1, 2],), ([15, 0, 0, 15],), ([7, 8, 9, 10, 11, 12],))


@exercise("9.3", "two codes in a byte", "easy", 10, CODES)
def pack(codes):
    """Write every byte as eight binary digits, the first code's last."""
    pairs = list(zip(codes[::2], codes[1::2]))
    return [int(f"{second:04b}{first:04b}", 2) for first, second in pairs], {
        "the first code lies in the LOW half": [
            int(f"{a:04b}{b:04b}", 2) for a, b in pairs
        ],
        "move the second code up by four bits before adding": codes[::2] + codes[1::2],
    }


COSTS = arrays(
    ([1.0, 5.0, 2.0], [0.1, 0.5, 0.2], [100, 100, 100], 3.0),
    ([9.0, 6.0, 6.0], [0.0, 0.0, 0.0], [300, 150, 150], 3.0),
    ([4.0, 3.0, 2.5, 1.0], [3.5, 0.5, 0.2, 0.1], [50, 100, 100, 50], 3.4),
)


@exercise("9.4", "who gets four bits?", "hard", 20, COSTS)
def choose_bits(cost_at_2, cost_at_4, weights, average):
    """Try all assignments of 2 or 4 bits."""
    gain = cost_at_2 - cost_at_4

    def fits(bits):
        return np.dot(bits, weights) <= average * weights.sum() + 1e-9

    def cost(bits):
        return np.where(np.array(bits) == 4, cost_at_4, cost_at_2).sum(), bits

    def greedy(order):  # four bits in falling order while the budget lasts
        bits = [2] * len(weights)
        for i in np.argsort(-order):
            trial = [4 if j == i else b for j, b in enumerate(bits)]
            bits = trial if fits(trial) else bits
        return bits

    density = "the best gain per bit first may leave a gap in the budget: compare with all assignments"
    return list(
        min(filter(fits, itertools.product((2, 4), repeat=len(weights))), key=cost)
    ), {
        "what counts is how much the cost falls from 2 to 4 bits, and what that takes": greedy(
            cost_at_2
        ),
        "a large matrix takes more of the budget: weigh the gain against its size": greedy(
            gain
        ),
        density: greedy(gain / weights),
        "that is over the budget": [4] * len(weights),
    }


TWO_WEIGHTS = arrays(
    ([0.4, 0.3], [[1.0, 0.9], [0.9, 1.0]]),
    ([2.6, -1.2], [[2.0, -1.5], [-1.5, 3.0]]),
    ([1.45, 0.2], [[4.0, 1.0], [1.0, 1.0]]),
)


@exercise("9.5", "pass the error on", "medium", 15, TWO_WEIGHTS)
def round_two(w, h):
    """Round the first weight, then try whole numbers for the second."""
    first = np.round(w[0])

    def error(second):
        left = np.array([first, second]) - w
        return left @ h @ left

    passed = (w[0] - first) * h[0, 1] / h[1, 1]
    alone = (
        "the second weight can make up for the error of the first: their inputs go together"
    )
    lost = "the sign: what the first weight lost, the second must add"
    return [first, min(range(-20, 21), key=error)], {
        alone: np.round(w),
        lost: [first, np.round(w[1] - passed)],
    }

"""Chapter 6's exercises: counted bits, packing, two centres, an allocation, rounding."""

import itertools

import numpy as np

from .registry import Case, exercise


@exercise("6.1", "bits that are really stored", "easy", 10)
def stored_bits():
    """Lay out the codes and the tables of every group of rows, and count."""
    for out_dim, in_dim, bits, rows in (
        (32, 100, 4, 16),
        (3072, 3072, 4, 16),
        (40, 64, 2, 16),
        (8, 30, 3, 8),
    ):
        starts = range(0, out_dim, rows)
        codes = bits * sum(
            np.zeros((min(rows, out_dim - start), in_dim)).size for start in starts
        )
        tables = 16 * sum(np.zeros(2**bits).size for _ in starts)
        mistakes = (
            (
                codes,
                "the tables are stored too: 2^bits entries of 16 bits for every group of rows",
            ),
            (codes + 16 * 2**bits, "every group of rows has a table of its own"),
            (
                codes + 16 * bits * len(starts),
                "a table has 2^bits entries, not `bits` of them",
            ),
            (
                codes + 16 * 2**bits * (out_dim // rows),
                "the last, smaller group of rows needs a table as well",
            ),
        )
        arguments = {
            "out_dim": out_dim,
            "in_dim": in_dim,
            "bits": bits,
            "rows_per_table": rows,
        }
        yield Case(arguments, codes + tables, mistakes)


@exercise("6.2", "two codes in a byte", "easy", 10)
def pack():
    """Write every byte as eight binary digits, the first code's last."""
    for codes in ([1, 2], [15, 0, 0, 15], [7, 8, 9, 10, 11, 12]):
        pairs = list(zip(codes[::2], codes[1::2]))
        expected = [int(f"{second:04b}{first:04b}", 2) for first, second in pairs]
        mistakes = (
            (
                [int(f"{first:04b}{second:04b}", 2) for first, second in pairs],
                "the first code lies in the LOW half",
            ),
            (
                [first + second for first, second in pairs],
                "move the second code up by four bits before adding",
            ),
        )
        yield Case({"codes": np.array(codes)}, expected, mistakes)


@exercise("6.3", "the best palette of two", "medium", 15)
def two_centres():
    """Try every way to cut the sorted values in two."""
    for values in (
        [1.0, 2, 6, 7, 8],
        [0.0, 0, 0, 10],
        [-3.0, 0, 1, 2, 3.5, 30],
        [4.0, 1, 3.9, 0.5],
    ):
        v = np.sort(values)
        cuts = [
            (sum(((side - side.mean()) ** 2).sum() for side in (v[:i], v[i:])), i)
            for i in range(1, len(v))
        ]
        expected = _halves(v, min(cuts)[1])
        middle = int(np.searchsorted(v, (v[0] + v[-1]) / 2, side="right"))
        mistakes = (
            (
                _halves(v, len(v) // 2),
                "the better cut need not leave equally many values on both sides",
            ),
            (
                _halves(v, middle),
                "the better cut need not lie half way between the smallest and the largest",
            ),
            ([v[0], v[-1]], "the best centre of a cluster is its mean"),
        )
        yield Case({"values": np.array(values)}, expected, mistakes)


def _halves(v, cut):
    return [v[:cut].mean(), v[cut:].mean()]


@exercise("6.4", "who gets four bits?", "hard", 20)
def choose_bits():
    """Try all assignments of 2 or 4 bits."""
    for at2, at4, weights, average in (
        ([1.0, 5.0, 2.0], [0.1, 0.5, 0.2], [100, 100, 100], 3.0),
        ([9.0, 6.0, 6.0], [0.0, 0.0, 0.0], [300, 150, 150], 3.0),
        ([4.0, 3.0, 2.5, 1.0], [3.5, 0.5, 0.2, 0.1], [50, 100, 100, 50], 3.4),
    ):
        names = dict(
            cost_at_2=np.array(at2),
            cost_at_4=np.array(at4),
            weights=np.array(weights),
            average=average,
        )
        options = [
            (sum((at2, at4)[b == 4][i] for i, b in enumerate(bits)), bits)
            for bits in itertools.product((2, 4), repeat=len(at2))
            if np.dot(bits, weights) <= average * sum(weights) + 1e-9
        ]
        expected = list(min(options)[1])
        by_gain = _greedy(names, np.subtract(at2, at4))
        by_cost = _greedy(names, np.array(at2))
        by_density = _greedy(names, np.subtract(at2, at4) / weights)
        mistakes = (
            (
                by_cost,
                "what counts is how much the cost falls from 2 to 4 bits, and what that takes",
            ),
            (
                by_gain,
                "a large matrix takes more of the budget: weigh the gain against its size",
            ),
            (
                by_density,
                "the best gain per bit first may leave a gap in the budget: compare with all assignments",
            ),
            ([4] * len(at2), "that is over the budget"),
        )
        yield Case(names, expected, mistakes)


def _greedy(names, order):
    """Return the bits when matrices get four in falling order while the budget lasts."""
    weights, bits = names["weights"], [2] * len(names["weights"])
    for i in np.argsort(-order):
        trial = [4 if j == i else b for j, b in enumerate(bits)]
        if np.dot(trial, weights) <= names["average"] * weights.sum() + 1e-9:
            bits = trial
    return bits


@exercise("6.5", "pass the error on", "medium", 15)
def round_two():
    """Round the first weight, then try whole numbers for the second."""
    for w, h in (
        ([0.4, 0.3], [[1.0, 0.9], [0.9, 1.0]]),
        ([2.6, -1.2], [[2.0, -1.5], [-1.5, 3.0]]),
        ([1.45, 0.2], [[4.0, 1.0], [1.0, 1.0]]),
    ):
        w, h = np.array(w), np.array(h)
        first = np.round(w[0])

        def error(second, w=w, h=h, first=first):
            left = np.array([first, second]) - w
            return left @ h @ left

        expected = [first, min(range(-20, 21), key=error)]
        passed = (w[0] - first) * h[0, 1] / h[1, 1]
        mistakes = (
            (
                np.round(w),
                "the second weight can make up for the error of the first: their inputs go together",
            ),
            (
                [first, np.round(w[1] - passed)],
                "the sign: what the first weight lost, the second must add",
            ),
        )
        yield Case({"w": w, "h": h}, expected, mistakes)

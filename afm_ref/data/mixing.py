"""Batches that mix parts (web text, code, maths, ...) by weights, as a pure function of
(seed, step).

Apple mixes web pages, licensed text, code and maths, and shifts the mixture from stage to
stage; the weights are not stated. Here a mixture is {part: weight}: the share of the ROWS,
and so of the tokens, that come from each part.
"""

import zlib
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from afm_ref.data.packing import Packed, batch_of, row_numbers
from afm_ref.losses import Batch

# of a mixture's order that are worked out at once; doubled when they are used up
FIRST_PLACES = 4096


def mix(parts: Mapping[str, Packed], weights: Mapping[str, float], batch_size: int, seed=0):
    """Return a function step -> Batch in which each part has its weight's share of the
    rows; pure in (seed, step).

        share of part k = w_k / sum_j w_j

    The next row is of the part furthest behind its share (`part_order`), so the shares hold
    at every moment; of that part every row comes once an epoch, in an order drawn from
    (seed, part, epoch). A part of weight 0 may be empty or absent. seed: an int, or a tuple
    of ints. Raises ValueError for weights that are negative, not finite, all 0, or of a
    part that has no rows, and for parts whose rows differ in length.

    Source: TR24 section 3.1 (web, licensed, code and maths data); weights not stated, the
        order is ours [ours].
    Test: tests/data/test_packing.py::test_shares_are_within_the_bound_at_every_moment,
        tests/data/test_packing.py::test_every_row_of_a_part_once_an_epoch,
        tests/data/test_packing.py::test_mixed_batches_are_pure
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: give at least 1")
    counts = {name: len(rows.tokens) for name, rows in parts.items()}
    shares = checked_shares(weights, counts)
    chosen = [parts[name] for name in shares]
    if len(lengths := {rows.tokens.shape[1] for rows in chosen}) > 1:
        raise ValueError(
            f"the parts' rows hold {sorted(lengths)} tokens: pack all parts with one seq_len"
        )
    whole = Packed(*(np.concatenate(arrays) for arrays in zip(*(rows[:3] for rows in chosen))),
                   sum(rows.text_bytes for rows in chosen))  # fmt: skip
    numbers = mixed_row_numbers(shares, counts, batch_size, seed)

    def batch(step) -> Batch:
        return batch_of(whole, numbers(step))

    return batch


def mixed_row_numbers(shares: Mapping[str, float], counts, batch_size: int, seed=0):
    """Return a function step -> numbers [B] of rows in all parts laid end to end; counts
    is {part: how many rows it has}.
    """
    first = np.cumsum([0, *(counts[name] for name in shares)])[:-1]
    key = seed if isinstance(seed, tuple) else (seed,)
    orders = [row_numbers(counts[name], 1, _part_seed(key, name)) for name in shares]
    weights = tuple(shares.values())

    def numbers(step):
        places = np.arange(step * batch_size, (step + 1) * batch_size)
        part, turn = (x[places] for x in part_order(weights, int(places[-1]) + 1))
        return np.array([first[k] + orders[k](int(i))[0] for k, i in zip(part, turn)])

    return numbers


def part_order(shares: tuple[float, ...], places: int):
    """Return (part, turn), arrays of at least `places` entries: the n-th row is the
    turn[n]-th row of part[n].

        part[n] = argmax_k  w_k (n + 1) - c_k          c_k: rows of part k among the first n, the first k at a tie

    The K numbers compared sum to 1, so the largest is at least 1/K, and no part is ever
    ahead by more than 1 - 1/K. All that others are ahead, one may be behind, at most (K -
    1)(1 - 1/K) rows. A part of weight 0 never has 1/K.

    Source: the part with the largest deficit comes next, as in Megatron-LM's blended data
        set, which compares w_k max(n, 1) - c_k [standard]; n + 1, for which the bounds
        hold, and they themselves [ours].
    Test: tests/data/test_packing.py::test_shares_are_within_the_bound_at_every_moment
    """
    size = FIRST_PLACES
    while size < places:
        size *= 2
    return _order(tuple(float(share) for share in shares), size)


@lru_cache(maxsize=8)
def _order(shares, size):
    part, turn = np.empty(size, np.int16), np.empty(size, np.int64)
    counts, kinds = [0] * len(shares), range(len(shares))
    for n in range(size):
        k = max(kinds, key=lambda i: shares[i] * (n + 1) - counts[i])
        part[n], turn[n] = k, counts[k]
        counts[k] += 1
    return part, turn


def checked_shares(
    weights: Mapping[str, float], rows: Mapping[str, int]
) -> dict[str, float]:
    """Return {part: share} of the parts with weight above 0, summing to 1; bad weights
    raise ValueError.
    """
    bad = {name: w for name, w in weights.items() if not (np.isfinite(w) and w >= 0)}
    if bad:
        raise ValueError(f"weights of a mixture must be finite and at least 0, got {bad}")
    used = {name: float(w) for name, w in weights.items() if w > 0}
    if not used:
        raise ValueError(
            f"a mixture needs a part with a weight above 0, got {dict(weights)}"
        )
    if empty := [name for name in used if not rows.get(name)]:
        raise ValueError(
            f"no rows of {empty}, whose weights are above 0; there are rows of {sorted(rows)}"
        )
    total = sum(used.values())
    return {name: w / total for name, w in used.items()}


def _part_seed(key, name):
    """Return the seed of a part's order: by its name, so that a part more changes nothing
    of the others.
    """
    return int(
        np.random.SeedSequence((*key, zlib.crc32(name.encode()))).generate_state(1)[0]
    )

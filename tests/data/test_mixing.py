"""Mixtures: shares within their bound, every row once an epoch, the same batch for the same step."""

from collections import Counter

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given, settings

from afm_ref.data.mixing import checked_shares, mix, part_order
from afm_ref.data.packing import Packed


def rows(start, count, length=5):
    """Return a Packed whose k-th row holds the number start + k alone."""
    tokens = np.repeat(np.arange(start, start + count, dtype=np.int32)[:, None], length, axis=1)
    return Packed(tokens, np.zeros_like(tokens), np.ones(tokens.shape, bool), count)


PARTS = {"web": rows(0, 7), "code": rows(100, 5), "maths": rows(200, 3)}
WEIGHTS = {"web": 2, "code": 1, "maths": 1}


def numbers(batch):
    return batch.tokens[:, 0].tolist()


@settings(max_examples=25)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=6).filter(lambda w: sum(w) > 0.01))
@example([0.0, 1.0])  # Megatron-LM's own rule would take the second row from the part of weight 0
def test_shares_are_within_the_bound_at_every_moment(weights):
    """Counted anew: never ahead by more than 1 - 1/K rows, nor behind by more than the others can be ahead."""
    shares = tuple(w / sum(weights) for w in weights)
    part, turn = part_order(shares, 1)
    counts = np.cumsum(part[:, None] == np.arange(len(shares)), axis=0)
    ahead = counts - np.arange(1, len(part) + 1)[:, None] * np.array(shares)
    K = len(shares)
    assert ahead.max() <= 1 - 1 / K + 1e-9 and -ahead.min() <= (K - 1) * (1 - 1 / K) + 1e-9
    assert not set(part) & {k for k, share in enumerate(shares) if share == 0}
    for k in range(K):  # the turns of a part are 0, 1, 2, ...
        np.testing.assert_array_equal(turn[part == k], np.arange((part == k).sum()))


def test_order_by_hand():
    """Shares 1/2, 1/4, 1/4. The most behind is a; then b (.5 against a's 1 - 1); then c (.75); then a (2 - 1)."""
    part, turn = part_order((0.5, 0.25, 0.25), 8)
    assert part[:8].tolist() == [0, 1, 2, 0] * 2 and turn[:8].tolist() == [0, 0, 0, 1, 2, 1, 1, 3]
    longer, _ = part_order((0.5, 0.25, 0.25), len(part) + 1)  # begins alike
    assert len(longer) == 2 * len(part) and (longer[: len(part)] == part).all()


def test_every_row_of_a_part_once_an_epoch():
    """In 28 rows of shares 2 : 1 : 1 come 14 of web, two epochs; the first 5 and 3 of the others are one epoch each."""
    batch = mix(PARTS, WEIGHTS, 4, seed=1)
    drawn = [n for step in range(7) for n in numbers(batch(step))]
    web, code, maths = ([n for n in drawn if low <= n < low + 100] for low in (0, 100, 200))
    assert Counter(web) == Counter(dict.fromkeys(range(7), 2)) and sorted(web[:7]) == list(range(7))
    assert web[:7] != web[7:]  # another order in the second epoch
    assert sorted(code[:5]) == list(range(100, 105)) and sorted(maths[:3]) == [200, 201, 202]


def test_batches_are_pure():
    forwards = [numbers(mix(PARTS, WEIGHTS, 3, seed=5)(step)) for step in range(6)]
    batch = mix(PARTS, WEIGHTS, 3, seed=5)
    assert [numbers(batch(step)) for step in reversed(range(6))][::-1] == forwards
    assert [numbers(mix(PARTS, WEIGHTS, 3, seed=6)(step)) for step in range(6)] != forwards
    assert [numbers(mix(PARTS, WEIGHTS, 3, seed=(5, 1))(step)) for step in range(6)] != forwards


def test_one_part_more_leaves_the_order_within_the_others():
    def code(weights):
        drawn = (n for step in range(8) for n in numbers(mix(PARTS, weights, 5, seed=2)(step)))
        return [n for n in drawn if 100 <= n < 200][:10]

    assert code({"code": 1}) == code({"code": 1, "web": 1}) == code({"maths": 1, "code": 2, "web": 1})
    assert code({"code": 0.5, "poems": 0}) == code({"code": 1})  # weight 0 needs no rows


def test_bad_weights_and_rows_are_refused():
    for weights, message in (
        ({"web": -1, "code": 2}, "at least 0"),
        ({"web": float("nan")}, "finite"),
        ({"web": 0, "code": 0}, "above 0"),
        ({"web": 1, "poems": 1}, r"no rows of \['poems'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            checked_shares(weights, {"web": 3, "code": 1})
    with pytest.raises(ValueError, match=r"\[5, 6\] tokens"):
        mix({"web": rows(0, 3), "code": rows(0, 3, 6)}, {"web": 1, "code": 1}, 2)
    with pytest.raises(ValueError, match="batch_size is 0"):
        mix(PARTS, WEIGHTS, 0)

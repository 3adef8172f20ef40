"""The reward model of the bench: which pairs a step learns from, and the spread of its rewards."""

import numpy as np
import pytest

from afm_ref.post_training import preferences
from afm_ref.post_training.responses import written
from afm_ref.whole_road import judge
from afm_ref.whole_road.bench import Bench
from tests.whole_road import small

OTHERS = ("the park", "on Monday, Tom", "no")


@pytest.fixture(scope="module")
def bench():
    with small.model():
        yield Bench(small.SIZES)


def pool(bench, count):
    """Return records, and to each the reference and three other answers."""
    records = bench.records(count // 2, seed=5)
    return records, [[written(bench.tok, text) for text in (r.reference, *OTHERS)] for r in records]


def test_a_pass_reads_every_preference_once_at_its_rows(bench):
    records, groups = pool(bench, 20)  # 8, 8 and 4
    batch, steps = judge.batches_of(bench, records, groups, seed=3)
    wanted = preferences.collect(records, groups, seed=3, pairs=judge.PAIRS)
    found = []
    for pairs in map(batch, range(steps)):
        _, _, said, real = pairs.rows  # [P, n, R], the last two
        tokens, response = (of.reshape(-1, of.shape[-1]) for of in (said, real))
        for places, label, weight in zip(pairs.places.T, pairs.labels, pairs.weights, strict=True):
            if weight:
                found.append((*(tuple(tokens[i][response[i]]) for i in places), round(float(label), 2)))
    assert steps == 3
    ids = [(tuple(p.chosen.tokens), tuple(p.rejected.tokens), preferences.SOFT_LABELS[p.level]) for p in wanted]
    assert sorted(set(found)) == sorted(set(ids)) and len(found) >= len(ids)


def test_where_all_responses_are_alike_nothing_can_be_learnt(bench):
    records, groups = pool(bench, 8)
    alike = [[group[0]] * 4 for group in groups]
    with pytest.raises(ValueError, match="no pair can be compared"):
        judge.batches_of(bench, records, alike, seed=0)[0](0)


def test_rewards_get_the_spread_of_utilities(bench):
    records, groups = pool(bench, 16)
    model = judge.trained(bench, (records, groups), 8, seed=0)
    last = slice(-bench.sizes.scaled_on, None)
    spreads = [
        np.sqrt(of(records[last], groups[last]).var(axis=1).mean())
        for of in (bench.judged, lambda *of: bench.score(model, *of))
    ]
    assert spreads[0] == pytest.approx(spreads[1], rel=1e-3) and spreads[0] > 0.01

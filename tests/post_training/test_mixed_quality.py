"""Answers of mixed quality: what is wrong with each kind, as the utility sees it."""

import numpy as np
import pytest

from afm_ref.data import tasks
from afm_ref.post_training import mixed_quality, qualities, utility
from afm_ref.post_training.responses import written
from tests.post_training.models import tokenizer

TOK = tokenizer()
RECORDS = [record for task in ("summarise", "answer") for record in tasks.records(task, 60, seed=4, difficulty=2)]


@pytest.mark.parametrize("kind, worse", [("rambling", "conciseness"), ("careless", "instruction_following")])
def test_each_kind_has_its_fault(kind, worse):
    make = getattr(mixed_quality, kind)
    for number, record in enumerate(RECORDS):
        answer = written(TOK, make(record, np.random.default_rng(number)))
        right = written(TOK, record.reference)
        assert utility(record, right) == pytest.approx(1) and utility(record, answer) < 0.95, answer.text
        assert qualities(record, answer)[worse] < qualities(record, right)[worse]


def test_a_careless_answer_differs_in_one_fact():
    """Between the words that both begin and end with stands a fact of the same kind as the one that it replaces."""
    for number, record in enumerate(RECORDS):
        said = mixed_quality.careless(record, np.random.default_rng(number))
        changed = [kind for kind in mixed_quality.FACTS for old in kind for new in kind
                   if old != new and record.reference.replace(old, new) == said]  # fmt: skip
        assert changed and said != record.reference
    with pytest.raises(ValueError, match="no fact"):
        mixed_quality.careless(RECORDS[0]._replace(reference="yes"), np.random.default_rng(0))


def test_kinds_are_drawn_by_their_shares():
    """1,200 draws: a share's standard error is .014 at most. The same seed draws the same."""
    records = RECORDS * 10
    drawn = mixed_quality.answers(records, TOK, seed=3)
    right = [response.text == record.reference for record, (_, response) in zip(records, drawn, strict=True)]
    long = [len(response.text) > len(record.reference) + 8 for record, (_, response) in zip(records, drawn)]
    assert np.mean(right) == pytest.approx(0.2, abs=0.05) and np.mean(long) == pytest.approx(0.4, abs=0.06)
    assert drawn == mixed_quality.answers(records, TOK, seed=3) != mixed_quality.answers(records, TOK, seed=4)
    assert all(response.ended for _, response in drawn)

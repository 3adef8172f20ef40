"""The tasks' metrics on cases whose score is known by hand, and their bounds on any response."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref.data import tasks
from afm_ref.data.tasks import Record

SUMMARY = Record("summarise", "...", "Anna moves the dinner to Friday at 7:00.", "train",
                 {"facts": ["Anna", "dinner", "Friday", "7:00"]})  # fmt: skip
PROOF = Record("proofread", "...", "The keys are here. Thanks, Ben", "train",
               {"source": "The kyes is here. Thanks, Ben"})  # fmt: skip
FORMAL = Record("tone", "...", "Dear Ben, the dinner is on Friday. Kind regards, Anna", "train",
                {"target": "formal", "facts": ["Ben", "dinner", "Friday", "Anna"]})  # fmt: skip
ANSWER = Record("answer", "...", "Friday at 7:00", "train", {})

CASES = [
    (SUMMARY, "Anna: dinner Friday 7:00", 1.0),
    (SUMMARY, "anna moves the dinner to friday", 0.75),
    (SUMMARY, "Anna moves the dinner to Friday at 17:00.", 0.75),  # 17:00 does not hold 7:00
    (SUMMARY, "Annabel moves the dinners to Friday.", 0.25),
    (SUMMARY, "Anna dinner Friday 7:00 " + "and so on " * 20, 9.6 / 64),
    (PROOF, "The keys are here. Thanks, Ben", 1.0),
    (PROOF, "The kyes is here. Thanks, Ben", 0.0),
    (PROOF, "The keys is here. Thanks, Ben", 0.5),
    (PROOF, "The keys are here. thanks, Ben", 0.5),  # both repaired, one new
    (PROOF, "The keys is here. thanks, Ben", 0.0),  # one repaired, one new
    (PROOF, "The keys are really here. Thanks, Ben", 0.75),  # both repaired, a word put in
    (PROOF, "something else entirely", 0.0),
    (FORMAL, "Dear Ben, dinner is on Friday. With thanks, Anna", 1.0),
    (FORMAL, "Dear Ben, dinner is on Friday. Anna", 0.5),
    (FORMAL, "Dear Ben, lunch is on Friday. With thanks, Anna", 0.75),
    (FORMAL, "hey Ben, dinner is on Friday. cheers, Anna", 0.0),
    (FORMAL, "Dear Ben, u know, dinner is on Friday. With thanks, Anna", 0.5),
    (ANSWER, " friday  at 7:00. ", 1.0),
    (ANSWER, "Friday", 0.0),
    (ANSWER, "It is Friday at 7:00", 0.0),
]


@pytest.mark.parametrize(("record", "response", "expected"), CASES)
def test_scores_by_hand(record, response, expected):
    assert tasks.score(record, response) == pytest.approx(expected)
    assert tasks.success(record, response) == (expected == 1.0)


@pytest.mark.parametrize("task", tasks.TASKS)
def test_references_are_perfect_and_nothing_is_worthless(task):
    """Nor is a copy of the input a success, or a fluent response about something else."""
    for difficulty in (0, 4):
        for record in (records := tasks.records(task, 80, difficulty=difficulty)):
            assert tasks.score(record, record.reference) == 1.0 and tasks.score(record, "") == 0.0
            assert not any(tasks.success(record, copy) for copy in (record.prompt, record.prompt.split("\n", 1)[-1]))
        pairs = [(a, b.reference) for a, b in itertools.pairwise(records) if a.reference != b.reference]
        assert sum(tasks.success(*pair) for pair in pairs) <= 0.01 * len(pairs)


RECORDS = [record for task in tasks.TASKS for record in tasks.records(task, 2, seed=9)]
WORDS = st.sampled_from(["Anna", "the", "dinner", "dear", "hey", "Friday", "7:00", "is", "12", ".", "é", ""])


@given(response=st.one_of(st.lists(WORDS, max_size=20).map(" ".join), st.text(max_size=80)))
@settings(max_examples=15)
def test_scores_stay_within_0_and_1(response):
    for record in RECORDS:
        assert 0.0 <= tasks.score(record, response) <= 1.0
        assert 0.0 <= tasks.score(record, response + record.reference + response) <= 1.0

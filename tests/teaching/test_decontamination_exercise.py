"""The exercise on benchmark texts: its answers are the package's, and mistakes are told."""

from collections import Counter

import pytest

from afm_ref.curation import Dropped, decontamination
from afm_ref.data.corpora import Document
from afm_ref.teaching.exercises import EXERCISES, grade

ID = "2.1"


def solution(benchmark, documents, low, high, threshold, at_least=False, lengths=None, count_all=False, how=any):
    """As a student may write it; the options make mistakes."""

    def runs(text):
        words = text.split()
        lengths_ = lengths(low, high) if lengths else range(low, high + 1)
        return [tuple(words[i : i + n]) for n in lengths_ for i in range(len(words) - n + 1)]

    wanted = set(runs(benchmark))
    hits = [[run for run in runs(text) if run in wanted] for text in documents]
    counts = Counter(run for found in hits for run in (found if count_all else set(found)))
    return [bool(found) and how((counts[run] >= threshold) == at_least for run in found) for found in hits]


def test_the_answers_are_those_of_the_package():
    for case in EXERCISES[ID].cases():
        given = case.arguments
        found = decontamination.Benchmarks([given["benchmark"]], given["low"], given["high"])
        counts = decontamination.count(found, given["documents"])
        step = decontamination.Decontamination(found, counts, given["threshold"])
        steps = [step(Document(text, "web", "n")) == Dropped("benchmark text") for text in given["documents"]]
        assert steps == [bool(x) for x in case.expected]
        assert any(steps) != (given["threshold"] == 1)  # a run that is hit is hit by one document at least


def test_a_solution_is_right():
    assert grade(ID, solution).status == "right"
    assert grade(ID, lambda **_: None).status == "not attempted"


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"at_least": True}, "the other way round"),
        ({"lengths": lambda low, high: [low]}, "not `low` alone"),
        ({"lengths": lambda low, high: [high]}, "not `high` alone"),
        ({"count_all": True}, "count documents"),
        ({"how": all}, "one rare run is enough"),
    ],
)
def test_mistakes_are_told(options, hint):
    verdict = grade(ID, lambda **given: solution(**given, **options))
    assert verdict.status == "wrong" and hint in verdict.message, verdict


def test_the_threshold_is_reached_and_not_passed():
    verdict = grade(ID, lambda threshold, **given: solution(threshold=threshold + 1, **given))
    assert verdict.status == "wrong" and "REACHES" in verdict.message, verdict
    verdict = grade(ID, lambda threshold, **given: solution(threshold=10**9, **given))
    assert verdict.status == "wrong" and "common usage" in verdict.message, verdict

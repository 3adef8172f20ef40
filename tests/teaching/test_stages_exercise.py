"""The exercise on RoPE's base: its numbers are the package's, found another way, and a plausible slip is told."""

import math

import pytest

from afm_ref.pretraining.stages import rope_base
from afm_ref.teaching.exercises import EXERCISES, grade


def test_the_cases_are_the_rules_numbers():
    found = [(case.arguments, float(case.expected)) for case in EXERCISES["2.4"].cases()]
    assert any(round(expected) == 6_315_089 for _, expected in found)
    for given, expected in found:
        assert expected == pytest.approx(rope_base(**given), rel=1e-9)


@pytest.mark.parametrize(
    ("answer", "status", "word"),
    [
        (rope_base, "right", ""),
        (lambda base, T_train, T: base ** (math.log(T) / math.log(T_train)), "wrong", "2 pi"),
        (lambda base, T_train, T: base * T / T_train, "wrong", "stretches"),
        (lambda base, T_train, T: base, "wrong", ""),
    ],
)
def test_answers_are_judged(answer, status, word):
    verdict = grade("2.4", answer)
    assert verdict.status == status and word in verdict.message

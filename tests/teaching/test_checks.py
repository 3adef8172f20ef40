"""`check` passes what holds, stops what does not, and prints the same on every machine."""

import math

import numpy as np
import pytest

from afm_ref.teaching import check


@pytest.mark.parametrize(
    "ok, settings, line",
    [
        (True, {}, "✓ it holds\n"),
        (np.bool_(True), {"reason": "by definition"}, "✓ it holds (by definition)\n"),
        (np.array([0, -3e-7]), {"tolerance": 1e-6, "reason": "f32"}, "✓ it holds (difference at most 1e-06; f32)\n"),
        (np.zeros(0), {"tolerance": 0.0}, "✓ it holds (difference at most 0)\n"),
        (2.123456, {"between": (2, 2.5)}, "✓ it holds (between 2 and 2.5)\n"),
    ],
)  # fmt: skip
def test_what_holds_prints_a_line_without_measured_numbers(ok, settings, line, capsys):
    check("it holds", ok, **settings)
    assert capsys.readouterr().out == line


@pytest.mark.parametrize(
    "ok, settings, words",
    [
        (False, {}, "this does not hold: a claim"),
        (np.array([0.0, -0.5]), {"tolerance": 0.4}, "measured: 0.5"),
        (math.nan, {"tolerance": 1.0}, "measured: nan"),
        (np.array([0.0, math.nan]), {"tolerance": 1.0}, "measured: nan"),
        (math.inf, {"tolerance": 1.0}, "measured: inf"),
        (math.nan, {"between": (0, 1)}, "measured: nan"),
        (1.23456, {"between": (2, 3), "reason": "seeds"}, "measured: 1.23\n    expected: between 2 and 3; seeds"),
    ],
)
def test_what_does_not_hold_raises_and_says_what_was_measured(ok, settings, words):
    with pytest.raises(AssertionError) as caught:
        check("a claim", ok, **settings)
    assert words in str(caught.value)


def test_a_check_needs_a_claim_and_one_criterion():
    with pytest.raises(TypeError, match="tolerance= or between="):
        check("a difference of zero would pass as False", 0.0)
    with pytest.raises(ValueError, match="needs a claim"):
        check("", True)
    with pytest.raises(ValueError, match="not both"):
        check("a claim", 1.0, tolerance=1.0, between=(0, 2))

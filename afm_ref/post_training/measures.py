"""How well a reward knows the latent utility, and who wins against whom."""

from typing import NamedTuple

import numpy as np

from .._typing import Array, Float


class Calibration(NamedTuple):
    """Bins of predicted probability with what came true in each."""

    predicted: Float[Array, " bins"]
    observed: Float[Array, " bins"]
    count: Array

    @property
    def error(self) -> float:
        """Return the expected calibration error: the mean |predicted - observed|, weighted by the counts."""
        return float(np.average(np.abs(self.predicted - self.observed), weights=self.count))


def accuracy(margins, gaps) -> float:
    """Return the share of pairs that a reward orders as the utility does. A margin of 0 counts half.

    Pairs of equal utility have no right order and are left out; ValueError if there are no others.

    Source: textbook [standard].
    Test: tests/post_training/test_measures.py::test_accuracy_by_hand
    """
    margins, gaps = np.asarray(margins, np.float64), np.asarray(gaps, np.float64)
    margins, gaps = margins[gaps != 0], gaps[gaps != 0]
    if not gaps.size:
        raise ValueError("no pair has a better response by the latent utility: sample more varied responses")
    return float((0.5 + 0.5 * np.sign(margins) * np.sign(gaps)).mean())


def calibration(predicted, outcome, bins: int = 10) -> Calibration:
    """Return predicted probabilities in bins of equal width, empty ones left out, with the mean outcome of each.

    outcome: 0 or 1, or the true probability where it is known.

    Source: reliability diagram and expected calibration error [standard].
    Test: tests/post_training/test_measures.py::test_calibration_by_hand
    """
    predicted, outcome = np.asarray(predicted, np.float64), np.asarray(outcome, np.float64)
    if predicted.ndim != 1 or predicted.shape != outcome.shape or not predicted.size:
        raise ValueError(f"expected two lists of one length, got shapes {predicted.shape} and {outcome.shape}")
    if predicted.min() < 0 or predicted.max() > 1:
        raise ValueError(f"predicted must be probabilities, got {predicted.min():.3g} .. {predicted.max():.3g}")
    place = np.minimum((predicted * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    full = count > 0
    means = [np.bincount(place, x, minlength=bins)[full] / count[full] for x in (predicted, outcome)]
    return Calibration(*means, count[full])


def win_rate(ours, theirs) -> float:
    """Return the share of prompts on which ours is the better of two, a tie counting half.

    Source: textbook [standard].
    Test: tests/post_training/test_measures.py::test_win_rate_by_hand
    """
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape or not ours.size:
        raise ValueError(f"expected two lists of one length, got shapes {ours.shape} and {theirs.shape}")
    return float((0.5 + 0.5 * np.sign(ours - theirs)).mean())

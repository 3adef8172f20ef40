"""Chapter 2's checkers: their numbers are the package's, and further mistakes are told."""

from collections import Counter

import jax
import numpy as np
import pytest

from afm_ref.curation import Dropped, decontamination
from afm_ref.data.corpora import Document
from afm_ref.pretraining.optimizer import block_update
from afm_ref.pretraining.pruning.top_k import soft_top_k, solve
from afm_ref.pretraining.stages import rope_base
from afm_ref.teaching.exercises import EXERCISES, grade


def test_the_dropped_documents_are_the_packages():
    for case in EXERCISES["2.1"].cases():
        given = case.arguments
        found = decontamination.Benchmarks([given["benchmark"]], given["low"], given["high"])
        counts = decontamination.count(found, given["documents"])
        step = decontamination.Decontamination(found, counts, given["threshold"])
        steps = [step(Document(text, "web", "n")) == Dropped("benchmark text") for text in given["documents"]]
        assert steps == [bool(x) for x in case.expected]
        assert any(steps) != (given["threshold"] == 1)  # a run that is hit is hit by one document at least


def test_a_step_is_the_packages():
    """Rounding apart: the package adds 1e-30 to the squares."""
    with jax.enable_x64(True):
        for case in EXERCISES["2.3"].cases():
            a = case.arguments
            gathered = 1 - 0.95 ** a["t"]
            change, v, m = block_update(a["g"], a["v"], a["m"], a["w"], gathered, rate=a["rate"], decay=a["decay"])
            np.testing.assert_allclose(case.expected, [a["w"] + a["s"] * change, v, m], rtol=1e-10)


def test_bases_and_thresholds_are_the_packages():
    bases = [(rope_base(**case.arguments), float(case.expected)) for case in EXERCISES["2.4"].cases()]
    assert any(round(expected) == 6_315_089 for _, expected in bases)
    thresholds = [(solve(**case.arguments).threshold, case.expected) for case in EXERCISES["2.5"].cases()]
    for ours, expected in bases + thresholds:
        assert expected == pytest.approx(ours, rel=1e-9, abs=1e-9)


def dropped(benchmark, documents, low, high, threshold, at_least=False, lengths=None, count_all=False, how=any):
    """Exercise 2.1 as a student may write it; the options make mistakes."""

    def runs(text):
        words = text.split()
        lengths_ = lengths(low, high) if lengths else range(low, high + 1)
        return [tuple(words[i : i + n]) for n in lengths_ for i in range(len(words) - n + 1)]

    wanted = set(runs(benchmark))
    hits = [[run for run in runs(text) if run in wanted] for text in documents]
    counts = Counter(run for found in hits for run in (found if count_all else set(found)))
    return [bool(found) and how((counts[run] >= threshold) == at_least for run in found) for found in hits]


def rms(u):
    return np.sqrt(np.mean(u**2))


def step(w, g, v, m, t, s, rate, decay, over="update", norm=rms):
    """Exercise 2.3 in the same way."""
    v = 0.95 * v + 0.05 * g**2
    scale = np.sqrt(v / (1 - 0.95**t))
    u = g / scale
    m = 0.95 * m + 0.05 * (u / max(1.0, norm(u)) if over == "update" else g)
    moved = m if over == "update" else m / scale / max(1.0, norm(m / scale))
    return np.stack([w - s * (rate * moved + decay * w), v, m])


MISTAKES = [
    ("2.1", lambda **given: dropped(**given, at_least=True), "the other way round"),
    ("2.1", lambda **given: dropped(**given, lengths=lambda low, high: [low]), "not `low` alone"),
    ("2.1", lambda **given: dropped(**given, lengths=lambda low, high: [high]), "not `high` alone"),
    ("2.1", lambda **given: dropped(**given, count_all=True), "count documents"),
    ("2.1", lambda **given: dropped(**given, how=all), "one rare run is enough"),
    ("2.1", lambda threshold, **given: dropped(threshold=threshold + 1, **given), "REACHES"),
    ("2.3", lambda **given: step(**given, over="gradient"), "runs over the normalised update"),
    ("2.3", lambda **given: step(**given, norm=lambda u: 0.0), "RMS may be 1 at most"),
    ("2.3", lambda **given: step(**given, norm=np.linalg.norm), "not by its norm"),
    ("2.4", lambda base, T_train, T: base * T / T_train, "stretches"),
    ("2.5", lambda **given: soft_top_k(**given), "the weights"),
    ("2.5", lambda **given: -solve(**given).threshold, "the sign"),
    ("2.5", lambda scores, k, eps: -np.sort(scores)[-k], "limit for eps"),
]


@pytest.mark.parametrize(("id", "answer", "hint"), MISTAKES)
def test_mistakes_are_told(id, answer, hint):
    verdict = grade(id, answer)
    assert verdict.status == "wrong" and hint in verdict.message, verdict


def test_the_answers_that_the_mistakes_vary_are_right():
    assert [grade(id, answer).status for id, answer in (("2.1", dropped), ("2.3", step))] == ["right", "right"]

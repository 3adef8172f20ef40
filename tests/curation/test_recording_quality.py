"""What chapter 2 shows of quality and extraction: still that of the shipped classifier, whole, and of texts unseen."""

import itertools

import numpy as np
import pytest

from afm_ref import assets
from afm_ref.curation import html, quality
from afm_ref.data import corpora
from afm_ref.data.tasks import builders
from afm_ref.teaching import made_up_pages
from experiments import curation_quality
from experiments.crawl import planting

RECORDING = assets.recording("curation_quality")
CONFIG, SEEDS, RUNS = RECORDING["config"], RECORDING["seeds"], RECORDING["numbers"]["runs"]
FIRST = RUNS[f"full_{SEEDS[0]}"]


def test_scores_of_generated_texts_are_recomputed(monkeypatch):
    """Everyday text does not depend on the version of Python. Scores were rounded to four digits.

    Of the messages, each of which has a seed of its own, those of the first ten texts alone are drawn.
    """
    count, number, draw = 10, itertools.count(), builders.everyday
    monkeypatch.setattr(builders, "everyday", lambda *of: draw(*of) if next(number) % CONFIG["each"] < count else "")
    texts = curation_quality.everyday(CONFIG["each"], SEEDS[0], "held_out")[:count]
    np.testing.assert_allclose(quality.shipped().scores(texts), FIRST["scores"]["everyday"][:count], atol=1e-4)


def test_the_shipped_classifier_does_to_unseen_junk_as_recorded():
    """Drawn anew from the same sentences: all terms of use score above the threshold, no log lines do."""
    rng = np.random.default_rng(11)
    for kind, dropped in FIRST["unseen_dropped"].items():
        scores = quality.shipped().scores([made_up_pages.junk(kind, rng) for _ in range(20)])
        assert np.mean(scores < CONFIG["threshold"]) == pytest.approx(dropped, abs=0.1), kind


def test_numbers_follow_from_the_scores():
    arguments = curation_quality.arguments([f"--seeds={len(SEEDS)}", f"--first-seed={SEEDS[0]}"])
    assert len(SEEDS) >= 3 and set(RUNS) == set(curation_quality.jobs_of(arguments))
    assert CONFIG["threshold"] == quality.Quality.threshold and CONFIG["features"] == quality.FEATURES
    scores = FIRST["scores"]
    for kind, share in FIRST["right"].items():
        found = np.mean((np.array(scores[kind]) >= CONFIG["threshold"]) == (kind in curation_quality.GOOD))
        assert found == pytest.approx(share, abs=0.005), kind  # scores are rounded
    known = {kind: values for kind, values in scores.items() if kind not in made_up_pages.UNSEEN}
    labels = np.concatenate([np.full(len(v), int(kind in curation_quality.GOOD)) for kind, v in known.items()])
    assert quality.area(np.concatenate(list(known.values())), labels) == pytest.approx(FIRST["auc"], abs=1e-3)


def test_a_document_is_on_one_side():
    """By its name, whatever its text: three tenths are held out."""
    one, other = ([corpora.Document(text, "text", str(i)) for i in range(1000)] for text in "ab")
    sides = [curation_quality.is_held_out(document, 0) for document in one]
    assert sides == [curation_quality.is_held_out(document, 0) for document in other] and 0.25 < np.mean(sides) < 0.35


def test_precision_of_extraction_is_recomputed():
    rng = np.random.default_rng(1)
    bodies = [d.text for d in corpora.topics()[:8]]
    for style in made_up_pages.STYLES:
        made = [html.extract(made_up_pages.page(rng, planting.title(rng), body, style)) for body in bodies]
        precision, recall = np.mean([html.agreement(m, b) for m, b in zip(made, bodies, strict=True)], axis=0)
        recorded = [RUNS[f"extraction_{seed}"][f"{style}, main content"]["precision"] for seed in SEEDS]
        assert recall > 0.99 and (style == "anonymous") == (precision < 0.99) == (np.mean(recorded) < 0.99)

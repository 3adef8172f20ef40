"""What chapter 2 shows of curation, quality and extraction: recomputed in small, whole, consistent, of texts unseen."""

import itertools
import math

import numpy as np
import pytest

from afm_ref import assets
from afm_ref.curation import html, near_duplicates, quality
from afm_ref.curation.recipe import Recipe
from afm_ref.data import corpora
from afm_ref.data.tasks import builders
from afm_ref.teaching import made_up_pages
from experiments import curation, curation_quality
from experiments.crawl import planting

RECORDING, OF_QUALITY = assets.recording("curation"), assets.recording("curation_quality")
RUNS = RECORDING["numbers"]["runs"]
BINS, CRAWL = RUNS["pairs"]["bins"], RUNS["crawl"]
DECISIONS, RECIPE = curation.DECISIONS, Recipe()
CONFIG, Q_SEEDS, Q_RUNS = OF_QUALITY["config"], OF_QUALITY["seeds"], OF_QUALITY["numbers"]["runs"]
FIRST = Q_RUNS[f"full_{Q_SEEDS[0]}"]


def test_some_pairs_are_drawn_again(monkeypatch):
    """4 fresh pairs a bin: their shares differ from those of 400 by at most 4.5 standard errors."""
    n, some = 4, corpora.modules()[::10]  # a tenth of the library: how alike a pair is decides, and no text
    monkeypatch.setattr(corpora, "modules", lambda stdlib=None: some)
    for old, new in zip(BINS, curation.pairs(RECORDING["seeds"][0] + 1, n, 20)["bins"], strict=True):
        assert new["pairs"] == n and new["jaccard"] == pytest.approx(old["jaccard"], abs=0.05)
        for name in DECISIONS:
            p = (old[name][0] * old["pairs"] + new[name][0] * n) / (old["pairs"] + n)
            assert abs(old[name][0] - new[name][0]) <= 4.5 * math.sqrt(p * (1 - p) * (1 / n + 1 / old["pairs"])) + 1e-9


def test_wilson_by_hand():
    """5 of 10 at z = 2: the middle is 1/2, half the width 2 sqrt(1/40 + 4/400) / 1.4."""
    assert curation.wilson(5, 10, 2) == pytest.approx([0.5, 0.5 - 2 * 0.035**0.5 / 1.4, 0.5 + 2 * 0.035**0.5 / 1.4])
    assert curation.wilson(0, 10)[1] == pytest.approx(0, abs=1e-12)


def test_pairs_are_complete_and_lie_on_the_curves():
    """Each bin has at least 200 pairs; shares are within 3.5 standard errors of the mean of the closed form."""
    edges = curation.EDGES
    assert len(BINS) == len(edges) - 1 == 14
    for row, low, high in zip(BINS, edges[:-1], edges[1:], strict=True):
        assert row["pairs"] >= 200 and low <= row["jaccard"] <= high
        middle = near_duplicates.candidate_probability(row["jaccard"], RECIPE.bands, RECIPE.rows)
        assert row["expected_candidates"] == pytest.approx(middle, abs=0.02)  # of a mean, for a mean of the curve
        for name in DECISIONS:
            share, under, over = row[name]
            p = row[f"expected_{name}"]
            assert under <= share <= over
            assert abs(share - p) <= 3.5 * math.sqrt(max(0, p * (1 - p)) / row["pairs"]) + 1 / row["pairs"]
    assert RUNS["pairs"]["unrelated"]["pairs"] > 19_000 and RUNS["pairs"]["unrelated"]["removed"] == 0


def test_the_crawl_adds_up():
    steps, report = CRAWL["steps"], CRAWL["report"]
    flows = list(steps.values())
    assert CRAWL["crawl_bytes"] > 199e6 and flows[0]["documents_in"] == CRAWL["documents"]
    for name, flow in steps.items():
        documents, size = (sum(row[i] for row in flow["dropped"].values()) for i in (0, 1))
        assert flow["documents_in"] - documents == flow["documents_out"]
        removed = flow["bytes_in"] - size - flow["bytes_out"]  # from documents that are left
        # no tag is more than a byte longer than what it masks: [EMAIL] for a@b.cc
        longer = sum(report["personal_data"].values()) if name == "personal data" else 0
        assert removed >= -longer and (removed == 0 or name in ("extraction", "personal data"))
        assert removed > 0 or name != "extraction"
    for a, b in itertools.pairwise(flows):
        assert (a["documents_out"], a["bytes_out"]) == (b["documents_in"], b["bytes_in"])
    left = sum(where.get("left", 0) for where in CRAWL["found"].values())
    assert sum(sum(where.values()) for where in CRAWL["found"].values()) == CRAWL["documents"]
    assert left == flows[-1]["documents_out"] == sum(count for count, _ in report["kinds"].values())
    index = report["index"]  # the keys outgrew their memory
    assert index["documents"] == steps["near-duplicates"]["documents_out"]
    assert index["documents"] * index["bytes_a_document"] > RECORDING["config"]["memory_mb"] * 1e6
    assert 0 < CRAWL["peak_bytes"] < 1e9 and RECORDING["numbers"]["cpu_minutes"] < 12


def test_what_was_planted_is_found():
    """No benchmark text is left; all planted personal data is masked; copies go as the closed form expects."""
    assert "left" not in CRAWL["found"]["benchmark"] and CRAWL["found"]["benchmark"]["decontamination"] > 1000
    assert all(CRAWL["report"]["personal_data"][kind] >= planted for kind, planted in CRAWL["pii_planted"].items())
    assert sum(row["copies"] for row in CRAWL["copies"]) == 2000
    for row in CRAWL["copies"]:
        assert abs(row["removed"] - row["expected"]) <= 4 * math.sqrt(row["copies"]) / 2
    shape = RECIPE.bands, RECIPE.rows, RECIPE.permutations, RECIPE.least_agreeing
    for of in CRAWL["removed_jaccard"].values():
        # had every document a neighbour that much unlike it, less than one in a hundred such crawls would remove one
        assert near_duplicates.removal_probability(of["least"], *shape) * CRAWL["documents"] > 0.01
        assert of["compared"] == 300 and of["least"] > 0.6 and of["below_0.75"] < 30  # the chapter says of how many


def test_scores_of_generated_texts_are_recomputed(monkeypatch):
    """Everyday text does not depend on the version of Python. Messages of the first ten texts alone are drawn."""
    count, number, draw = 10, itertools.count(), builders.everyday
    monkeypatch.setattr(builders, "everyday", lambda *of: draw(*of) if next(number) % CONFIG["each"] < count else "")
    texts = curation_quality.everyday(CONFIG["each"], Q_SEEDS[0], "held_out")[:count]
    recorded = FIRST["scores"]["everyday"][:count]  # rounded to four digits
    np.testing.assert_allclose(quality.shipped().scores(texts), recorded, atol=1e-4)


def test_the_shipped_classifier_does_to_unseen_junk_as_recorded():
    """Drawn anew from the same sentences: all terms of use score above the threshold, no log lines do."""
    rng = np.random.default_rng(11)
    for kind, dropped in FIRST["unseen_dropped"].items():
        scores = quality.shipped().scores([made_up_pages.junk(kind, rng) for _ in range(20)])
        assert np.mean(scores < CONFIG["threshold"]) == pytest.approx(dropped, abs=0.1), kind


def test_numbers_follow_from_the_scores():
    arguments = curation_quality.arguments([f"--seeds={len(Q_SEEDS)}", f"--first-seed={Q_SEEDS[0]}"])
    assert len(Q_SEEDS) >= 3 and set(Q_RUNS) == set(curation_quality.jobs_of(arguments))
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
        recorded = [Q_RUNS[f"extraction_{seed}"][f"{style}, main content"]["precision"] for seed in Q_SEEDS]
        assert recall > 0.99 and (style == "anonymous") == (precision < 0.99) == (np.mean(recorded) < 0.99)

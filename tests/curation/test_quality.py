"""Features, gradient, optimum, ROC and files of the classifier; what the shipped one says of a few texts."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from afm_ref.curation import Dropped, quality
from afm_ref.curation.quality import FEATURES, Classifier, Quality
from afm_ref.data import corpora, tasks
from afm_ref.data.corpora import Document
from afm_ref.teaching import made_up_pages
from experiments.crawl import junk

TEXTS = st.text("ab 1.é\n", max_size=40)


def features_by_hand(text):
    """Every token one by one, in plain integers."""
    found, words = {}, [zlib.crc32(token.encode()) for token in quality.tokens(text)]
    pairs = [(a * int(quality.PAIR) + b) % 2**32 for a, b in zip(words, words[1:], strict=False)]
    for h in words + pairs:
        found[h % FEATURES] = found.get(h % FEATURES, 0) + 1
    total = sum(found.values())
    return {f: (n / total) ** 0.5 for f, n in found.items()}


@given(TEXTS)
def test_features_by_hand(text):
    found, x = quality.features(text)
    assert dict(zip(found.tolist(), x.tolist(), strict=True)) == pytest.approx(features_by_hand(text))
    assert x @ x == pytest.approx(1 if quality.tokens(text) else 0)
    assert quality.tokens("It's 1,024 Tokens_x2!") == ["it", "'", "s", "0", ",", "0", "tokens", "_", "x", "0", "!"]


@given(st.lists(TEXTS, min_size=1, max_size=4), st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_gradient_is_that_of_finite_differences(texts, seed):
    rng, decay = np.random.default_rng(seed), 0.1
    labels, data = rng.integers(2, size=len(texts)).astype(float), quality.rows(texts)
    model = Classifier(rng.standard_normal(FEATURES), 0.3)
    loss, gradient = quality.loss_and_gradient(model, data, labels, decay)
    z = np.array([sum(x * model.weights[f] for f, x in features_by_hand(text).items()) + 0.3 for text in texts])
    p = 1 / (1 + np.exp(-z))
    expected = -np.mean(labels * np.log(p) + (1 - labels) * np.log(1 - p)) + decay / 2 * np.sum(model.weights**2)
    assert loss == pytest.approx(expected, rel=1e-12)
    direction, by, step = rng.standard_normal(FEATURES), rng.standard_normal(), 1e-5
    moved = (Classifier(model.weights + s * direction, model.bias + s * by) for s in (step, -step))
    ahead, behind = (quality.loss_and_gradient(each, data, labels, decay)[0] for each in moved)
    slope = (ahead - behind) / (2 * step)
    assert gradient.weights @ direction + gradient.bias * by == pytest.approx(slope, rel=1e-5, abs=1e-6)


def test_training_reaches_the_optimum():
    """The gradient there is nothing, which for a convex loss is the definition; and the texts are told apart."""
    texts = ["the cat sat on the mat .", "a dog ran to the cat .", "the mat is on the dog ."]
    texts += ["buy buy cheap", "cheap shoes buy now now", "now cheap mat mat buy"]
    labels = [1, 1, 1, 0, 0, 0]
    model = quality.train(texts, labels, decay=0.1, steps=120)
    _, gradient = quality.loss_and_gradient(model, quality.rows(texts), np.array(labels), 0.1)
    assert np.abs(gradient.weights).max() < 1e-4 and abs(gradient.bias) < 1e-4
    assert ((model.scores(texts) > 0.5) == labels).all()
    assert model.score("the cat is on the mat .") > 0.5 > model.score("buy cheap cheap shoes")


def test_a_text_without_tokens_gets_the_bias():
    model = Classifier(np.ones(FEATURES), 1.5)
    assert model.score("  \n") == pytest.approx(1 / (1 + np.exp(-1.5)))
    assert quality.sigmoid(np.array([-1e4, 0, 1e4])).tolist() == [0, 0.5, 1]
    for labels in ([1, 0], [1, 1, 1], [1, 0, 2]):
        with pytest.raises(ValueError, match="label of 0 or 1 for each"):
            quality.train(["a", "b", "c"], labels)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1)), min_size=2, max_size=20))
def test_area_is_the_chance_of_the_right_order(pairs):
    scores, labels = np.array(pairs).T
    good, bad = scores[labels == 1], scores[labels == 0]
    if not len(good) or not len(bad):
        with pytest.raises(ValueError, match="both"):
            quality.area(scores, labels)
        return
    order = np.mean([(g > b) + 0.5 * (g == b) for g in good for b in bad])
    assert quality.area(scores, labels) == pytest.approx(order)
    kept_bad, kept_good = quality.roc(scores, labels)
    assert kept_bad[0] == kept_good[0] == 0 and kept_bad[-1] == kept_good[-1] == 1
    assert (np.diff(kept_bad) >= 0).all() and (np.diff(kept_good) >= 0).all()


def test_files(tmp_path, monkeypatch):
    path, rng = tmp_path / "q.safetensors", np.random.default_rng(0)
    model = Classifier(rng.standard_normal(FEATURES), -0.7)
    quality.save(model, path)
    back = quality.load(path)
    np.testing.assert_allclose(back.weights, model.weights, rtol=2**-11)
    assert back.bias == pytest.approx(-0.7, rel=1e-7) and path.stat().st_size < 64_000
    (tmp_path / "bad").write_bytes(b"no tensors")
    save_file({"weights": np.zeros(3, np.float16)}, tmp_path / "short")
    for name, message in (("none", "curation_quality"), ("bad", "no safetensors"), ("short", "missing: bias")):
        with pytest.raises((FileNotFoundError, ValueError), match=message):
            quality.load(tmp_path / name)
    real = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda path, data: real(path, data[:99]) / 0)
    with pytest.raises(ZeroDivisionError):
        quality.save(Classifier(np.zeros(FEATURES), 2.0), path)
    assert quality.load(path).bias == back.bias and len(list(tmp_path.iterdir())) == 3  # nothing half-written stays


def test_the_shipped_classifier_keeps_prose_and_drops_junk_of_kinds_that_it_knows():
    """Not of kinds that it does not: the recording says how those fare."""
    rng, model = np.random.default_rng(5), quality.shipped()
    prose = [piece.text for d in corpora.topics()[:20] for piece in junk.cut(d)]
    everyday = ["\n\n".join(d.text for d in tasks.everyday_documents(12, seed, "held_out")) for seed in range(10)]
    assert np.mean(model.scores(prose) > 0.5) > 0.9 and np.mean(model.scores(everyday) > 0.5) > 0.9
    for kind in ("navigation", "cookie banner", "keyword spam"):
        assert np.mean(model.scores([made_up_pages.junk(kind, rng) for _ in range(10)]) < 0.5) >= 0.9


def test_code_is_not_judged_by_prose():
    none = Classifier(np.zeros(FEATURES, np.float32), -5.0)
    for source in ("code", "maths"):
        assert Quality(classifier=none)(kept := Document("x = 1", source, "n")) is kept
    web = Document("some text", "web", "n")
    assert Quality(classifier=none)(web) == Dropped("low quality") and Quality(0.001, none)(web) is web


def test_chunks_are_of_whole_lines_and_symbols_of_code():
    """Lines of 5 words; a last piece of under 30 is left out."""
    for count, sizes in ((100, [60] * 8), (102, [60] * 8 + [30]), (96, [60] * 8), (5, [])):
        text = "\n".join(f"line number {i} is here" for i in range(count))
        pieces = junk.cut(Document(text, "topics", "n"), words=60)
        assert [len(piece.text.split()) for piece in pieces] == sizes
        assert text.startswith("\n".join(piece.text for piece in pieces))
    assert junk._symbols("import os\nx = os.sep + y\n") == ["os", "x", "y"] and junk._symbols("(") == []


def test_generated_junk_is_of_its_kind_and_length():
    rng = np.random.default_rng(0)
    for kind in (*made_up_pages.GENERATED, *made_up_pages.UNSEEN):
        text = made_up_pages.junk(kind, rng, "one two three " * 100, 120)
        assert 90 <= len(text.split()) <= 200, kind
    assert sorted(made_up_pages.junk("shuffled words", rng, "a b c d", 9).split()) == list("abcd")
    with pytest.raises(ValueError, match="no junk of kind"):
        made_up_pages.junk("novels", rng)
    with pytest.raises(ValueError, match="no style"):
        made_up_pages.page(rng, "t", "b", "modern")

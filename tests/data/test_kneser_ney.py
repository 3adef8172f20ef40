"""The n-gram model against the textbook's recursion in plain Python; and xz, its rival."""

import lzma
import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from afm_ref.data import kneser_ney
from afm_ref.data.corpora import Document
from afm_ref.data.tokenizer import BOS, EOS
from experiments.train_tiny import xz_bits_per_byte


@pytest.fixture(scope="module")
def model(documents, tok):
    return kneser_ney.train(documents[:20], tok, order=4)


def test_probabilities_sum_to_one(model, documents, tok):
    """After histories that were seen, in part or not at all; also of a model of one letter."""
    seen, unseen = tok.encode(documents[3].text)[:60], tok.encode("zebra quark 77 !!")
    histories = [[BOS, BOS, BOS], [BOS, BOS, seen[0]], seen[10:13], seen[40:43], unseen[:3], [unseen[0], *seen[5:7]]]
    tiny = kneser_ney.train([Document("a", "folder", "a")], tok, order=4)
    for history, of in [*((history, model) for history in histories), (histories[0], tiny)]:
        rows = np.tile(np.array(history, dtype=np.int64), (tok.vocab_size, 1))
        p = of.probabilities(rows, np.arange(tok.vocab_size))
        assert p.min() > 0 and p.sum() == pytest.approx(1, abs=1e-12)


class Textbook:
    """Interpolated modified Kneser-Ney as Chen and Goodman write it, with dictionaries and recursion."""

    def __init__(self, streams, order, vocab_size):
        self.vocab_size = vocab_size
        self.counts = [None] * (order + 1)
        self.counts[order] = Counter(tuple(s[i : i + order]) for s in streams for i in range(len(s) - order + 1))
        for k in range(order - 1, 0, -1):
            self.counts[k] = Counter(gram[1:] for gram in self.counts[k + 1])
        self.of_counts = [None] + [Counter(counts.values()) for counts in self.counts[1:]]
        self.followers = [defaultdict(dict) for _ in range(order + 1)]
        for k in range(1, order + 1):
            for gram, count in self.counts[k].items():
                self.followers[k][gram[:-1]][gram[-1]] = count

    def discount(self, k, count):
        if count == 0:
            return 0.0
        n, c = self.of_counts[k], min(count, 3)
        d = c - (c + 1) * n[1] / (n[1] + 2 * n[2]) * n[c + 1] / n[c]
        return d if 0 < d < c else 0.5

    def p(self, history, token):
        k = len(history) + 1
        lower = self.p(history[1:], token) if history else 1 / self.vocab_size
        followers = self.followers[k].get(tuple(history))
        if followers is None:
            return lower
        total = sum(followers.values())
        kept = sum(self.discount(k, count) for count in followers.values()) / total
        count = followers.get(token, 0)
        return (count - self.discount(k, count)) / total + kept * lower


def test_against_the_textbook_recursion(documents, tok):
    train, order = documents[:6], 3
    streams = [[BOS] * (order - 1) + tok.encode(d.text).tolist() + [EOS] for d in train]
    textbook = Textbook(streams, order, tok.vocab_size)
    model = kneser_ney.train(train, tok, order)
    for sequence in (streams[0][:30], tok.encode(documents[8].text)[:25].tolist()):
        for i in range(order - 1, len(sequence)):
            history, token = sequence[i - order + 1 : i], sequence[i]
            ours = model.probabilities(np.array([history]), np.array([token]))[0]
            assert ours == pytest.approx(textbook.p(history, token), rel=1e-12)


def test_bits_per_byte_by_hand(model, tok):
    """The text '7' has two targets, its token and the end, and one byte."""
    (seven,) = tok.encode("7").tolist()
    p = model.probabilities(np.array([[BOS] * 3, [BOS, BOS, seven]]), np.array([seven, EOS]))
    found = kneser_ney.ngram_bits_per_byte(model, [Document("7", "folder", "7")], tok)
    assert found == pytest.approx(-math.log2(p[0]) - math.log2(p[1]))


def test_impossible_orders_and_empty_text_are_refused(documents, tok):
    with pytest.raises(ValueError, match="lower order"):
        kneser_ney.train(documents[:2], tok, order=7)
    with pytest.raises(ValueError, match="empty corpus"):
        kneser_ney.train([], tok)


def test_xz_knows_the_training_text(documents):
    """Repeated text costs next to nothing, new text about what xz alone needs less what it learnt."""
    train, new = documents[:30], documents[30:34]
    assert xz_bits_per_byte(train, train[:4]) < 0.1
    alone = 8 * len(lzma.compress("".join(d.text for d in new).encode(), preset=9)) / sum(len(d.text) for d in new)
    assert 0.5 * alone < xz_bits_per_byte(train, new) < alone

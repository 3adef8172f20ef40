"""A small classifier of quality: hashed words and pairs of words, then logistic regression.

    x_f = sqrt(count of feature f / count of all features),      so |x| = 1
    P(good | text) = sigmoid(b + sum_f w_f x_f)

"Good" means: like the reference texts that it was trained on, which is what such a filter
keeps, in ours as in DCLM's; what Apple's learnt from is not stated. The shipped one learnt
from Python's reference prose against kinds of junk (experiments/curation_quality.py): it is an example
of the method, no judge of the web.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .._typing import Array, Float, Int
from ..data import overlap
from ..data.corpora import Document
from ..disk import atomic, tensor_files
from . import Dropped

FEATURES = 2**14
SHIPPED = Path(__file__).with_name("quality.safetensors")
TOKEN = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|_")
LOW_QUALITY = "low quality"
MOST_CHARS = 20_000  # a document's beginning is enough to judge it
PAIR = 0x9E3779B1  # odd, so that multiplying by it loses nothing


class Rows(NamedTuple):
    """The features of some texts, row after row: those of row i are at starts[i] up to
    starts[i + 1].
    """

    features: Int[Array, " entries"]
    values: Float[Array, " entries"]
    starts: Int[Array, " rows"]  # one more than there are texts


def tokens(text: str) -> list[str]:
    """Return a text's words and marks, normalised and lower-cased, every number as "0"."""
    found = TOKEN.findall(overlap.normal(text[:MOST_CHARS]).lower())
    return ["0" if token.isdigit() else token for token in found]


@lru_cache(maxsize=200_000)
def _hash(token):
    return zlib.crc32(token.encode("utf-8", "surrogatepass"))


def features(text: str) -> tuple[Int[Array, " entries"], Float[Array, " entries"]]:
    """Return the indices of a text's features, in order, and x: the square roots of their
    shares.

    A word has the index crc32(word) mod FEATURES, a pair (crc32(a) P + crc32(b)) mod
    FEATURES: the same on every machine. Different ones may share an index. A text without
    tokens has no features.

    Source: hashed features, Weinberger et al. 2009 [standard]; words and pairs, as DCLM's
        fastText has them [standard]; square roots of shares [ours].
    Test: tests/curation/test_quality.py::test_features_by_hand
    """
    words = np.array([_hash(token) for token in tokens(text)], np.uint32)
    pairs = words[:-1] * PAIR + words[1:]
    all_hashes = np.concatenate([words, pairs]) % FEATURES
    found, counts = np.unique(all_hashes, return_counts=True)
    return found.astype(np.int64), np.sqrt(counts / max(1, counts.sum()))


def rows(texts: Sequence[str]) -> Rows:
    """Return the features of texts, one row each."""
    found, values = zip(*map(features, texts))
    starts = np.cumsum([0, *map(len, found)])
    return Rows(np.concatenate(found), np.concatenate(values), starts)


class Classifier(NamedTuple):
    """Weights w of the features and the bias b."""

    weights: Float[Array, " features"]
    bias: float

    def score(self, text: str) -> float:
        """Return P(good | text), in [0, 1]: sigmoid(b + w . x) of the text's features x.

        Source: logistic regression [standard].
        Test: tests/curation/test_quality.py::test_a_text_without_tokens_gets_the_bias
        """
        found, x = features(text)
        return float(sigmoid(self.bias + self.weights[found].astype(np.float64) @ x))

    def scores(self, texts: Sequence[str]) -> Float[Array, " texts"]:
        """Return P(good) of each text."""
        return np.array([self.score(text) for text in texts])


def sigmoid(z):
    """Return 1 / (1 + exp(-z)), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(z)))


def loss_and_gradient(classifier: Classifier, data: Rows, labels, decay: float):
    """Return the mean cross-entropy plus decay / 2 |w|^2, and its gradient by weights and
    bias.

        L = mean_i [ log(1 + exp(z_i)) - y_i z_i ] + decay / 2 |w|^2,    z = X w + b
        dL/dw = X^T (sigmoid(z) - y) / N + decay w,                        dL/db = mean(sigmoid(z) - y)

    Source: logistic regression [standard].
    Test: tests/curation/test_quality.py::test_gradient_is_that_of_finite_differences
    """
    w, (at, x, starts), N = classifier.weights, data, len(labels)
    row = np.repeat(np.arange(N), np.diff(starts))
    z = classifier.bias + np.bincount(row, w[at] * x, minlength=N)
    loss = np.mean(np.logaddexp(0, z) - labels * z) + decay / 2 * (w @ w)
    error = (sigmoid(z) - labels) / N
    return loss, Classifier(
        np.bincount(at, error[row] * x, minlength=len(w)) + decay * w, float(error.sum())
    )


def train(
    texts: Sequence[str], labels: Sequence[int], decay: float = 1e-5, steps: int = 400
) -> Classifier:
    """Return the classifier trained on texts with labels 1 (good) and 0 (junk): full
    batches, Nesterov's momentum.

    |x| = 1 and the bias is one more feature of 1, so the curvature is at most (1 + 1) / 4 +
    decay: one over that is a step that cannot overshoot. The loss is convex, and nothing is
    drawn at random. Raises ValueError unless there is a label of 0 or 1 for each text, and
    texts of both.

    Source: model-based quality filters, TR24 section 3.1, which cites DCLM [confirmed];
        this classifier [ours].
    Test: tests/curation/test_quality.py::test_training_reaches_the_optimum
    """
    labels = np.asarray(labels, np.float64)
    kinds = set(labels.tolist())
    if len(labels) != len(texts) or kinds != {0, 1}:
        raise ValueError(
            f"expected a label of 0 or 1 for each of {len(texts)} texts, and both kinds, "
            f"got {len(labels)} labels of {sorted(kinds)}"
        )
    data = rows(texts)
    step = 1 / (0.5 + decay)
    now = ahead = Classifier(np.zeros(FEATURES), 0.0)
    for t in range(steps):
        _, slope = loss_and_gradient(ahead, data, labels, decay)
        new = Classifier(*(a - step * s for a, s in zip(ahead, slope)))
        momentum = t / (t + 3)
        ahead = Classifier(*(n + momentum * (n - old) for n, old in zip(new, now)))
        now = new
    return now


def roc(scores, labels) -> tuple[Float[Array, " points"], Float[Array, " points"]]:
    """Return the share of junk and of good texts that are kept, at every threshold from the
    highest score down.

    Source: the receiver operating characteristic [standard].
    Test: tests/curation/test_quality.py::test_area_is_the_chance_of_the_right_order
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels)
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # equal scores are kept together
    good, bad = (np.append(0, np.cumsum(labels[order] == y)[last]) for y in (1, 0))
    return bad / max(1, bad[-1]), good / max(1, good[-1])


def area(scores, labels) -> float:
    """Return the area under the ROC: the chance that a good text scores above a junk one,
    ties counting half.

    Raises ValueError unless there are labels of both kinds.

    Source: the area under the ROC as the Mann-Whitney statistic [standard].
    Test: tests/curation/test_quality.py::test_area_is_the_chance_of_the_right_order
    """
    kinds = np.unique(labels).tolist()
    if kinds != [0, 1]:
        raise ValueError(f"expected labels 0 and 1, both, got {kinds}")
    return float(np.trapezoid(*reversed(roc(scores, labels))))


def save(classifier: Classifier, path) -> None:
    """Write a classifier as .safetensors, weights in 16 bits, whole or not at all."""
    from safetensors.numpy import save as packed

    tensors = {
        "weights": classifier.weights.astype(np.float16),
        "bias": np.array([classifier.bias], np.float32),
    }
    atomic.write(path, packed(tensors))


def load(path) -> Classifier:
    """Return the classifier of a file; FileNotFoundError or ValueError says what is wrong
    with it.
    """
    if not Path(path).exists():
        raise FileNotFoundError(
            f"no classifier at {path}: run `python -m experiments.curation_quality` to make it"
        )
    shapes = {"weights": (FEATURES,), "bias": (1,)}
    tensors = tensor_files.read(Path(path), shapes, "float32")
    return Classifier(tensors["weights"], float(tensors["bias"][0]))


@cache
def shipped() -> Classifier:
    """Return the classifier that comes with the package."""
    return load(SHIPPED)


@dataclass(frozen=True)
class Quality:
    """The step: a document with P(good) below the threshold is dropped; code and maths
    pass.

    Source: model-based classifiers, TR24 section 3.1 [confirmed]; the threshold [ours].
    Test: tests/curation/test_quality.py::test_code_is_not_judged_by_prose
    """

    threshold: float = 0.5
    classifier: Classifier | None = None  # None: the shipped one

    def __call__(self, document: Document) -> Document | Dropped:
        if document.source in ("code", "maths"):
            return document
        judge = self.classifier or shipped()
        is_good = judge.score(document.text) >= self.threshold
        return document if is_good else Dropped(LOW_QUALITY)

"""What a language model has to beat: an n-gram model over the same tokens, as Kneser and
Ney have it.
"""

from typing import NamedTuple

import numpy as np

from afm_ref._typing import Array, Float, Int
from afm_ref.data.tokenizer import BOS, EOS


class Level(NamedTuple):
    """The k-grams of one order: sorted keys with counts, and their contexts with totals and
    back-off weights.
    """

    grams: Int[Array, " grams"]
    discounted: Float[Array, " grams"]  # count less its discount
    contexts: Int[Array, " contexts"]
    totals: Float[Array, " contexts"]
    # the share of probability handed to the next lower order
    backoff: Float[Array, " contexts"]


class NGram(NamedTuple):
    """An interpolated n-gram model with modified Kneser-Ney discounts; `levels` from order
    1 up.
    """

    levels: tuple[Level, ...]
    vocab_size: int

    def probabilities(
        self, history: Int[Array, "M order_minus_1"], tokens: Int[Array, " M"]
    ) -> Float[Array, " M"]:
        """Return p(token | history), for histories of the last order - 1 tokens, padded
        with <|bos|> in front.

            p_k(w | h) = (c(h w) - D(c)) / c(h) + backoff(h) p_{k-1}(w | h'),   p_0 = 1 / V

        h' is h without its oldest token. Below the highest order c counts distinct left
        neighbours. An unseen history leaves p_{k-1} as it is.

        Source: Chen and Goodman 1998, modified Kneser-Ney, interpolated [standard].
        Test: tests/data/test_kneser_ney.py::test_probabilities_sum_to_one,
        tests/data/test_kneser_ney.py::test_against_the_textbook_recursion
        """
        p = np.full(len(tokens), 1.0 / self.vocab_size)
        for k, level in enumerate(self.levels, start=1):
            context = _key(history[:, history.shape[1] - k + 1 :], self.vocab_size)
            place, known = _find(level.contexts, context)
            gram, seen = _find(level.grams, context * self.vocab_size + tokens)
            top = np.where(seen, level.discounted[gram], 0.0) / level.totals[place]
            p = np.where(known, top + level.backoff[place] * p, p)
        return p


def train(documents, tokenizer, order: int = 5) -> NGram:
    """Return the n-gram model of the documents' tokens. Grams do not cross documents.

    Raises ValueError if vocab_size ** order does not fit 63 bits.
    """
    vocab_size = tokenizer.vocab_size
    if vocab_size**order >= 2**63:
        raise ValueError(
            f"order {order} with {vocab_size} tokens does not fit 64-bit keys: choose a lower order"
        )
    history, tokens = _windows(documents, tokenizer, order)
    grams, counts = np.unique(
        _key(np.column_stack([history, tokens]), vocab_size), return_counts=True
    )
    levels = []
    for k in range(order, 0, -1):
        levels.append(_level(grams, counts, vocab_size))
        # types, not occurrences
        grams, counts = np.unique(grams % vocab_size ** (k - 1), return_counts=True)
    return NGram(tuple(reversed(levels)), vocab_size)


def ngram_bits_per_byte(model: NGram, documents, tokenizer) -> float:
    """Return the bits per byte of text, over the same targets (<|eos|> included) as a
    language model's evaluation.
    """
    history, tokens = _windows(documents, tokenizer, len(model.levels))
    bits = -np.log2(model.probabilities(history, tokens)).sum()
    return float(bits / tokenizer.byte_lengths(tokens).sum())


def _windows(documents, tokenizer, order):
    """Return (history [M, order-1], token [M]) for every token of every document, its
    <|eos|> included.
    """
    streams = []
    for document in documents:
        ids = tokenizer.encode(document.text, markers=document.markers)
        streams.append(np.concatenate([np.full(order - 1, BOS), ids, [EOS]]))
    if not streams:
        raise ValueError("empty corpus: there is no document to count")
    windows = np.concatenate(
        [np.lib.stride_tricks.sliding_window_view(s, order) for s in streams]
    ).astype(np.int64)
    return windows[:, :-1], windows[:, -1]


def _key(tokens, vocab_size):
    """Return each row of tokens as one number, the first token's place the highest."""
    return tokens @ vocab_size ** np.arange(tokens.shape[1])[::-1]


def _find(sorted_keys, keys):
    place = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    return place, sorted_keys[place] == keys


def _level(grams, counts, vocab_size):
    discounts = _discounts(counts)[np.minimum(counts, 3)]
    contexts, owner = np.unique(grams // vocab_size, return_inverse=True)
    totals = np.bincount(owner, weights=counts)
    backoff = np.bincount(owner, weights=discounts) / totals
    return Level(grams, counts - discounts, contexts, totals, backoff)


def _discounts(counts):
    """Return what to take from counts of 0, 1, 2 and 3 or more.

        D_c = c - (c + 1) Y n_{c+1} / n_c,  Y = n_1 / (n_1 + 2 n_2),  n_c = how many grams occur c times

    Where a count of counts is missing (tiny texts) or the estimate leaves (0, c), half a
    count is taken.
    """
    n = np.bincount(np.minimum(counts, 5), minlength=5).astype(float)
    if not n[1:5].all():
        return np.array([0.0, 0.5, 0.5, 0.5])
    y = n[1] / (n[1] + 2 * n[2])
    estimates = [c - (c + 1) * y * n[c + 1] / n[c] for c in (1, 2, 3)]
    return np.array([0.0, *(d if 0 < d < c else 0.5 for c, d in enumerate(estimates, 1))])

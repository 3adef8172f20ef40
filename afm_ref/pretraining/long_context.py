"""A longer window: the base of RoPE that it takes, and loss by position, early and late in
long documents and beyond the window.
"""

import math
from typing import NamedTuple

import numpy as np

from .._typing import Array, Float, Int
from ..config import AFMConfig
from ..data.tokenizer import BOS
from ..losses import token_log_probs
from ..transformer import forward
from ..weights import Params


def rope_base(base: float, T_train: int, T: int) -> float:
    """Return the RoPE base for windows of T tokens of a model trained with `base` on
    windows of T_train.

        base' = base^( ln(T / 2 pi) / ln(T_train / 2 pi) )        500000, 8192, 32768 -> 6,315,089

    Pair i of H/2 turns by base^(-2 i / H) a position: its wavelength is 2 pi base^(2 i / H).
    The pairs below the critical dimension, 2 i / H < ln(T_train / 2 pi) / ln(base),
    complete a turn within the window in training; those above have not seen all of their
    angles. base' is the one at which that same share of the pairs completes a turn within
    T. Raises ValueError for a base of at most 1 or windows of at most 2 pi tokens.

    Source: Liu et al. 2023 "Scaling laws of RoPE-based extrapolation" [standard]; the base
        6,315,089 of TR24 section 3.2 [confirmed], which the rule gives to the digit
        [inferred].
    Test: tests/pretraining/test_stages.py::test_the_rule_gives_the_published_base,
        tests/pretraining/test_stages.py::test_the_rule_keeps_the_share_of_pairs_that_turn
    """
    if not base > 1 or min(T_train, T) <= 2 * math.pi:
        raise ValueError(
            f"base {base} must be above 1, and windows {T_train} and {T} above 2 pi tokens"
        )
    return base ** (math.log(T / (2 * math.pi)) / math.log(T_train / (2 * math.pi)))


class ByPosition(NamedTuple):
    """Mean nats a token in bins of positions: bin i holds the targets edges[i] + 1 ..
    edges[i + 1] of each document.
    """

    edges: Int[Array, " bins_plus_1"]
    nats: Float[Array, " bins"]
    counts: Int[Array, " bins"]  # targets in each bin, over all documents


def loss_by_position(
    params: Params, cfg: AFMConfig, documents, tok, length: int, bins=16, seen=None
) -> ByPosition:
    """Return the mean nats at each position of documents longer than `length` tokens, each
    alone in its row.

        nats(bin) = mean over documents d and positions t in the bin of -log p(x_dt | <bos> x_d1 .. x_d,t-1)

    No packing: position t is t tokens behind the document's beginning. Documents that are
    not longer are left out. bins: how many equal ones, or their edges 0 = e_0 < ... =
    length. seen: how many tokens the model is shown at most, if not all; see
    `truncated_nats`. Raises ValueError if no document is long enough.

    Source: how long-context models are compared, for example Xiong et al. 2023 [standard].
    Test: tests/pretraining/test_stages.py::test_loss_by_position_by_hand
    """
    edges = _edges(bins, length)
    rows = long_rows(documents, tok, length)
    if not len(rows):
        raise ValueError(
            f"no document is longer than {length} tokens: give a shorter length or longer documents"
        )
    # [documents, length]
    nats = (
        truncated_nats(params, cfg, rows, seen) if seen else token_nats(params, cfg, rows)
    )
    sums = np.add.reduceat(nats.sum(axis=0, dtype=np.float64), edges[:-1])
    counts = np.diff(edges) * len(rows)
    return ByPosition(edges, sums / counts, counts)


def long_rows(documents, tok, length: int) -> Int[Array, "documents T_plus_1"]:
    """Return <|bos|> and the first `length` tokens of each document that has more than
    that.
    """
    encoded = (
        tok.encode(document.text, markers=document.markers) for document in documents
    )
    rows = [np.concatenate([[BOS], ids[:length]]) for ids in encoded if len(ids) > length]
    return np.array(rows, np.int32).reshape(len(rows), length + 1)


def token_nats(
    params: Params, cfg: AFMConfig, rows: Int[Array, "rows T_plus_1"]
) -> Float[Array, "rows T"]:
    """Return -log p of every token of the rows but the first, a row at a time: long ones
    are large.
    """
    return np.array([nats for nats, _ in _judged(params, cfg, rows)])


def _judged(params, cfg, rows):
    """Yield (nats, whether it was the most likely) of the tokens of a row, row by row."""
    import jax

    def judged(params, row):
        logits, targets = forward(params, row[None, :-1], cfg), row[None, 1:]
        right = logits.argmax(axis=-1) == targets
        return -token_log_probs(logits, targets)[0], right[0]

    compiled, params = jax.jit(judged), jax.device_put(params)
    for row in rows:
        yield map(np.asarray, compiled(params, row))


def truncated_nats(
    params: Params, cfg: AFMConfig, rows: Int[Array, "rows T_plus_1"], seen: int
):
    """Return -log p of every token of the rows but the first, [rows, T], from a window that
    moves by half its width.

    The first `seen` tokens are predicted as in `token_nats`; later ones with <|bos|> and
    the last seen/2 to seen - 1 tokens before them. What a model of that window does with a
    long document, so what any longer one has to beat. Raises ValueError unless seen is
    even, at most T, and T a multiple of seen/2.

    Source: evaluation by a sliding window with a stride [standard].
    Test: tests/pretraining/test_stages.py::test_a_moving_window_shows_the_last_tokens_alone
    """
    length, half = rows.shape[1] - 1, seen // 2
    if seen < 2 or seen % 2 or seen > length or length % half:
        raise ValueError(
            f"seen must be even and cut {length} tokens in whole halves, got {seen}"
        )
    starts = range(0, length - seen + 1, half)
    # [starts, rows, seen + 1]
    pieces = np.stack([rows[:, s : s + seen + 1] for s in starts])
    pieces[..., 0] = BOS
    nats = token_nats(params, cfg, pieces.reshape(-1, seen + 1)).reshape(
        len(starts), len(rows), seen
    )
    return np.concatenate([nats[0], *nats[1:, :, half:]], axis=1)


class AnswerLoss(NamedTuple):
    """One answer of a long document: how far back it was told, in tokens, and how the model
    did on its tokens.
    """

    distance: int
    nats: float  # a token
    right: float  # share of its tokens that were the most likely


def answer_losses(params: Params, cfg: AFMConfig, documents) -> list[AnswerLoss]:
    """Return each answer's loss in `data.long_qa` documents, with the tokens before it
    given (teacher forcing).

    Documents are padded to the longest. Chance, for a digit, is ln 10 = 2.303 nats and 0.1
    right.
    """
    longest, found = max(len(d.tokens) for d in documents), []
    rows = (np.pad(d.tokens, (0, longest - len(d.tokens))) for d in documents)
    for document, (nats, right) in zip(documents, _judged(params, cfg, rows)):
        for answer in document.answers:
            # row[t + 1] is the target of t
            at = slice(answer.asked[0] - 1, answer.asked[1] - 1)
            found.append(
                AnswerLoss(answer.distance, float(nats[at].mean()), float(right[at].mean()))
            )
    return found


def _edges(bins, length):
    edges = np.asarray(bins)
    if isinstance(bins, int):
        edges = np.linspace(0, length, bins + 1).round().astype(int)
    if len(edges) < 2 or edges[0] != 0 or edges[-1] != length or (np.diff(edges) < 1).any():
        raise ValueError(
            f"bins {bins} must give edges that rise from 0 to {length}, the length"
        )
    return edges

"""Documents to rows of tokens, and rows to batches that depend on (seed, step) alone.

All documents form one stream, each as <|bos|> tokens <|eos|>. A row holds T + 1 tokens of
it and begins with the last token of the row before, so that every token of the stream but
the first is a target exactly once. A target that begins another document has weight 0, and
no token attends to another document.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from afm_ref._typing import Array, Bool, Int
from afm_ref.data.tokenizer import BOS, EOS, PAD
from afm_ref.losses import Batch

NO_DOCUMENT = -1  # the document number of padding


class Packed(NamedTuple):
    """Rows of T + 1 tokens, the number of each token's document (-1 for padding), and which
    may be targets.
    """

    tokens: Int[Array, "rows T_plus_1"]
    documents: Int[Array, "rows T_plus_1"]
    trained: Bool[Array, "rows T_plus_1"]
    text_bytes: int  # UTF-8 bytes of the text in all rows, special tokens not counted


def pack(documents, tokenizer, seq_len: int, progress: bool = False) -> Packed:
    """Return documents packed into rows of seq_len inputs and as many targets.

    Raises ValueError for an empty corpus or one that does not fill a single row.

    Source: packing with document boundaries [standard].
    Test: tests/data/test_packing.py::test_every_token_is_a_target_once, tests/data/test_packing.py::test_rows_by_hand
    """
    stream, owners = _stream(documents, tokenizer, progress)
    if len(stream) < seq_len + 1:
        raise ValueError(
            f"corpus too short: {len(stream)} tokens do not fill one row of seq_len {seq_len} (+1)"
        )
    return _rows(stream, owners, seq_len, tokenizer)


def pack_for_evaluation(documents, tokenizer, seq_len: int) -> Packed:
    """Return held-out documents as rows. Like `pack`, but a short corpus is padded instead
    of refused.

    bits per byte = (sum of the nats of all targets of weight 1) / ln 2 / text_bytes. The
    nats of <|eos|> and of turn markers count, their bytes do not: that can only make the
    result worse.
    """
    return _rows(*_stream(documents, tokenizer), seq_len, tokenizer)


def pack_conversations(conversations, tokenizer, seq_len: int) -> Packed:
    """Return conversations (of chat.chat_tokens) in rows, as many in a row as fit whole, in
    the order given.

    Only the assistant's tokens are targets, and no token attends to another conversation.
    Shuffle the conversations first where a row should hold several kinds. Raises ValueError
    for a conversation longer than a row.
    """
    rows = _fill_rows([len(ids) for ids, _ in conversations], seq_len + 1)
    shape = (1 + max((row for row, _ in rows), default=-1), seq_len + 1)
    tokens, documents = np.full(shape, PAD, np.int32), np.full(shape, NO_DOCUMENT, np.int32)
    trained = np.zeros(shape, bool)
    for number, ((ids, start), (row, at)) in enumerate(zip(conversations, rows)):
        end = at + len(ids)
        tokens[row, at:end], documents[row, at:end] = ids, number
        trained[row, at + start : end] = True
    text_bytes = int(tokenizer.byte_lengths(tokens[trained]).sum())
    return Packed(tokens, documents, trained, text_bytes)


def _fill_rows(lengths, capacity):
    """Return (row, offset) for each length: beside the one before it if it still fits
    there, else in a new row.
    """
    places, row, used = [], -1, capacity
    for number, length in enumerate(lengths):
        if length > capacity:
            raise ValueError(
                f"conversation {number} has {length} tokens, a row holds {capacity}: raise seq_len"
            )
        if used + length > capacity:
            row, used = row + 1, 0
        places.append((row, used))
        used += length
    return places


def batches(packed: Packed, batch_size: int, seed: int = 0):
    """Return a function step -> Batch, pure: the same (seed, step) gives the same batch in
    any order, on any machine.

    Every row comes once an epoch, in an order drawn from (seed, epoch); epochs follow each
    other without a gap. Raises ValueError if there are fewer rows than batch_size.
    """
    numbers = row_numbers(len(packed.tokens), batch_size, seed)

    def batch(step) -> Batch:
        return batch_of(packed, numbers(step))

    return batch


def row_numbers(rows: int, batch_size: int, seed: int = 0):
    """Return a function step -> the numbers [B] of the rows in that batch, as `batches`
    describes it.
    """
    if not 1 <= batch_size <= rows:
        raise ValueError(
            f"batch_size {batch_size} does not fit the corpus of {rows} rows: choose 1..{rows}"
        )

    @lru_cache(maxsize=2)
    def order(epoch):
        return np.random.default_rng((seed, epoch)).permutation(rows)

    def numbers(step):
        places = step * batch_size + np.arange(batch_size)
        return np.array([order(int(place) // rows)[place % rows] for place in places])

    return numbers


def evaluation_batches(packed: Packed, batch_size: int) -> list[Batch]:
    """Return all rows once, in order, as batches of one shape (the last filled with empty
    rows of weight 0).
    """
    missing = ((0, -len(packed.tokens) % batch_size), (0, 0))
    whole = packed._replace(
        tokens=np.pad(packed.tokens, missing, constant_values=PAD),
        documents=np.pad(packed.documents, missing, constant_values=NO_DOCUMENT),
        trained=np.pad(packed.trained, missing),
    )
    numbers = np.arange(len(whole.tokens)).reshape(-1, batch_size)
    return [batch_of(whole, rows) for rows in numbers]


def batch_of(packed: Packed, rows: Int[Array, " B"]) -> Batch:
    """Return the given rows as a Batch: targets one to the right of tokens, weight 1 within
    a document, else 0.
    """
    tokens, documents, trained = (x[rows] for x in packed[:3])
    here, after = documents[:, :-1], documents[:, 1:]
    counts = (after == here) & (after != NO_DOCUMENT) & trained[:, 1:]
    return Batch(tokens[:, :-1], tokens[:, 1:], counts.astype(np.float32), here)


def _stream(documents, tokenizer, progress=False):
    from tqdm.auto import tqdm

    documents = list(documents)
    if not documents:
        raise ValueError("empty corpus: there is no document to pack")
    pieces, owners = [], []
    for number, document in enumerate(
        tqdm(documents, desc="tokenizing", disable=not progress)
    ):
        ids = tokenizer.encode(document.text, markers=document.markers)
        pieces.append(np.concatenate([[BOS], ids, [EOS]]).astype(np.int32))
        owners.append(np.full(len(ids) + 2, number, np.int32))
    return np.concatenate(pieces), np.concatenate(owners)


def _rows(stream, owners, seq_len, tokenizer):
    count = max(1, -(-(len(stream) - 1) // seq_len))
    missing = count * seq_len + 1 - len(stream)
    stream = np.pad(stream, (0, missing), constant_values=PAD)
    owners = np.pad(owners, (0, missing), constant_values=NO_DOCUMENT)
    places = np.arange(count)[:, None] * seq_len + np.arange(seq_len + 1)
    tokens, documents = stream[places], owners[places]
    text_bytes = int(tokenizer.byte_lengths(stream).sum())
    return Packed(tokens, documents, documents != NO_DOCUMENT, text_bytes)

"""Rows and batches: a case by hand, and the properties that every corpus must keep."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref.data import packing, tasks
from afm_ref.data.corpora import Document
from afm_ref.data.tokenizer import BOS, END, EOS, PAD


def documents_of(texts):
    return [Document(text, "folder", str(i)) for i, text in enumerate(texts)]


def test_rows_by_hand(tok):
    """Two documents, a row of 4: 1 a b c 2 | 1 d 2, with a..d the tokens of digits."""
    a, b, c, d = tok.encode("1234").tolist()
    packed = packing.pack(documents_of(["123", "4"]), tok, seq_len=4)
    batch = packing.batch_of(packed, np.arange(len(packed.tokens)))
    assert batch.tokens.tolist() == [[BOS, a, b, c], [EOS, BOS, d, EOS]]
    assert batch.targets.tolist() == [[a, b, c, EOS], [BOS, d, EOS, PAD]]
    assert batch.weights.tolist() == [[1, 1, 1, 1], [0, 1, 1, 0]]
    assert batch.documents.tolist() == [[0, 0, 0, 0], [0, 1, 1, 1]]
    assert packed.text_bytes == 4


TEXTS = st.lists(st.text("ab 1\n\u00e9", max_size=30), min_size=2, max_size=8)


@given(texts=TEXTS, seq_len=st.integers(2, 9), batch_size=st.integers(1, 5), seed=st.integers(0, 5))
@settings(max_examples=25)
def test_every_token_is_a_target_once(tok, texts, seq_len, batch_size, seed):
    """In one epoch the weighted targets are exactly the documents' tokens and ends; and each follows its own input."""
    if sum(len(tok.encode(text)) + 2 for text in texts) < seq_len + 1:
        with pytest.raises(ValueError, match="too short"):
            packing.pack(documents_of(texts), tok, seq_len)
        return
    packed = packing.pack(documents_of(texts), tok, seq_len)
    rows = len(packed.tokens)
    batch_at = packing.batches(packed, min(batch_size, rows), seed)
    seen, expected = Counter(), Counter()
    for batch in map(batch_at, range(rows)):  # batch_size whole epochs
        kept = batch.weights == 1
        seen.update(zip(batch.documents[kept].tolist(), batch.tokens[kept].tolist(), batch.targets[kept].tolist()))
    for number, text in enumerate(texts):
        ids = [BOS, *tok.encode(text).tolist(), EOS]
        expected.update((number, a, b) for a, b in itertools.pairwise(ids))
    assert seen == Counter({pair: count * min(batch_size, rows) for pair, count in expected.items()})
    assert packed.text_bytes == sum(len(text.encode()) for text in texts)


def test_batches_are_pure(tok, documents):
    def same(a, b):
        return all(map(np.array_equal, a, b))

    packed = packing.pack(documents, tok, 64)
    steps = [7, 0, 7, 400, 3, 401, 0]
    first, second = packing.batches(packed, 8, seed=1), packing.batches(packed, 8, seed=1)
    forward = {step: first(step) for step in sorted(set(steps))}
    assert all(same(second(step), forward[step]) for step in steps)
    assert not same(packing.batches(packed, 8, seed=2)(0), forward[0])
    assert [x.dtype for x in forward[0]] == [np.int32, np.int32, np.float32, np.int32]
    assert {x.shape for x in forward[0]} == {(8, 64)}
    epochs = packing.batches(packed, len(packed.tokens), seed=0)
    assert not same(epochs(0), epochs(1))  # each in an order of its own
    with pytest.raises(ValueError, match="does not fit"):
        packing.batches(packed, len(packed.tokens) + 1)


def test_evaluation_covers_everything_once(tok, documents):
    """A short text is padded; none at all is refused."""
    held_out = documents[:7]
    packed = packing.pack_for_evaluation(held_out, tok, 50)
    found = packing.evaluation_batches(packed, 4)
    assert {batch.tokens.shape for batch in found} == {(4, 50)}
    assert sum(batch.weights.sum() for batch in found) == sum(len(tok.encode(d.text)) + 1 for d in held_out)
    assert packed.text_bytes == sum(len(d.text.encode()) for d in held_out)
    short = packing.pack_for_evaluation(documents_of(["1"]), tok, 50)
    assert short.tokens.shape == (1, 51) and packing.batch_of(short, np.arange(1)).weights.sum() == 2
    with pytest.raises(ValueError, match="empty corpus"):
        packing.pack_for_evaluation([], tok, 8)


def test_conversations_train_the_response_alone(tok):
    records = tasks.records("sums", 7)
    conversations = [tasks.chat_tokens(tok, record.prompt, record.reference) for record in records]
    longest = max(len(ids) for ids, _ in conversations)
    packed = packing.pack_conversations(conversations, tok, 2 * longest)
    assert len(packed.tokens) < len(records)  # several in a row
    batch = packing.batch_of(packed, np.arange(len(packed.tokens)))
    for number, (record, (ids, _)) in enumerate(zip(records, conversations)):
        here = packed.documents == number
        assert packed.tokens[here].tolist() == ids.tolist()
        assert len(set(np.nonzero(here)[0])) == 1  # whole, in one row
        kept = (batch.documents == number) & (batch.weights == 1)
        assert batch.targets[kept].tolist() == [*tok.encode(record.reference).tolist(), END]
    assert batch.weights.sum() == sum(len(ids) - start for ids, start in conversations)
    with pytest.raises(ValueError, match="raise seq_len"):
        packing.pack_conversations(conversations, tok, 5)

"""Rows, batches and mixtures: cases by hand, and the properties that every corpus must keep."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from afm_ref.data import packing, tasks
from afm_ref.data.corpora import Document
from afm_ref.data.mixing import checked_shares, mix, part_order
from afm_ref.data.packing import Packed
from afm_ref.data.tokenizer import BOS, END, EOS, PAD

TEXTS = st.lists(st.text("ab 1\n\u00e9", max_size=30), min_size=2, max_size=8)


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


def rows(start, count, length=5):
    """Return a Packed whose k-th row holds the number start + k alone."""
    tokens = np.repeat(np.arange(start, start + count, dtype=np.int32)[:, None], length, axis=1)
    return Packed(tokens, np.zeros_like(tokens), np.ones(tokens.shape, bool), count)


PARTS = {"web": rows(0, 7), "code": rows(100, 5), "maths": rows(200, 3)}
WEIGHTS = {"web": 2, "code": 1, "maths": 1}


def numbers(batch):
    return batch.tokens[:, 0].tolist()


@settings(max_examples=25)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=6).filter(lambda w: sum(w) > 0.01))
@example([0.0, 1.0])  # Megatron-LM's own rule would take the second row from the part of weight 0
def test_shares_are_within_the_bound_at_every_moment(weights):
    """Counted anew: never ahead by more than 1 - 1/K rows, nor behind by more than the others can be ahead."""
    shares = tuple(w / sum(weights) for w in weights)
    part, turn = part_order(shares, 1)
    counts = np.cumsum(part[:, None] == np.arange(len(shares)), axis=0)
    ahead = counts - np.arange(1, len(part) + 1)[:, None] * np.array(shares)
    K = len(shares)
    assert ahead.max() <= 1 - 1 / K + 1e-9 and -ahead.min() <= (K - 1) * (1 - 1 / K) + 1e-9
    assert not set(part) & {k for k, share in enumerate(shares) if share == 0}
    for k in range(K):  # the turns of a part are 0, 1, 2, ...
        np.testing.assert_array_equal(turn[part == k], np.arange((part == k).sum()))


def test_order_by_hand():
    """Shares 1/2, 1/4, 1/4. The most behind is a; then b (.5 against a's 1 - 1); then c (.75); then a (2 - 1)."""
    part, turn = part_order((0.5, 0.25, 0.25), 8)
    assert part[:8].tolist() == [0, 1, 2, 0] * 2 and turn[:8].tolist() == [0, 0, 0, 1, 2, 1, 1, 3]
    longer, _ = part_order((0.5, 0.25, 0.25), len(part) + 1)  # begins alike
    assert len(longer) == 2 * len(part) and (longer[: len(part)] == part).all()


def test_every_row_of_a_part_once_an_epoch():
    """In 28 rows of shares 2 : 1 : 1 come 14 of web, two epochs; the first 5 and 3 of the others are one epoch each."""
    batch = mix(PARTS, WEIGHTS, 4, seed=1)
    drawn = [n for step in range(7) for n in numbers(batch(step))]
    web, code, maths = ([n for n in drawn if low <= n < low + 100] for low in (0, 100, 200))
    assert Counter(web) == Counter(dict.fromkeys(range(7), 2)) and sorted(web[:7]) == list(range(7))
    assert web[:7] != web[7:]  # another order in the second epoch
    assert sorted(code[:5]) == list(range(100, 105)) and sorted(maths[:3]) == [200, 201, 202]


def test_mixed_batches_are_pure():
    forwards = [numbers(mix(PARTS, WEIGHTS, 3, seed=5)(step)) for step in range(6)]
    batch = mix(PARTS, WEIGHTS, 3, seed=5)
    assert [numbers(batch(step)) for step in reversed(range(6))][::-1] == forwards
    assert [numbers(mix(PARTS, WEIGHTS, 3, seed=6)(step)) for step in range(6)] != forwards
    assert [numbers(mix(PARTS, WEIGHTS, 3, seed=(5, 1))(step)) for step in range(6)] != forwards


def test_one_part_more_leaves_the_order_within_the_others():
    def code(weights):
        drawn = (n for step in range(8) for n in numbers(mix(PARTS, weights, 5, seed=2)(step)))
        return [n for n in drawn if 100 <= n < 200][:10]

    assert code({"code": 1}) == code({"code": 1, "web": 1}) == code({"maths": 1, "code": 2, "web": 1})
    assert code({"code": 0.5, "poems": 0}) == code({"code": 1})  # weight 0 needs no rows


def test_bad_weights_and_rows_are_refused():
    told = {"at least 0": dict(web=-1, code=2), "finite": dict(web=float("nan")), "above 0": dict(web=0, code=0)}
    told[r"no rows of \['poems'\]"] = dict(web=1, poems=1)
    for message, weights in told.items():
        with pytest.raises(ValueError, match=message):
            checked_shares(weights, {"web": 3, "code": 1})
    with pytest.raises(ValueError, match=r"\[5, 6\] tokens"):
        mix({"web": rows(0, 3), "code": rows(0, 3, 6)}, {"web": 1, "code": 1}, 2)
    with pytest.raises(ValueError, match="batch_size is 0"):
        mix(PARTS, WEIGHTS, 0)

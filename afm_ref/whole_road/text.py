"""The text of palettization and recovery: of pre-training, and what the model says."""

import numpy as np

from ..data import packing, pretraining_text
from ..post_training.sft import packed_examples

SEQ_LEN = 256  # tokens in a row, as in pre-training
TEXT_SHARE = 0.1  # of the rows: both kinds then have about as many targets


def documents():
    """Return (training, held-out) documents of the shipped model's pre-training."""
    return pretraining_text.pretraining_documents(0, progress=False)


def mixed_rows(bench, policy, documents, seed) -> packing.Packed:
    """Return rows of conversations and of pre-training text, in random order.

    The policy answers prompts of every task, at temperature 1: what it says is what it is
    to go on saying. Apple's recovery uses the data of pre- and post-training.

    Source: TR24 section 5 (accuracy-recovery adapters) [confirmed]; shares [ours].
    Test: tests/whole_road/test_measuring.py::test_both_kinds_have_about_as_many_targets
    """
    records = bench.records(bench.sizes.conversations, seed=70 + seed)
    groups = bench.sample(policy, records, 1, seed)
    said = [(record.prompt, response) for record, (response,) in zip(records, groups)]
    chats = packed_examples(said, bench.tok, SEQ_LEN, seed)
    text = packing.pack(documents, bench.tok, SEQ_LEN)
    rng = np.random.default_rng((seed, 70))
    count = min(
        len(text.tokens), max(1, round(len(chats.tokens) * TEXT_SHARE / (1 - TEXT_SHARE)))
    )
    some = rng.choice(len(text.tokens), count, replace=False)
    whole = [np.concatenate([a, b[some]]) for a, b in zip(chats[:3], text[:3])]
    order = rng.permutation(len(whole[0]))
    return packing.Packed(*(field[order] for field in whole), 0)

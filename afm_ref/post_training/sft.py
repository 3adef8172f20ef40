"""Supervised fine-tuning on (prompt, response) examples, with the prompt masked."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from ..config import AFMConfig
from ..data.packing import Packed, batches, pack_conversations
from ..data.tasks import Record
from ..losses import next_token
from ..training import FitResult, fit
from ..weights import Params
from .responses import Response, written
from .rows import conversation


def examples_of(records: Sequence[Record], tokenizer) -> list[tuple[str, Response]]:
    """Return (prompt, reference) of records, as SFT takes them."""
    return [(record.prompt, written(tokenizer, record.reference)) for record in records]


def packed_examples(
    examples: Sequence[tuple[str, Response]], tokenizer, seq_len: int, seed: int = 0
) -> Packed:
    """Return examples in rows of seq_len, in random order; only responses are targets."""
    order = np.random.default_rng(seed).permutation(len(examples))
    return pack_conversations(
        [conversation(tokenizer, *examples[i]) for i in order], tokenizer, seq_len
    )


def fine_tune(
    params: Params,
    cfg: AFMConfig,
    tokenizer,
    examples: Sequence[tuple[str, Response]],
    optimizer,
    steps: int,
    *,
    batch_size: int = 4,
    seq_len: int = 128,
    seed: int = 0,
    **settings,
) -> FitResult:
    """Return the weights after `steps` updates on the examples' responses.

        L = - sum over responses of log pi(y|x) / sum over responses of |y|

    settings go to `training.fit`. Apple's rates are 2e-5 on device and 5e-6 on server, with
    dropout 0.1, which is left out. Raises ValueError for no examples, and for one longer
    than a row.

    Source: TR24 section 4 (SFT; rates, dropout) [confirmed]; masked prompts [standard].
    Test: tests/post_training/test_members.py::test_loss_is_that_of_whole_responses
    """
    if not examples:
        raise ValueError(
            "no examples to fine-tune on: curation or rejection sampling has left none"
        )
    packed = packed_examples(examples, tokenizer, seq_len, seed)
    feed = batches(packed, min(batch_size, len(packed.tokens)), seed)
    return fit(params, partial(next_token, cfg=cfg), feed, optimizer, steps, **settings)

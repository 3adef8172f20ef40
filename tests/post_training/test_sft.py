"""SFT: the loss in packed rows is that of whole responses, and the prompt is no target."""

import math

import numpy as np
import optax
import pytest

from afm_ref.data import tasks
from afm_ref.data.packing import batch_of
from afm_ref.losses import next_token
from afm_ref.post_training import sft
from afm_ref.post_training.responses import sampled, written
from afm_ref.post_training.rows import conversation, pad, sequence_log_probs
from afm_ref.transformer import init
from tests.post_training.models import TEXT_CFG, params64, tokenizer

TOK = tokenizer()
EXAMPLES = sft.examples_of([record for task in tasks.TASKS for record in tasks.records(task, 3)], TOK)
EXAMPLES += [("Where?", written(TOK, "")), ("Who?", sampled(TOK, TOK.encode("the park and")))]


def test_loss_is_that_of_whole_responses():
    """Several conversations in a row, none seeing another, against each one alone in a padded row."""
    params = params64(cfg=TEXT_CFG)
    packed = sft.packed_examples(EXAMPLES, TOK, 160, seed=2)
    total, count = next_token(params, batch_of(packed, np.arange(len(packed.tokens))), TEXT_CFG)
    log_probs = sequence_log_probs(params, pad([conversation(TOK, *e) for e in EXAMPLES]), TEXT_CFG)
    assert len(packed.tokens) < len(EXAMPLES) / 2
    assert total == pytest.approx(-log_probs.sum(), rel=1e-10)
    assert count == sum(len(response.tokens) for _, response in EXAMPLES)


def test_a_few_steps_lower_the_loss():
    settings = dict(batch_size=8, seq_len=160, progress=False)
    done = sft.fine_tune(init(TEXT_CFG, 0), TEXT_CFG, TOK, EXAMPLES, optax.adam(0.02), 6, **settings)
    assert done.history.loss[0] == pytest.approx(math.log(2048), rel=0.2)
    assert done.history.loss[-1] < done.history.loss[0] - 0.5


def test_nothing_to_learn_from_is_refused():
    with pytest.raises(ValueError, match="no examples"):
        sft.fine_tune(init(TEXT_CFG, 0), TEXT_CFG, TOK, [], optax.adam(0.1), 1)
    with pytest.raises(ValueError, match="raise seq_len"):
        sft.packed_examples(EXAMPLES, TOK, 16)

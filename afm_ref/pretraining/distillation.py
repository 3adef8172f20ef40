"""Distillation as AFM-on-device was trained: the target is nine tenths the teacher's most
likely token.

loss, batches = partial(mixed_target, cfg=cfg), taught(batches, teacher, teacher_cfg)
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from .._typing import Array, Int
from ..config import AFMConfig
from ..losses import Batch, token_log_probs, weighted
from ..ops import stop_gradient
from ..transformer import Causal, forward, hidden, logits
from ..weights import Params

SHARE = 0.9  # of the teacher's token in the target; Apple's


class Taught(NamedTuple):
    """A `losses.Batch` with the teacher's most likely next token beside the true one."""

    batch: Batch
    teacher: Any  # [B, T] int: what the teacher holds to be the next token


def mixed_target(
    params: Params, taught_batch: Taught, cfg: AFMConfig, share: float = SHARE
):
    """Return (sum, count) of the cross-entropy with a target of two tokens, the teacher's
    and the true one, in nats.

        q = share onehot(teacher) + (1 - share) onehot(y),   sum = - sum_t w_t sum_v q_tv log p_tv
        d sum / d logits_t = w_t (p_t - q_t)

    No whole distribution of the teacher and no temperature. share 0 is `losses.next_token`.
    Where both tokens are the same it is the plain cross-entropy; where they differ it is at
    least the entropy of (share, 1 - share): at 0.9 that is 0.325 nats which no student can
    get below, so these losses are not to be compared with those of next_token.

    Source: TR24 section 3.2 (0.9 the teacher's top-1 label, 0.1 the true label)
        [confirmed].
    Test: tests/pretraining/test_losses.py::test_the_loss_is_the_cross_entropy_with_the_mixed_target,
        tests/pretraining/test_losses.py::test_the_gradient_by_finite_differences_and_none_through_the_teacher
    """
    if not 0 <= share <= 1:
        raise ValueError(
            f"share is the teacher's part of the target, 0 to 1; got {share!r}"
        )
    batch, teacher = taught_batch
    z = forward(params, batch.tokens, cfg, None, Causal(batch.documents))
    log_probs = share * token_log_probs(z, teacher) + (1 - share) * token_log_probs(
        z, batch.targets
    )
    return weighted(-log_probs, batch.weights)


def top_tokens(teacher: Params, batch: Batch, cfg: AFMConfig) -> Int[Array, "B T"]:
    """Return the token that the teacher finds most likely after each position; of equal
    ones the lowest number.

        argmax_v teacher(v | x_<=t)

    The logits are made row by row, so that [T, V] of them are held at a time. No gradient
    reaches the teacher.

    Source: TR24 section 3.2 (top-1 label of the teacher) [confirmed].
    Test: tests/pretraining/test_losses.py::test_top_tokens_equal_the_argmax_of_all_logits
    """
    x, _ = hidden(teacher, batch.tokens, cfg, attend=Causal(batch.documents))
    x = stop_gradient(x)  # argmax has no gradient either, so none reaches the output head
    if isinstance(x, np.ndarray):
        return np.stack([logits(teacher, row).argmax(axis=-1) for row in x])
    return jax.lax.map(lambda row: logits(teacher, row).argmax(axis=-1), x)


def taught(batches: Callable, teacher: Params, cfg: AFMConfig) -> Callable:
    """Return step -> `Taught`: the batches with the tokens of the teacher, whose config
    this is.

    As pure a function of the step as `batches` is. Compiled once, with the teacher's
    weights as its argument.
    """
    compiled, teacher = jax.jit(partial(top_tokens, cfg=cfg)), jax.device_put(teacher)

    def batch_of(step) -> Taught:
        batch = batches(step)
        return Taught(batch, compiled(teacher, batch))

    return batch_of


def check_vocabularies(
    cfg: AFMConfig, teacher_cfg: AFMConfig, tokenizer=None, teacher_tokenizer=None
) -> None:
    """Raise ValueError unless the teacher's tokens are the student's: in number, and in
    meaning where both are known.

    tokenizer, teacher_tokenizer: a `data.tokenizer.Tokenizer` each, compared by what each
    token stands for.
    """
    if cfg.vocab_size != teacher_cfg.vocab_size:
        raise ValueError(
            f"the teacher knows {teacher_cfg.vocab_size} tokens and the student {cfg.vocab_size}: its labels would "
            "name other tokens; give a teacher with the student's tokenizer"
        )
    if (
        tokenizer is not None
        and teacher_tokenizer is not None
        # a foreign one has none
        and tokenizer.token_bytes != getattr(teacher_tokenizer, "token_bytes", None)
    ):
        raise ValueError(
            f"teacher and student both know {cfg.vocab_size} tokens, but of two different tokenizers: the same number "
            "means another text; give a teacher with the student's tokenizer"
        )

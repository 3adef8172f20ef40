"""Losses. Each maps (params, batch) to (sum, count), so that sums over devices or
microbatches stay exact.
"""

from typing import Any, NamedTuple

from ._typing import Array, Float, Int
from .config import AFMConfig
from .ops import stop_gradient, wide
from .transformer import Causal, forward
from .weights import Params


class Batch(NamedTuple):
    """Tokens with what they should predict. Targets are shifted here, before anything is
    cut across devices.
    """

    tokens: Any  # [B, T] int
    targets: Any  # [B, T] int: the token after tokens[:, t]
    # [B, T] float: 0 where the target is padding, another document or a masked prompt
    weights: Any
    documents: Any = None  # [B, T] int: tokens attend within their own document only


def token_log_probs(
    logits: Float[Array, "*batch V"], targets: Int[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """Return the log-probability, in nats, that the logits give each target.

        log p(y) = z_y - log sum_v exp(z_v)          in float32 at least

    logits: an array, or logits with `.token_log_probs(targets)`, such as those that lie in
    slices on several devices.

    Source: textbook [standard].
    Test: tests/transformer/test_transformer.py::test_token_log_probs_closed_form
    """
    if hasattr(logits, "token_log_probs"):
        return logits.token_log_probs(targets)
    xp, logits = logits.__array_namespace__(), wide(logits)
    # cancels; see ops.softmax
    shifted = logits - stop_gradient(xp.max(logits, axis=-1, keepdims=True))
    log_sum = xp.log(xp.sum(xp.exp(shifted), axis=-1))
    return xp.take_along_axis(shifted, targets[..., None], axis=-1)[..., 0] - log_sum


def weighted(each: Float[Array, "*batch"], weights: Float[Array, "*batch"]):
    """Return (sum_t w_t each_t, sum_t w_t) in float32 at least: the (sum, count) of a loss."""
    weights = wide(weights)
    return (each * weights).sum(), weights.sum()


def next_token(params: Params, batch: Batch, cfg: AFMConfig, positions=None, attend=None):
    """Return (sum, count) of the cross-entropy of the next token, in nats, over the
    weighted targets.

        sum = - sum_t w_t log p(y_t | x_<=t),   count = sum_t w_t

    positions and attend default to those of whole sequences: 0 .. T-1, within each
    document.

    Source: TR24 section 3.2 (next-token pre-training) [confirmed].
    Test: tests/transformer/test_transformer.py::test_next_token_equals_its_definition
    """
    attend = Causal(batch.documents) if attend is None else attend
    logits = forward(params, batch.tokens, cfg, positions, attend)
    return weighted(-token_log_probs(logits, batch.targets), batch.weights)

"""The log-probability of responses under a model, token by token and whole."""

from .._typing import Array, Float
from ..config import AFMConfig
from ..losses import token_log_probs
from ..transformer import Params, forward
from .responses import Padded


def response_log_probs(params: Params, rows: Padded, cfg: AFMConfig) -> Float[Array, "B T"]:
    """Return log pi(y_t | x, y_<t) of each token of the responses, in nats; 0 at the prompt's tokens and the padding.

    Entry t is of the token at t + 1, as everywhere where targets are shifted.

    Source: textbook [standard].
    Test: tests/post_training/test_policy.py::test_padding_leaks_nowhere
    """
    logits = forward(params, rows.tokens[:, :-1], cfg)
    xp = logits.__array_namespace__()
    log_probs = token_log_probs(logits, xp.asarray(rows.tokens[:, 1:]))
    return xp.where(xp.asarray(rows.response[:, 1:]), log_probs, 0.0)


def sequence_log_probs(params: Params, rows: Padded, cfg: AFMConfig) -> Float[Array, " B"]:
    """Return log pi(y|x) of each row's response, in nats: the sum over its tokens, <|end|> included where it is there.

        log pi(y|x) = sum_t log pi(y_t | x, y_<t)

    The prompt's tokens and the padding count nothing, whatever stands there.

    Source: textbook (chain rule) [standard].
    Test: tests/post_training/test_policy.py::test_probabilities_of_all_responses_sum_to_one,
        tests/post_training/test_policy.py::test_padding_leaks_nowhere
    """
    return response_log_probs(params, rows, cfg).sum(-1)


def response_lengths(rows: Padded):
    """Return how many tokens each row's response has: [B]."""
    return rows.response.sum(-1)

"""The log-probability of responses under a model, token by token and whole."""

from .._typing import Array, Float
from ..config import AFMConfig
from ..losses import token_log_probs
from ..transformer import logits
from ..weights import Params
from .responses import Padded
from .shared import Shared


def response_log_probs(params: Params, rows: Padded | Shared, cfg: AFMConfig) -> Float[Array, "B T"]:
    """Return log pi(y_t | x, y_<t) of each token of the responses, in nats; 0 at the prompt's tokens and the padding.

    An entry for each of rows.targets: of Padded rows the token at t + 1, of Shared ones token t of the response.

    Source: textbook [standard].
    Test: tests/post_training/test_policy.py::test_padding_leaks_nowhere,
        tests/post_training/test_shared.py::test_numbers_are_those_of_padded_rows
    """
    scores = logits(params, rows.states(params, cfg))
    xp = scores.__array_namespace__()
    log_probs = token_log_probs(scores, xp.asarray(rows.targets))
    return xp.where(xp.asarray(rows.real), log_probs, 0.0)


def sequence_log_probs(params: Params, rows: Padded | Shared, cfg: AFMConfig) -> Float[Array, " B"]:
    """Return log pi(y|x) of each response, in nats: the sum over its tokens, <|end|> included where it is there.

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

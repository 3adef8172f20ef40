"""What an iteration learns from."""

from typing import Any, NamedTuple

from ..post_training.responses import Padded
from ..post_training.shared import Shared


class Experience(NamedTuple):
    """Responses of pi_k with numbers that stay fixed while steps are taken. B = P K, those of a prompt together.

    Numbers of single tokens are [B, T], as rows.targets are: log-probabilities, 0 outside the response.
    """

    rows: Shared | Padded
    old: Any  # [B, T]: under pi_k, the previous iterate, which the responses were sampled from
    reference: Any  # [B, T]: under the fixed reference
    advantages: Any  # [B]; of PPO [B, T]
    returns: Any = None  # [B, T]: what PPO's critic is to predict

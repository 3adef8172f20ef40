"""What an iteration learns from."""

from typing import Any, NamedTuple

from ..post_training.responses import Padded


class Experience(NamedTuple):
    """Responses of pi_k with numbers that stay fixed while steps are taken. B = P K rows, those of a prompt together.

    Log-probabilities are those of single tokens, shifted as targets are, and 0 outside the response.
    """

    rows: Padded
    old: Any  # [B, T-1]: under pi_k, the previous iterate, which the responses were sampled from
    reference: Any  # [B, T-1]: under the fixed reference
    advantages: Any  # [B]; of PPO [B, T-1]
    returns: Any = None  # [B, T-1]: what PPO's critic is to predict

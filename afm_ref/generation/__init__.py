"""Continuing text with a model: token by token as they are decoded, or as text.

There is no second forward function: `transformer.hidden` runs with `attend=Cached()`, once
over the prompts (prefill) and then one token at a time (decode).

    prompts -> prefill -> first tokens -> decode, a chunk of steps a call -> more -> ...
"""

from .cache import FAR, Cached
from .decoding import Rollouts, generate, rollouts, stream
from .sampling import LogitRules
from .streaming import prompt_ids, stream_text

__all__ = [
    "FAR",
    "Cached",
    "LogitRules",
    "Rollouts",
    "generate",
    "prompt_ids",
    "rollouts",
    "stream",
    "stream_text",
]

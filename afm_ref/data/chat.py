"""The chat format: a user's turn, then the assistant's, between markers that are tokens of
their own.

    render(prompt, response=None)                   text with turn markers: for showing and
                                                    for pre-training
    chat_tokens(tokenizer, prompt, response=None)   token ids, safe for text that users typed
"""

from typing import NamedTuple

import numpy as np

from afm_ref.data.tokenizer import ASSISTANT, BOS, END, USER


class Rendered(NamedTuple):
    """A conversation as token ids, and where the response begins."""

    tokens: np.ndarray  # int32 [T]
    # tokens[response_start:] is what the assistant should write, its end marker included
    response_start: int


def render(prompt: str, response: str | None = None) -> str:
    """Return <|user|> prompt <|end|><|assistant|> [response <|end|>] as text."""
    return f"<|user|>{prompt}<|end|><|assistant|>" + (
        "" if response is None else f"{response}<|end|>"
    )


def chat_tokens(tokenizer, prompt: str, response: str | None = None) -> Rendered:
    """Return <|bos|> and what `render` writes as token ids.

    Markers that a user typed into the prompt stay plain text.
    """
    head = np.concatenate([[BOS, USER], tokenizer.encode(prompt), [END, ASSISTANT]])
    tail = [] if response is None else np.concatenate([tokenizer.encode(response), [END]])
    return Rendered(np.concatenate([head, tail]).astype(np.int32), len(head))

"""Responses: what a model said, token by token; and rows of (prompt, response) padded to one length.

A response keeps the tokens that were sampled. Text encoded again may give other tokens, and so another probability.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..data.tasks import Rendered, chat_tokens
from ..data.tokenizer import END, PAD
from ..transformer import hidden

ROW_MULTIPLE = 16  # rows are padded to a multiple of it, so that few shapes are compiled


class Response(NamedTuple):
    """A response as text and as tokens. <|end|> is the last token where the writer came to an end."""

    text: str
    tokens: tuple[int, ...]

    @property
    def ended(self) -> bool:
        """Return whether the writer ended it, rather than the limit of tokens."""
        return bool(self.tokens) and self.tokens[-1] == END


class Padded(NamedTuple):
    """Rows of one length: prompt, response, padding on the right."""

    tokens: Any  # [B, T] int32
    response: Any  # [B, T] bool: the tokens that the response consists of
    lengths: Any  # [B] int32: how many tokens are not padding

    @property
    def targets(self):
        """Return the token after each that is read: [B, T-1]."""
        return self.tokens[:, 1:]

    @property
    def real(self):
        """Return which targets the responses consist of: [B, T-1]."""
        return self.response[:, 1:]

    def states(self, params, cfg):
        """Return the hidden states that the targets are predicted from: [B, T-1, D]."""
        return hidden(params, self.tokens[:, :-1], cfg)[0]

    def rows(self, numbers) -> "Padded":
        """Return the rows of these numbers."""
        return Padded(*(field[numbers] for field in self))


def written(tokenizer, text: str) -> Response:
    """Return a text that somebody wrote, such as a reference, as a response with its end."""
    return Response(text, (*map(int, tokenizer.encode(text)), END))


def sampled(tokenizer, tokens) -> Response:
    """Return tokens that a model said as a response; without <|end|> it stays without one."""
    return Response(tokenizer.decode(tokens), tuple(map(int, tokens)))


def conversation(tokenizer, prompt: str, response: Response) -> Rendered:
    """Return a prompt and a response as the chat format's token ids, the response's tokens as they were said.

    An empty response is one token, <|end|>: it has a probability like any other. A response of no token at all has
    none, and raises ValueError.
    """
    if not response.tokens:
        raise ValueError(
            f"the response to {prompt[:40]!r} has no token, not even <|end|>: sample at least one, or use `written`"
        )
    head = chat_tokens(tokenizer, prompt).tokens
    return Rendered(np.concatenate([head, np.array(response.tokens, np.int32)]), len(head))


def pad(conversations: Sequence[Rendered], length: int | None = None) -> Padded:
    """Return conversations as rows of one length: `length`, or the longest rounded up to a multiple of ROW_MULTIPLE.

    No attention mask is needed: padding stands on the right, and causal attention never looks there.
    Raises ValueError for no conversations, for one longer than `length`, and for one without a response.

    Source: padding to a common length [standard]; on the right, to a multiple of 16 [ours].
    Test: tests/post_training/test_policy.py::test_padding_leaks_nowhere
    """
    if not conversations:
        raise ValueError("there is no conversation to pad: give at least one")
    lengths = np.array([len(tokens) for tokens, _ in conversations], np.int32)
    length = -(-int(lengths.max()) // ROW_MULTIPLE) * ROW_MULTIPLE if length is None else length
    if lengths.max() > length:
        raise ValueError(f"conversation {lengths.argmax()} has {lengths.max()} tokens, a row holds {length}: raise it")
    tokens = np.full((len(lengths), length), PAD, np.int32)
    response = np.zeros(tokens.shape, bool)
    for row, (ids, start) in enumerate(conversations):
        if not 0 < start < len(ids):
            raise ValueError(f"conversation {row} has no response: it begins at {start} of {len(ids)} tokens")
        tokens[row, : len(ids)], response[row, start : len(ids)] = ids, True
    return Padded(tokens, response, lengths)


def sample(
    params, cfg, tokenizer, prompts, n: int, max_new_tokens: int, temperature=1.0, top_p=None, seed=0, batch_size=64
) -> list[list[Response]]:
    """Return n responses to each prompt, drawn independently.

    A batch has as many prompts as there is room for in batch_size rows, n rows each, and reads each once; n above
    batch_size is dealt to several batches. The last batch is filled up, so that one compiled program serves every one
    whose longest prompt rounds up to the same power of two. The same seed gives the same responses. temperature 0
    would give n equal ones, and raises ValueError when n > 1.

    Source: TR24 section 4 (several responses a prompt) [confirmed].
    Test: tests/post_training/test_responses.py::test_sampling_does_not_depend_on_the_fill,
    tests/post_training/test_responses.py::test_every_prompt_gets_its_own_responses
    """
    from ..generation import generate

    if min(n, max_new_tokens, batch_size) < 1:
        got = f"{n}, {max_new_tokens} and {batch_size}"
        raise ValueError(f"n, max_new_tokens and batch_size must be at least 1, got {got}")
    if temperature == 0 and n > 1:
        raise ValueError("temperature 0 gives the same response n times: take n=1, or a temperature above 0")
    parts = -(-n // batch_size)  # calls that a prompt's responses are dealt to
    samples = -(-n // parts)
    count = batch_size // samples  # prompts a call
    wanted = [chat_tokens(tokenizer, prompt).tokens for prompt in prompts for _ in range(parts)]
    said = []
    for number, first in enumerate(range(0, len(wanted), count)):
        batch = wanted[first : first + count]
        batch += [batch[-1]] * (count - len(batch))
        batch_seed = int(np.random.default_rng((seed, number)).integers(2**31))
        settings = dict(top_p=top_p, seed=batch_seed, stop=END, samples=samples)
        new = generate(params, cfg, batch, max_new_tokens, temperature, **settings)
        said += [sampled(tokenizer, tokens) for tokens in new]
    return [said[i : i + n] for i in range(0, len(wanted) * samples, parts * samples)]


def in_batches(function: Callable, params, rows, cfg, batch_size: int = 32) -> np.ndarray:
    """Return function(params, rows, cfg) -> [B, ...] for all rows (`Padded` or `Shared`), batch_size at a time.

    The last batch is filled up with the last row. Give a function of a module and no lambda: it is compiled once for
    each shape, however often this is called.
    """
    import jax

    compiled = jax.jit(function, static_argnums=2)
    params = jax.device_put(params)
    parts = []
    for first in range(0, len(rows.tokens), batch_size):
        numbers = np.minimum(np.arange(first, first + batch_size), len(rows.tokens) - 1)
        parts.append(np.asarray(compiled(params, rows.rows(numbers), cfg)))
    found = np.concatenate(parts)
    each = len(found) // (len(parts) * batch_size)  # results of a row: K where it has K responses
    return found[: len(rows.tokens) * each]

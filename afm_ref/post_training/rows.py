"""Rows of one length: prompts and responses as ids, and how likely a model finds them.

    Padded    [prompt, y, padding]                 a row for each response
    Shared    [padding, prompt, y_1, y_2 .. y_n]   a row for each prompt: a trunk, n branches

`Shared` reads a prompt once for its n responses, thanks to one way to attend: a response sees
its prompt and its own past, and no other response. Positions go on from the prompt's in every
response, so each number is that of `Padded` rows. What takes rows takes either.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._typing import Array, Float
from ..config import AFMConfig
from ..data.tasks import Rendered, chat_tokens
from ..data.tokenizer import PAD
from ..generation.cache import FAR
from ..losses import token_log_probs
from ..transformer import Causal, hidden, logits
from ..weights import Params
from .responses import Response

ROW_MULTIPLE = 16  # rows are padded to a multiple of it, so that few shapes are compiled


class Padded(NamedTuple):
    """Rows of prompt, response, and padding on the right."""

    tokens: Any  # [B, T] int32
    response: Any  # [B, T] bool: the tokens that the response consists of
    lengths: Any  # [B] int32: how many tokens are not padding

    n = 1  # responses a row

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

    def ends(self, params, cfg):
        """Return the hidden state of each row's last token that is not padding: [B, D]."""
        x, _ = hidden(params, self.tokens, cfg)  # [B, T, D]
        xp = x.__array_namespace__()
        last = xp.asarray(self.lengths)[:, None, None] - 1
        return xp.take_along_axis(x, last, axis=1)[:, 0]


class SharedPrompt(Causal):
    """Attend to the prompt, and in each of its n responses to that response's own past.

    start: tokens of a prompt. The prompt attends first; then each response is a row of its
    own, whose R - 1 queries see the prompt's keys and its own. One mask over the whole row
    gives the same numbers, from (start + n (R - 1))^2 scores a prompt instead of
    start^2 + n (R - 1) (start + R - 1): 37% are left of 8 responses of 32 tokens to 112.

    Source: a prefix shared by its continuations [standard].
    Test: tests/post_training/test_rows.py::test_numbers_are_those_of_padded_rows,
        tests/post_training/test_rows.py::test_a_response_does_not_see_its_neighbours
    """

    def __init__(self, start: int, n: int):
        super().__init__()
        self.start, self.n = start, n

    def __call__(
        self, q: Float[Array, "P T N H"], kv, positions
    ) -> Float[Array, "P T N H"]:
        """Return each query's average of the values it may see."""
        xp, start, n = q.__array_namespace__(), self.start, self.n
        P, T, N, H = q.shape

        def apart(x, prompt=False):  # [P, T, ...] -> [P n, (start +) R - 1, ...]
            said = x[:, start:].reshape(P, n, (T - start) // n, *x.shape[2:])
            if prompt:
                read = xp.broadcast_to(x[:, None, :start], (P, n, start, *x.shape[2:]))
                said = xp.concatenate([read, said], axis=2)
            return said.reshape(P * n, *said.shape[2:])

        of_prompt = tuple(x[:, :start] for x in kv)
        of_responses = tuple(apart(x, prompt=True) for x in kv)
        read = super().__call__(q[:, :start], of_prompt, positions[:, :start])
        said = super().__call__(apart(q), of_responses, apart(positions))
        return xp.concatenate([read, said.reshape(P, T - start, N, H)], axis=1)


class Shared(NamedTuple):
    """P prompts with n responses of at most R tokens each; B = P n, row p n + k: y_k of p.

    Prompts are padded on the left, so that the first token of every response is predicted
    from one column, the last of the prompt. The column R of a response is not read: nothing
    comes after it.
    """

    prompts: Any  # [P, H] int32
    lengths: Any  # [P] int32: how many tokens of a prompt are not padding
    said: Any  # [P, n, R] int32: the responses, padded on the right
    response: Any  # [P, n, R] bool: which of these are not padding

    @property
    def n(self) -> int:
        """Return the number of responses a row."""
        return self.said.shape[1]

    @property
    def tokens(self):
        """Return what is read: [P, T], T = H + n (R - 1)."""
        xp = self.said.__array_namespace__()
        return xp.concatenate(
            [self.prompts, self.said[:, :, :-1].reshape(len(self.said), -1)], axis=1
        )

    @property
    def positions(self):
        """Return each token's position in its own conversation, FAR for padding: [P, T]."""
        H, (_, n, R) = self.prompts.shape[1], self.said.shape
        xp = self.lengths.__array_namespace__()
        from_prompts_end = np.append(np.arange(-H, 0), np.tile(np.arange(R - 1), n))
        positions = from_prompts_end.astype(np.int32) + self.lengths[:, None]
        return xp.where(positions < 0, FAR, positions)

    @property
    def targets(self):
        """Return the tokens of the responses: [B, R]."""
        return self.said.reshape(-1, self.said.shape[-1])

    @property
    def real(self):
        """Return which targets are not padding: [B, R]."""
        return self.response.reshape(-1, self.response.shape[-1])

    def states(self, params, cfg):
        """Return the hidden states that the targets are predicted from: [B, R, D]."""
        H, (P, n, R) = self.prompts.shape[1], self.said.shape
        x, _ = hidden(params, self.tokens, cfg, self.positions, SharedPrompt(H, n))
        xp = x.__array_namespace__()
        D = x.shape[-1]
        first = xp.broadcast_to(x[:, None, H - 1 : H], (P, n, 1, D))
        rest = x[:, H:].reshape(P, n, R - 1, D)  # [P, n (R - 1), D] -> [P, n, R - 1, D]
        return xp.concatenate([first, rest], axis=2).reshape(P * n, R, D)

    def ends(self, params, cfg):
        """Return each response's last token's hidden state, [B, D]; none may fill all R."""
        x = self.states(params, cfg)  # [B, R, D]: before token t, so at |y| after the last
        xp = x.__array_namespace__()
        return xp.take_along_axis(x, xp.asarray(self.real).sum(-1)[:, None, None], axis=1)[
            :, 0
        ]


Rows = Padded | Shared


def take(rows: Rows, numbers) -> Rows:
    """Return the rows of these numbers."""
    return type(rows)(*(field[numbers] for field in rows))


def conversation(tokenizer, prompt: str, response: Response) -> Rendered:
    """Return the chat format's token ids, the response's tokens as they were said.

    An empty response is one token, <|end|>. Raises ValueError for one of no token at all.
    """
    if not response.tokens:
        raise ValueError(
            f"the response to {prompt[:40]!r} has no token, not even <|end|>: use `written`"
        )
    head = chat_tokens(tokenizer, prompt).tokens
    return Rendered(np.concatenate([head, np.array(response.tokens, np.int32)]), len(head))


def pad(
    conversations: Sequence[Rendered],
    length: int | None = None,
    multiple: int = ROW_MULTIPLE,
) -> Padded:
    """Return conversations as rows of a length, or of the longest's, rounded up to a multiple.

    No mask is needed: causal attention never looks to the right. Raises ValueError for a
    conversation that is longer.

    Source: padding to a common length [standard].
    Test: tests/post_training/test_rows.py::test_padding_leaks_nowhere
    """
    lengths = np.array([len(tokens) for tokens, _ in conversations], np.int32)
    length = round_up(lengths.max(), multiple) if length is None else length
    if lengths.max() > length:
        raise ValueError(
            f"conversation {lengths.argmax()} has {lengths.max()} tokens, a row holds {length}: raise it"
        )
    tokens = np.full((len(lengths), length), PAD, np.int32)
    response = np.zeros(tokens.shape, bool)
    for row, (ids, start) in enumerate(conversations):
        assert 0 < start < len(ids), "a conversation has a prompt and a response"
        tokens[row, : len(ids)], response[row, start : len(ids)] = ids, True
    return Padded(tokens, response, lengths)


def share(
    prompts: Sequence, groups: Sequence[Sequence], prompt_length: int, response_length: int
) -> Shared:
    """Return prompts and the n responses to each, all of token ids, as rows of one length.

    Raises ValueError for groups of different sizes, and for a prompt or a response that is
    empty or has more tokens than it may.

    Source: a prefix shared by its continuations [standard].
    Test: tests/post_training/test_rows.py::test_numbers_are_those_of_padded_rows
    """
    P = len(prompts)
    sizes = [len(group) for group in groups]
    if not P or len(set(sizes)) != 1 or len(sizes) != P:
        raise ValueError(f"each of {P} prompts needs as many responses: got {sizes}")
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    said_lengths = np.array([[len(y) for y in group] for group in groups])
    for name, found, most in (
        ("prompt", lengths, prompt_length),
        ("response", said_lengths, response_length),
    ):
        if found.min() < 1 or found.max() > most:
            raise ValueError(
                f"a {name} must have 1 to {most} tokens, got {found.min()} to {found.max()}"
            )
    ids = np.full((P, prompt_length), PAD, np.int32)
    said = np.full((P, sizes[0], response_length), PAD, np.int32)
    for p, (prompt, group) in enumerate(zip(prompts, groups)):
        ids[p, prompt_length - len(prompt) :] = prompt
        for k, y in enumerate(group):
            said[p, k, : len(y)] = y
    return Shared(ids, lengths, said, np.arange(response_length) < said_lengths[..., None])


def round_up(length, multiple: int = ROW_MULTIPLE) -> int:
    """Return the first multiple that is at least the length."""
    return -(-int(length) // multiple) * multiple


def in_batches(function: Callable, params, rows, cfg, batch_size: int = 32) -> np.ndarray:
    """Return function(params, rows, cfg) -> [B, ...] of all rows, batch_size at a time.

    The function is compiled once for each shape, however often this is called: no lambda.
    """
    import jax

    compiled = jax.jit(function, static_argnums=2)
    count = len(rows.tokens)
    # also of fewer rows: no new program for their number
    size = max(1, batch_size // rows.n)
    params = jax.device_put(params)
    # the last batch is filled up
    batches = (
        np.minimum(np.arange(first, first + size), count - 1)
        for first in range(0, count, size)
    )
    found = [np.asarray(compiled(params, take(rows, numbers), cfg)) for numbers in batches]
    return np.concatenate(found)[: count * rows.n]


def response_log_probs(params: Params, rows: Rows, cfg: AFMConfig) -> Float[Array, "B T"]:
    """Return log pi(y_t | x, y_<t) of rows.targets, in nats; 0 outside the responses.

    Source: textbook [standard].
    Test: tests/post_training/test_rows.py::test_padding_leaks_nowhere,
        tests/post_training/test_rows.py::test_numbers_are_those_of_padded_rows
    """
    scores = logits(params, rows.states(params, cfg))
    xp = scores.__array_namespace__()
    log_probs = token_log_probs(scores, xp.asarray(rows.targets))
    return xp.where(xp.asarray(rows.real), log_probs, 0.0)


def sequence_log_probs(params: Params, rows: Rows, cfg: AFMConfig) -> Float[Array, " B"]:
    """Return log pi(y|x) of each response, in nats; <|end|> counts where it is there.

        log pi(y|x) = sum_t log pi(y_t | x, y_<t)

    Source: textbook (chain rule) [standard].
    Test: tests/post_training/test_rows.py::test_probabilities_of_all_responses_sum_to_one,
        tests/post_training/test_rows.py::test_padding_leaks_nowhere
    """
    return response_log_probs(params, rows, cfg).sum(-1)

"""Rows that read a prompt once for its K responses: one trunk, K branches, thanks to one mask.

    [padding, prompt, y_1, y_2 .. y_K]        a response sees its prompt and its own past, and no other response

Positions go on from the prompt's in every response. So each number is that of `Padded` rows, where the prompt is read K
times. The last token of a response is not read: nothing is predicted from it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .._typing import Array, Bool, Int
from ..cache import FAR
from ..data.tokenizer import PAD
from ..transformer import Causal, hidden


class SharedPrompt(Causal):
    """Attend to the tokens at the same or an earlier position, of one's own response or of the prompt.

    segments: [B or 1, T], 0 for the prompt, k for response k of it.

    Source: one mask for a tree of continuations, as in SpecInfer (Miao et al. 2023) [standard].
    Test: tests/post_training/test_shared.py::test_numbers_are_those_of_padded_rows,
        tests/post_training/test_shared.py::test_a_response_does_not_see_its_neighbours
    """

    def __init__(self, segments: Int[Array, "#B T"]):
        super().__init__()
        self.segments = segments

    def mask(self, positions: Int[Array, "#B T"], key_positions: Int[Array, "#B S"]) -> Bool[Array, "#B T S"]:
        """Return which keys each query may see."""
        of_query, of_key = self.segments[:, :, None], self.segments[:, None, :]
        return super().mask(positions, key_positions) & ((of_key == of_query) | (of_key == 0))


class Shared(NamedTuple):
    """P prompts with K responses each, of at most R tokens; row B = p K + k of every result is response k of prompt p.

    It stands wherever `Padded` does in log-probabilities and losses. Prompts are padded on the left, so that the first
    token of every response is predicted from one column, the last of the prompt.
    """

    prompts: Any  # [P, H] int32
    lengths: Any  # [P] int32: how many tokens of a prompt are not padding
    said: Any  # [P, K, R] int32: the responses, padded on the right
    response: Any  # [P, K, R] bool: which of these are not padding

    @property
    def tokens(self):
        """Return what is read: [P, T], T = H + K (R - 1)."""
        xp = self.said.__array_namespace__()
        return xp.concatenate([self.prompts, self.said[:, :, :-1].reshape(len(self.said), -1)], axis=1)

    @property
    def positions(self):
        """Return the position of each token in its own conversation: [P, T]; that of padding before it is FAR."""
        H, (_, K, R) = self.prompts.shape[1], self.said.shape
        xp, lengths = self.lengths.__array_namespace__(), self.lengths[:, None]
        prompt = np.arange(H, dtype=np.int32) - H + lengths
        responses = np.tile(np.arange(R - 1, dtype=np.int32), K) + lengths
        return xp.concatenate([xp.where(prompt < 0, FAR, prompt), responses], axis=1)

    @property
    def segments(self):
        """Return which tokens are the prompt's (0) and which response k's: [1, T]."""
        H, (_, K, R) = self.prompts.shape[1], self.said.shape
        return np.repeat(np.arange(K + 1), [H, *[R - 1] * K])[None]

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
        H, (P, K, R) = self.prompts.shape[1], self.said.shape
        x, _ = hidden(params, self.tokens, cfg, self.positions, SharedPrompt(self.segments))
        xp, D = x.__array_namespace__(), x.shape[-1]
        first = xp.broadcast_to(x[:, None, H - 1 : H], (P, K, 1, D))
        return xp.concatenate([first, x[:, H:].reshape(P, K, R - 1, D)], axis=2).reshape(P * K, R, D)

    def rows(self, numbers) -> "Shared":
        """Return the prompts of these numbers with their responses."""
        return Shared(*(field[numbers] for field in self))


def share(prompts: Sequence, groups: Sequence[Sequence], prompt_length: int, response_length: int) -> Shared:
    """Return prompts and the responses to each as rows of one length, whatever their own lengths are.

    prompts: token ids of each; groups: of each prompt, the token ids of its K responses. Raises ValueError for no
    prompts, groups of different sizes, and a prompt or a response that is empty or has more tokens than it may.

    Source: a prefix shared by its continuations [standard]; the layout [ours].
    Test: tests/post_training/test_shared.py::test_numbers_are_those_of_padded_rows
    """
    P, K = len(prompts), len(groups[0]) if len(groups) else 0
    if not P or not K or [len(group) for group in groups] != [K] * P:
        raise ValueError(
            f"each of {P} prompts needs as many responses, and at least one: got {[len(group) for group in groups]}"
        )
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    said_lengths = np.array([[len(y) for y in group] for group in groups])
    for name, found, most in (("prompt", lengths, prompt_length), ("response", said_lengths, response_length)):
        if found.min() < 1 or found.max() > most:
            raise ValueError(f"a {name} must have 1 to {most} tokens, got {found.min()} to {found.max()}")
    ids, said = np.full((P, prompt_length), PAD, np.int32), np.full((P, K, response_length), PAD, np.int32)
    for p, (prompt, group) in enumerate(zip(prompts, groups)):
        ids[p, prompt_length - len(prompt) :] = prompt
        for k, y in enumerate(group):
            said[p, k, : len(y)] = y
    return Shared(ids, lengths, said, np.arange(response_length) < said_lengths[..., None])

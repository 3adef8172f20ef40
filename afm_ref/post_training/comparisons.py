"""All comparisons of a prompt together, each response in one row: what a reward model is trained with.

Of five responses to a prompt ten pairs can be made. As pairs they would be twenty rows to compute, here they are five.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .preferences import SOFT_LABELS, Preference
from .responses import ROW_MULTIPLE, Padded, conversation, pad


class Comparisons(NamedTuple):
    """Rows of responses, and pairs of rows. `reward_model.reward_loss` takes it as it takes `pairs.Pairs`."""

    rows: Padded  # R rows
    places: Any  # [2, B] int32: the rows of the chosen and of the rejected response
    labels: Any  # [B] float32: the probability p_l that the level stands for
    grades: Any  # [2, B, 4] int32
    weights: Any  # [B] float32: 0 for pairs that only fill the batch up


class _Group(NamedTuple):
    """One prompt's."""

    chats: list  # a conversation for each different response
    places: np.ndarray  # [2, b]
    labels: np.ndarray  # [b]
    grades: np.ndarray  # [2, b, 4]

    @property
    def longest(self):
        return max(len(chat.tokens) for chat in self.chats)


def comparison_batches(
    preferences: Sequence[Preference], tokenizer, batch_size: int, seed: int = 0, multiple: int = ROW_MULTIPLE
) -> Callable:
    """Return a pure function step -> Comparisons of batch_size prompts, with all of their pairs.

    Prompts whose rows are of like length share a batch, and its rows are as long as the longest of them, rounded up to
    `multiple`: one program is compiled for each such length. What does not fill an epoch's last batch is left out of
    it, other prompts in every epoch. Raises ValueError for fewer prompts than batch_size.

    Source: all pairs of a prompt in one batch: Ouyang et al. 2022 section 3.5 [standard]; like lengths [standard].
    Test: tests/post_training/test_comparisons.py::test_loss_is_that_of_the_pairs,
        tests/post_training/test_comparisons.py::test_an_epoch_has_every_prompt_once
    """
    by_prompt: dict[str, list[Preference]] = {}
    for preference in preferences:
        by_prompt.setdefault(preference.prompt, []).append(preference)
    groups = [_group(prompt, some, tokenizer) for prompt, some in by_prompt.items()]
    count = len(groups) // batch_size if batch_size > 0 else 0
    if not count:
        raise ValueError(f"{len(groups)} prompts with preferences do not fill a batch of {batch_size}: collect more")
    longest = np.array([group.longest for group in groups])
    R, B = (batch_size * max(len(group[field]) for group in groups) for field in (0, 2))

    @lru_cache(maxsize=2)
    def epoch(number):  # a new order of prompts of equal length, and of batches
        rng = np.random.default_rng((seed, number))
        some = rng.permutation(len(groups))[: count * batch_size]
        return rng.permutation(some[np.argsort(longest[some], kind="stable")].reshape(count, batch_size))

    def batch(step):
        numbers = epoch(step // count)[step % count]
        length = -(-int(longest[numbers].max()) // multiple) * multiple
        return _joined([groups[i] for i in numbers], R, B, length)

    return batch


def _group(prompt, preferences, tokenizer):
    rows: dict = {}  # tokens of a response -> its row
    for p in preferences:
        for response in (p.chosen, p.rejected):
            rows.setdefault(response.tokens, (len(rows), response))
    return _Group(
        [conversation(tokenizer, prompt, response) for _, response in rows.values()],
        np.array(
            [[rows[getattr(p, side).tokens][0] for p in preferences] for side in ("chosen", "rejected")], np.int32
        ),
        np.array([SOFT_LABELS[p.level] for p in preferences], np.float32),
        np.array([[p.chosen_grades for p in preferences], [p.rejected_grades for p in preferences]], np.int32),
    )


def _joined(groups, R, B, length):
    """Return groups as one batch of R rows and B pairs, filled up with its first row and with pairs of weight 0."""
    chats = [chat for group in groups for chat in group.chats]
    rows = pad(chats + chats[:1] * (R - len(chats)), length)
    starts = np.cumsum([0, *(len(group.chats) for group in groups)])
    places = np.concatenate([group.places + start for group, start in zip(groups, starts)], axis=1)
    missing = B - places.shape[1]
    return Comparisons(
        rows,
        np.pad(places, ((0, 0), (0, missing))),
        np.pad(np.concatenate([group.labels for group in groups]), (0, missing), constant_values=0.5),
        np.pad(np.concatenate([group.grades for group in groups], axis=1), ((0, 0), (0, missing), (0, 0))),
        np.pad(np.ones(places.shape[1], np.float32), (0, missing)),
    )

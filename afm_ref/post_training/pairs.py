"""Preferences as batches: what the reward model and the losses on pairs are trained with."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..data.packing import row_numbers
from .policy import sequence_log_probs
from .preferences import SOFT_LABELS, Preference
from .responses import Padded, conversation, in_batches, pad


class Pairs(NamedTuple):
    """A batch of pairs. Index 0 of the leading axis is the chosen response, 1 the rejected one."""

    tokens: Any  # [2, B, T] int32
    response: Any  # [2, B, T] bool
    lengths: Any  # [2, B] int32
    labels: Any  # [B] float32: the probability p_l that the level stands for
    grades: Any  # [2, B, 4] int32, see utility.GRADES
    reference: Any = None  # [2, B] float32: log-probabilities under the reference policy

    @property
    def places(self):
        """Return the rows that the chosen and the rejected responses stand in: [2, B]."""
        return np.arange(2 * len(self.labels)).reshape(2, -1)

    @property
    def weights(self):
        """Return what each pair counts: [B], 1 for all."""
        return np.ones(len(self.labels), np.float32)

    @property
    def rows(self) -> Padded:
        """Return both responses of every pair as rows: [2 B, T], the chosen ones first."""
        T = self.tokens.shape[-1]
        return Padded(self.tokens.reshape(-1, T), self.response.reshape(-1, T), self.lengths.reshape(-1))

    def take(self, numbers) -> "Pairs":
        """Return the pairs of these numbers."""
        reference = None if self.reference is None else self.reference[:, numbers]
        fields = (field[:, numbers] for field in (self.tokens, self.response, self.lengths))
        return Pairs(*fields, self.labels[numbers], self.grades[:, numbers], reference)


def pairs_of(preferences: Sequence[Preference], tokenizer, length: int | None = None) -> Pairs:
    """Return preferences as one batch, both responses of all padded to one length.

    Raises ValueError for no preferences (every prompt's responses were equal, say), and what `pad` refuses.
    """
    if not preferences:
        raise ValueError("no preferences: every prompt's responses were equal, or none was judged; sample more of them")
    sides = [[(p.prompt, p.chosen) for p in preferences], [(p.prompt, p.rejected) for p in preferences]]
    rows = pad([conversation(tokenizer, *item) for side in sides for item in side], length)
    B, T = len(preferences), rows.tokens.shape[1]
    labels = np.array([SOFT_LABELS[p.level] for p in preferences], np.float32)
    grades = np.array([[p.chosen_grades for p in preferences], [p.rejected_grades for p in preferences]], np.int32)
    return Pairs(
        rows.tokens.reshape(2, B, T), rows.response.reshape(2, B, T), rows.lengths.reshape(2, B), labels, grades
    )


def with_reference(pairs: Pairs, params, cfg, batch_size: int = 32) -> Pairs:
    """Return the pairs with every response's log-probability under a reference policy, computed once.

    Source: Rafailov et al. 2023 (the reference is fixed) [standard].
    Test: tests/post_training/test_preference_losses.py::test_reference_is_the_policy_at_the_start
    """
    found = in_batches(sequence_log_probs, params, pairs.rows, cfg, batch_size)
    return pairs._replace(reference=found.reshape(2, -1))


def pair_batches(pairs: Pairs, batch_size: int, seed: int = 0) -> Callable:
    """Return a pure function step -> Pairs of batch_size, every pair once an epoch."""
    numbers = row_numbers(len(pairs.labels), batch_size, seed)
    return lambda step: pairs.take(numbers(step))

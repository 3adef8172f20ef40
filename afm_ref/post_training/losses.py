"""Preferences as batches, and losses on pairs without a reward model: DPO and IPO."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .._typing import Array, Float
from ..config import AFMConfig
from ..data.packing import row_numbers
from ..losses import weighted
from ..ops import wide
from ..weights import Params
from .preferences import SOFT_LABELS, Preference
from .rows import (
    ROW_MULTIPLE,
    Padded,
    conversation,
    in_batches,
    pad,
    round_up,
    sequence_log_probs,
    take,
)


class Pairs(NamedTuple):
    """A batch of pairs: rows of responses, each once, and which of them were compared.

    Of five responses to a prompt ten pairs can be made: twenty rows to compute as pairs,
    here five.
    """

    rows: Padded  # R rows
    places: Any  # [2, B] int: the rows of the chosen and of the rejected response
    labels: Any  # [B] float32: the probability p_l that the level stands for
    grades: Any  # [2, B, 4] int32, see preferences.GRADES
    weights: Any  # [B] float32: 0 for pairs that only fill a batch up
    reference: Any = None  # [R] float32: log-probabilities under the reference policy

    def take(
        self, numbers, R: int | None = None, B: int | None = None, length: int | None = None
    ) -> "Pairs":
        """Return these pairs, filled up to R rows, and to B by pairs of weight 0."""
        filled = np.resize(numbers, B or len(numbers))
        row = _numbered(self.places[:, filled].T.ravel())  # old number -> new number
        rows = np.resize([*row], R or len(row))
        tokens, response, lengths = take(self.rows, rows)
        return Pairs(
            Padded(tokens[:, :length], response[:, :length], lengths),
            np.array([[row[i] for i in side] for side in self.places[:, filled]]),
            self.labels[filled],
            self.grades[:, filled],
            np.where(
                np.arange(len(filled)) < len(numbers), self.weights[filled], np.float32(0)
            ),
            None if self.reference is None else self.reference[rows],
        )


def pairs_of(
    preferences: Sequence[Preference],
    tokenizer,
    length: int | None = None,
    multiple: int = ROW_MULTIPLE,
) -> Pairs:
    """Return preferences as one batch. Raises ValueError for none, and as `pad`."""
    if not preferences:
        raise ValueError(
            "no preferences: every prompt's responses were equal, or none was judged; sample more"
        )
    pairs = [((p.prompt, p.chosen), (p.prompt, p.rejected)) for p in preferences]
    grades = [(p.chosen_grades, p.rejected_grades) for p in preferences]
    row = _numbered(item for pair in pairs for item in pair)
    return Pairs(
        pad([conversation(tokenizer, *item) for item in row], length, multiple),
        np.array([[row[item] for item in pair] for pair in pairs]).T,  # [B, 2] -> [2, B]
        np.array([SOFT_LABELS[p.level] for p in preferences], np.float32),
        np.array(grades, np.int32).swapaxes(0, 1),  # [B, 2, 4] -> [2, B, 4]
        np.ones(len(preferences), np.float32),
    )


def _numbered(items) -> dict:
    """Return {item: its number}, each once, in the order in which they come."""
    return {item: number for number, item in enumerate(dict.fromkeys(items))}


def with_reference(pairs: Pairs, params, cfg, batch_size: int = 32) -> Pairs:
    """Return the pairs with each response's log-probability under a reference policy.

    Source: Rafailov et al. 2023 (the reference is fixed) [standard].
    Test: tests/post_training/test_losses.py::test_reference_is_the_policy_at_the_start
    """
    return pairs._replace(
        reference=in_batches(sequence_log_probs, params, pairs.rows, cfg, batch_size)
    )


def pair_batches(pairs: Pairs, batch_size: int, seed: int = 0) -> Callable:
    """Return a pure function step -> Pairs of batch_size, every pair once an epoch."""
    numbers = row_numbers(len(pairs.labels), batch_size, seed)
    return lambda step: pairs.take(numbers(step), 2 * batch_size, batch_size)


def prompt_batches(
    preferences: Sequence[Preference],
    tokenizer,
    prompts: int,
    seed=0,
    multiple=ROW_MULTIPLE,
):
    """Return a pure function step -> Pairs: all those of some prompts of like length.

    One program is compiled for each length, a multiple of `multiple`. What does not fill an
    epoch's last batch is left out, other prompts each time. Raises ValueError for too few.

    Source: all pairs of a prompt in one batch: Ouyang et al. 2022 section 3.5 [standard];
        like lengths [standard].
    Test: tests/post_training/test_losses.py::test_loss_is_that_of_the_pairs,
        tests/post_training/test_losses.py::test_an_epoch_has_every_prompt_once
    """
    by_prompt = {}  # prompt -> the numbers of its pairs
    for number, preference in enumerate(preferences):
        by_prompt.setdefault(preference.prompt, []).append(number)
    groups = [np.array(numbers) for numbers in by_prompt.values()]
    count = len(groups) // prompts if prompts > 0 else 0
    if not count:
        raise ValueError(
            f"{len(groups)} prompts with preferences do not fill a batch of {prompts}: collect more"
        )
    pairs = pairs_of(preferences, tokenizer, multiple=multiple)
    longest = np.array(
        [pairs.rows.lengths[pairs.places[:, numbers]].max() for numbers in groups]
    )
    R = prompts * max(len(np.unique(pairs.places[:, numbers])) for numbers in groups)
    B = prompts * max(map(len, groups))

    @lru_cache(maxsize=2)
    def epoch(number):  # a new order of prompts of equal length, and of batches
        rng = np.random.default_rng((seed, number))
        some = rng.permutation(len(groups))[: count * prompts]
        return rng.permutation(
            some[np.argsort(longest[some], kind="stable")].reshape(count, prompts)
        )

    def batch(step):
        chosen = epoch(step // count)[step % count]
        length = round_up(longest[chosen].max(), multiple)
        return pairs.take(np.concatenate([groups[i] for i in chosen]), R, B, length)

    return batch


def log_sigmoid(x):
    """Return log(1 / (1 + exp(-x))) = -log(exp(0) + exp(-x)) without overflow."""
    xp, x = x.__array_namespace__(), wide(x)
    # with |x| JAX's slope would be 1, not 1/2, at x = 0, where every pair is at first
    return -xp.logaddexp(xp.zeros_like(x), -x)


def dpo(h: Float[Array, " B"], beta: float) -> Float[Array, " B"]:
    """Return DPO's loss of each pair, from the difference h of its log-ratios.

        -log sigmoid(beta h)
        h = log(pi(y_c|x) / ref(y_c|x)) - log(pi(y_r|x) / ref(y_r|x))

    Source: TR24 section 4 names DPO [confirmed]; Rafailov et al. 2023 equation 7
        [standard].
    Test: tests/post_training/test_losses.py::test_losses_equal_trl,
        tests/oracles/test_trl.py::test_dpo_and_ipo
    """
    return -log_sigmoid(beta * wide(h))


def ipo(h: Float[Array, " B"], tau: float) -> Float[Array, " B"]:
    """Return IPO's loss of each pair, least at a finite difference.

        (h - 1 / (2 tau))^2

    Source: TR24 section 4 names IPO [confirmed]; Azar et al. 2023 equation 17 [standard].
    Test: tests/post_training/test_losses.py::test_minima_and_slopes
    """
    return (wide(h) - 1 / (2 * tau)) ** 2


# name -> (loss of h, whether each log-ratio is divided by its response's length first)
LOSSES = {
    "dpo": (dpo, False),
    "ipo": (ipo, False),
    "ipo_mean": (ipo, True),
}


def log_ratio_difference(
    params: Params, pairs: Pairs, cfg: AFMConfig, per_token: bool = False
):
    """Return h of each pair, [B] in nats: the chosen log-ratio less the rejected one.

    per_token divides each by its response's number of tokens.

    Source: Rafailov et al. 2023 [standard]; per token as TRL has it for IPO [standard].
    Test: tests/post_training/test_losses.py::test_losses_equal_trl
    """
    if pairs.reference is None:
        raise ValueError(
            "these pairs have no reference: pass them through `with_reference`"
        )
    ratios = sequence_log_probs(params, pairs.rows, cfg) - pairs.reference  # [R]
    if per_token:
        ratios = ratios / pairs.rows.response.sum(-1)
    chosen, rejected = ratios[pairs.places]  # [2, B]
    return chosen - rejected


def preference_loss(
    params: Params, pairs: Pairs, cfg: AFMConfig, kind: str = "dpo", beta: float = 0.1
):
    """Return (sum, count) of "dpo", "ipo" (the paper's sums) or "ipo_mean" (TRL's means).

    beta is IPO's tau. With sums 1 / (2 tau) is the distance of whole responses, with means
    that of a token. TRL reports that IPO's authors used means. Raises ValueError for
    another kind, and for a beta that is not above 0.

    Source: TR24 section 4 names DPO and IPO [confirmed]; Azar et al. 2023, TRL [standard].
    Test: tests/post_training/test_losses.py::test_losses_equal_trl,
        tests/oracles/test_trl.py::test_dpo_and_ipo
    """
    if kind not in LOSSES:
        raise ValueError(f"kind must be one of {sorted(LOSSES)}, got {kind!r}")
    if not beta > 0:
        raise ValueError(
            f"beta must be above 0, got {beta}: else the policy learns nothing or the reverse"
        )
    loss, per_token = LOSSES[kind]
    return weighted(
        loss(log_ratio_difference(params, pairs, cfg, per_token), beta), pairs.weights
    )

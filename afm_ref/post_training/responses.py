"""Responses: what a model said, token by token; n of them to a prompt, and the best of n.

A response keeps the tokens that were sampled: its text, encoded again, may give others, and
so another probability.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..data.tasks import chat_tokens
from ..data.tokenizer import END


class Response(NamedTuple):
    """A response as text and as tokens, the last <|end|> where it came to an end."""

    text: str
    tokens: tuple[int, ...]

    @property
    def ended(self) -> bool:
        """Return whether the writer ended it, rather than the limit of tokens."""
        return bool(self.tokens) and self.tokens[-1] == END


def written(tokenizer, text: str) -> Response:
    """Return a text that somebody wrote, such as a reference, with its end."""
    return Response(text, (*map(int, tokenizer.encode(text)), END))


def sampled(tokenizer, tokens) -> Response:
    """Return tokens that a model said; without <|end|> they stay without one."""
    return Response(tokenizer.decode(tokens), tuple(map(int, tokens)))


def sample(
    params,
    cfg,
    tokenizer,
    prompts: Sequence[str],
    n: int,
    max_new_tokens: int,
    *,
    temperature=1.0,
    seed=0,
    batch_size=64,
) -> list[list[Response]]:
    """Return n responses to each prompt, drawn independently: see `sample_tokens`."""
    heads = [chat_tokens(tokenizer, prompt).tokens for prompt in prompts]
    groups = sample_tokens(
        params, cfg, heads, n, max_new_tokens, temperature, seed, batch_size
    )
    return [[sampled(tokenizer, tokens) for tokens, _ in group] for group in groups]


def sample_tokens(
    params,
    cfg,
    prompts: Sequence,
    n: int,
    max_new_tokens: int,
    temperature=1.0,
    seed=0,
    batch_size=64,
) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """Return n continuations of each prompt's ids, [P][n] of (tokens, log pi in nats).

    log pi is the model's own, before temperature.
    A batch has as many prompts as there is room for in batch_size rows, n rows each, and
    reads each once; n above batch_size is dealt to several batches. Raises ValueError for
    numbers below 1, and for n > 1 at temperature 0, where all would be equal.

    Source: TR24 section 4 (several responses a prompt) [confirmed].
    Test: tests/post_training/test_preferences.py::test_sampling_does_not_depend_on_the_fill,
    tests/post_training/test_preferences.py::test_every_prompt_gets_its_own_responses
    """
    from .. import generation

    if min(n, max_new_tokens, batch_size) < 1:
        raise ValueError(
            f"n, max_new_tokens and batch_size must be at least 1, got {n}, {max_new_tokens} and {batch_size}"
        )
    if temperature == 0 and n > 1:
        raise ValueError(
            "temperature 0 gives the same response n times: take n=1, or a temperature above 0"
        )
    parts = -(-n // batch_size)  # calls that a prompt's responses are dealt to
    samples = -(-n // parts)
    count = batch_size // samples  # prompts a call
    wanted = [prompt for prompt in prompts for _ in range(parts)]
    said = []  # the last batch is filled up, so that one compiled program serves all
    for number, first in enumerate(range(0, len(wanted), count)):
        batch = wanted[first : first + count]
        batch += [batch[-1]] * (count - len(batch))
        batch_seed = int(np.random.default_rng((seed, number)).integers(2**31))
        new = generation.rollouts(
            params,
            cfg,
            batch,
            max_new_tokens,
            temperature,
            seed=batch_seed,
            stop=END,
            samples=samples,
        )
        said += zip(new.tokens, new.log_probs)
    return [said[i : i + n] for i in range(0, len(wanted) * samples, parts * samples)]


def expected_best(rewards, n: int, judged=None) -> float:
    """Return the mean of the best of n of m samples, over all ways to choose n of them.

        E = sum_i C(i - 1, n - 1) / C(m, n) v_(i),   i = 1 .. m by rising reward

    An unbiased estimate of the best of n fresh samples. v is the reward, or `judged`:
    another measure of the same samples, such as the true utility. Samples of equal reward
    share the mean of their v. Raises ValueError unless 1 <= n <= m.

    Source: order statistics without replacement [standard].
    Test: tests/post_training/test_preferences.py::test_expected_best_over_all_subsets
    """
    rewards = np.asarray(rewards, float)
    values = rewards if judged is None else np.asarray(judged, float)
    m = len(rewards)
    if not (rewards.shape == values.shape == (m,) and np.isfinite(rewards).all()):
        raise ValueError(f"give a finite reward and value for each of {m} samples")
    if not 1 <= n <= m:
        raise ValueError(f"n must lie in 1 .. {m}, the number of samples, got {n}")
    _, group = np.unique(rewards, return_inverse=True)
    shared = (np.bincount(group, values) / np.bincount(group))[group]
    weights = [math.comb(i, n - 1) / math.comb(m, n) for i in range(m)]
    return float(np.dot(weights, shared[np.argsort(rewards, kind="stable")]))


def kl_of_best_of_n(n: int) -> float:
    """Return log n - (n - 1) / n, the most nats of KL(best of n || policy).

    That is reached where neither rewards nor responses repeat.

    Source: Stiennon et al. 2020; a bound by Beirami et al. 2024 [standard].
    Test: tests/post_training/test_preferences.py::test_divergence_reaches_its_bound
    """
    return math.log(n) - (n - 1) / n


def rejection_sample(
    prompts: Sequence[str], groups: Sequence[Sequence[Response]], rewards
) -> list:
    """Return (prompt, its response of highest reward) for SFT; rewards: [P][n].

    Source: TR24 section 4 (rejection sampling) [confirmed].
    Test: tests/post_training/test_preferences.py::test_rejection_sampling_by_hand
    """
    best = []
    for prompt, group, values in zip(prompts, groups, rewards, strict=True):
        if not len(group) or len(values) != len(group) or np.isnan(values).any():
            raise ValueError(
                f"{prompt[:40]!r}: {len(group)} responses, rewards {values}: give one number for each"
            )
        best.append((prompt, group[int(np.argmax(values))]))
    return best

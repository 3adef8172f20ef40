"""What online RL learns from: n responses of the present policy to each prompt.

A prompt is tokenised once a run, and read once for its n responses: to sample them, for
their log-probabilities, and in every step (`post_training.rows.Shared`).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._typing import Array, Float
from ..config import AFMConfig
from ..data.packing import row_numbers
from ..data.tasks import chat_tokens
from ..post_training.responses import Response, sample_tokens, sampled
from ..post_training.rows import (
    Shared,
    in_batches,
    response_log_probs,
    round_up,
    share,
    take,
)
from ..weights import Params
from . import advantages
from .mdloo import Experience, bregman, policy_of, values


class Algorithm(NamedTuple):
    """How one algorithm differs from the others."""

    loss: Callable  # (params, experience, cfg, **options) -> (sum, count)
    options: tuple[str, ...]  # those of Settings that the loss takes
    advantages: Callable | None  # rewards [P, n] -> advantages [P, n]; None: by a critic
    penalised: bool = True  # the divergence is part of the reward; else of the loss
    online: bool = True  # responses come from the policy; else from the reference


@dataclasses.dataclass(frozen=True)
class Settings:
    """What may be set; all numbers are ours. beta and gamma are in reward a nat."""

    n: int = 4  # responses a prompt
    prompts: int = 16  # prompts an iteration
    inner_steps: int = 4  # of the optimizer an iteration
    parts: int = 1  # that an iteration's prompts are dealt to; each step takes the next
    beta: float = 0.05  # weight of the divergence to the reference
    gamma: float = 0.5  # of that to the previous iterate: MDLOO
    epsilon: float = 0.2  # where ratios are clipped: RLOO, PPO, GRPO
    value_weight: float = 0.5  # of the critic's error: PPO
    max_new_tokens: int = 32
    row_length: int | None = None  # of a prompt and one response; None takes the longest
    batch_size: int = 64  # responses sampled, or read, at a time

    def __post_init__(self):
        counts = {"n", "prompts", "inner_steps", "parts", "max_new_tokens", "batch_size"}
        for name, value in dataclasses.asdict(self).items():
            low = 1 if name in counts else 0
            if name != "row_length" and not value >= low:
                raise ValueError(f"{name} must be at least {low}, got {value}")


class Rollout(NamedTuple):
    """n responses to each of P prompts, and what their policy gave each token. B = P n."""

    prompts: list[str]
    groups: list[list[Response]]  # [P][n]
    rows: Shared
    log_probs: Float[Array, "B R"]  # 0 outside the response

    def scored(self, reward: Callable) -> Float[Array, "P n"]:
        """Return reward(prompts, groups), or raise ValueError unless all are finite."""
        found = np.asarray(reward(self.prompts, self.groups), np.float32)
        shape = len(self.prompts), self.rows.n
        if found.shape != shape or not np.isfinite(found).all():
            raise ValueError(
                f"the reward must give finite numbers of shape {shape}, got {found.shape}: {found}"
            )
        return found


@dataclasses.dataclass(eq=False)
class OnPolicy:
    """The batches of `train.run` for `training.fit`: new every inner_steps steps."""

    cfg: AFMConfig
    tokenizer: Any
    prompts: Sequence[str]
    reward: Callable  # (prompts, groups) -> [P, n]
    reference: Params
    algorithm: Algorithm
    settings: Settings
    seed: int = 0
    # like the reward: measured alone
    watch: Mapping[str, Callable] = dataclasses.field(default_factory=dict)
    measure: Callable | None = None  # policy -> numbers, beside those of the responses
    measure_every: int = 1  # iterations

    on_policy = True  # fit gives the weights, too

    def __post_init__(self):
        self.heads = [chat_tokens(self.tokenizer, prompt).tokens for prompt in self.prompts]
        longest, new = max(map(len, self.heads)), self.settings.max_new_tokens
        row = self.settings.row_length or round_up(longest + new)
        if longest + new > row:
            raise ValueError(
                f"row_length {row} does not hold {new} new tokens after a prompt of {longest}: raise it"
            )
        self.prompt_length = row - new  # that all are padded to
        count = min(self.settings.prompts, len(self.prompts))
        if count % self.settings.parts:
            raise ValueError(
                f"an iteration's prompts must be dealt to {self.settings.parts} equal parts: got {count}"
            )
        self.numbers = row_numbers(len(self.prompts), count, self.seed)
        self.experience, self.record, self.done = None, {}, 0

    def __call__(self, step: int, params) -> Experience:
        """Return this step's experience, sampled where an iteration (or a run) begins."""
        iteration, inner = divmod(step, self.settings.inner_steps)
        if inner == 0 or self.experience is None:
            self.collect(iteration, params)
        return part(self.experience, inner % self.settings.parts, self.settings.parts)

    def collect(self, iteration: int, params):
        """Sample n responses a prompt, and fix all numbers that the steps will use."""
        policy = policy_of(params) if self.algorithm.online else self.reference
        said = self.sample(policy, iteration)  # its log_probs: [P n, R] under pi_old
        # [P n, R] under pi_ref
        reference = self.read(response_log_probs, self.reference, said.rows)
        rewards = said.scored(self.reward)  # [P, n]
        self.experience = self.fixed(params, said, reference, rewards)
        self.record = self.described(said, reference, rewards, iteration)
        self.done = iteration + 1

    def sample(self, policy, iteration: int) -> Rollout:
        """Return n responses of a policy to each of the iteration's prompts.

        At temperature 1, without filters: what decoding says of a token is log pi_old itself.
        """
        s, numbers = self.settings, self.numbers(iteration)
        heads = [self.heads[i] for i in numbers]
        seed = int(np.random.default_rng((self.seed, iteration)).integers(2**31))
        drawn = sample_tokens(
            policy,
            self.cfg,
            heads,
            s.n,
            s.max_new_tokens,
            temperature=1.0,
            seed=seed,
            batch_size=s.batch_size,
        )
        tokens = [[y for y, _ in group] for group in drawn]
        rows = share(heads, tokens, self.prompt_length, s.max_new_tokens)
        log_probs = np.zeros(rows.real.shape, np.float32)
        log_probs[rows.real] = np.concatenate(
            [log_prob for group in drawn for _, log_prob in group]
        )
        groups = [[sampled(self.tokenizer, y) for y in group] for group in tokens]
        return Rollout([self.prompts[i] for i in numbers], groups, rows, log_probs)

    def fixed(self, params, said: Rollout, reference, rewards) -> Experience:
        """Return what the steps learn from: R of the rewards, and advantages of R."""
        rows, old = said.rows, said.log_probs
        beta = self.settings.beta if self.algorithm.penalised else 0.0
        if self.algorithm.advantages is None:  # by the critic
            # [P n, R]
            returns = advantages.returns_to_go(rewards.reshape(-1), old - reference, beta)
            return Experience(
                rows, old, reference, returns - self.read(values, params, rows), returns
            )
        # [P n], then [P, n] -> [P n]
        R = advantages.penalised_reward(
            rewards.reshape(-1), old.sum(-1), reference.sum(-1), beta
        )
        A = self.algorithm.advantages(R.reshape(rewards.shape)).reshape(-1)
        return Experience(rows, old, reference, A)

    def described(
        self, said: Rollout, reference, rewards, iteration: int
    ) -> dict[str, float]:
        """Return the samples so far, and the means of what the keys and `watch` name.

        kl_reference: log(pi_old / pi_ref), in nats; length: in tokens; ended: before the
        limit.
        """
        return {
            "samples": (iteration + 1) * rewards.size,
            "reward": rewards.mean(),
            "kl_reference": (said.log_probs - reference).sum(-1).mean(),
            "length": said.rows.response.sum(-1).mean(),
            "ended": np.mean(
                [response.ended for group in said.groups for response in group]
            ),
        } | {name: said.scored(measure).mean() for name, measure in self.watch.items()}

    def finished(self, params) -> dict[str, float]:
        """Return the numbers of the iteration that led to these weights: `train.run`."""
        measured = (
            {}
            if self.measure is None or self.done % self.measure_every
            else self.measure(policy_of(params))
        )
        if self.experience is None:
            return measured
        rows, old = self.experience.rows, self.experience.old
        log_rho = (self.read(response_log_probs, policy_of(params), rows) - old).sum(-1)
        moved = {"kl_previous": bregman(log_rho).mean(), "ratio_max": np.exp(log_rho.max())}
        return self.record | moved | measured

    def read(self, function: Callable, params, rows: Shared) -> np.ndarray:
        """Return function(params, rows, cfg) for all rows."""
        return in_batches(function, params, rows, self.cfg, self.settings.batch_size)


def part(batch: Experience, number: int, parts: int) -> Experience:
    """Return one of so many equal parts of the rows, each with its responses."""
    if parts == 1:
        return batch
    numbers = np.array_split(np.arange(len(batch.rows.tokens)), parts)[number]
    n = batch.rows.n
    said = (numbers[:, None] * n + np.arange(n)).reshape(-1)  # of the B = P n responses
    others = (None if x is None else x[said] for x in batch[1:])
    return Experience(take(batch.rows, numbers), *others)

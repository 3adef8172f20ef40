"""Online RL: sample from the present policy, score, take a few steps, and again, whatever the loss.

    outcome = run(policy, cfg, tokenizer, prompts, reward, optax.adam(1e-4), iterations=20, algorithm="mdloo")

It is `training.fit` with batches that look at the weights: every inner_steps steps they are sampled anew. So one
program is compiled for all iterations, the optimizer's state is carried through, and checkpoints are fit's. A prompt is
read once for its K responses, to sample them, for their log-probabilities and in every step (`post_training.shared`).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..config import AFMConfig
from ..data.packing import row_numbers
from ..data.tasks import chat_tokens
from ..post_training.committee import Situation
from ..post_training.members import Workshop
from ..post_training.policy import response_log_probs
from ..post_training.responses import ROW_MULTIPLE, in_batches, sample
from ..post_training.shared import Shared, share
from ..training import History, fit
from ..weights import Params
from . import advantages, baselines, mdloo
from .experience import Experience


class Algorithm(NamedTuple):
    """How one algorithm differs from the others."""

    loss: Callable  # (params, experience, cfg, **options) -> (sum, count)
    options: tuple[str, ...]  # those of Settings that the loss takes
    advantages: Callable | None  # rewards [P, K] -> advantages [P, K]; None: by a critic
    penalised: bool = True  # the divergence to the reference is part of the reward; otherwise of the loss
    online: bool = True  # responses come from the present policy; otherwise from the reference


ALGORITHMS = {
    "reinforce": Algorithm(baselines.reinforce_loss, (), advantages.none),
    "reinforce_mean": Algorithm(baselines.reinforce_loss, (), advantages.mean_baseline),
    "rloo": Algorithm(baselines.rloo_loss, ("epsilon",), advantages.leave_one_out),
    "ppo": Algorithm(baselines.ppo_loss, ("epsilon", "value_weight"), None),
    "grpo": Algorithm(baselines.grpo_loss, ("epsilon", "beta"), advantages.standardised, penalised=False),
    "dpo": Algorithm(baselines.dpo_loss, ("beta", "K"), advantages.best_against_worst, penalised=False, online=False),
    "mdloo": Algorithm(mdloo.mdloo_loss, ("gamma",), advantages.leave_one_out),
    "mdloo_per_token": Algorithm(mdloo.mdloo_per_token_loss, ("gamma",), advantages.leave_one_out),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What may be set. Apple states none of these numbers; they are ours.

    beta and gamma are in units of reward a nat. row_length: of a prompt and one response, so a prompt may have
    row_length - max_new_tokens; None takes the longest. It is fixed, so that no iteration compiles anew.
    """

    K: int = 4  # responses a prompt
    prompts: int = 16  # prompts an iteration
    inner_steps: int = 4  # steps of the optimizer an iteration, each over all of its responses
    beta: float = 0.05  # weight of the divergence to the reference
    gamma: float = 0.5  # of that to the previous iterate: MDLOO
    epsilon: float = 0.2  # where ratios are clipped: RLOO, PPO, GRPO
    value_weight: float = 0.5  # of the critic's error: PPO
    max_new_tokens: int = 32
    row_length: int | None = None
    batch_size: int = 64  # responses sampled, or read, at a time

    def __post_init__(self):
        for name in ("K", "prompts", "inner_steps", "max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("beta", "gamma", "epsilon", "value_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")


class Outcome(NamedTuple):
    """What `run` returns."""

    policy: Params
    history: History  # its evaluations are the iterations' numbers
    params: Any  # the policy, with its critic where it has one
    optimizer_state: Any


@dataclasses.dataclass(eq=False)
class OnPolicy:
    """The batches of `run` for `training.fit`: experience that is collected anew every inner_steps steps."""

    cfg: AFMConfig
    tokenizer: Any
    prompts: Sequence[str]
    reward: Callable  # (prompts, groups) -> [P, K]
    reference: Params
    algorithm: Algorithm
    settings: Settings
    seed: int = 0
    watch: Mapping[str, Callable] = dataclasses.field(default_factory=dict)
    measure: Callable | None = None  # policy -> numbers, beside those of the responses
    measure_every: int = 1  # iterations

    on_policy = True  # fit gives the weights, too

    def __post_init__(self):
        size = min(self.settings.prompts, len(self.prompts))
        self.numbers = row_numbers(len(self.prompts), size, self.seed)
        self.prompt_length = self._prompt_length()
        self.experience, self.record, self.done = None, {}, 0

    def _prompt_length(self) -> int:
        """Return how many tokens every prompt is padded to."""
        longest, new = max(map(len, self._heads(self.prompts))), self.settings.max_new_tokens
        row = self.settings.row_length or -(-(longest + new) // ROW_MULTIPLE) * ROW_MULTIPLE
        if longest + new > row:
            raise ValueError(f"row_length {row} does not hold {new} new tokens after a prompt of {longest}: raise it")
        return row - new

    def _heads(self, prompts):
        return [chat_tokens(self.tokenizer, prompt).tokens for prompt in prompts]

    def __call__(self, step: int, params) -> Experience:
        """Return the experience of this step. It is sampled where an iteration begins (or a run goes on within one)."""
        iteration, inner = divmod(step, self.settings.inner_steps)
        if inner == 0 or self.experience is None:
            self.collect(iteration, params)
        return self.experience

    def collect(self, iteration: int, params):
        """Sample K responses a prompt, and fix all numbers that the steps will use."""
        settings, policy = self.settings, policy_of(params) if self.algorithm.online else self.reference
        prompts = [self.prompts[i] for i in self.numbers(iteration)]
        seed = int(np.random.default_rng((self.seed, iteration)).integers(2**31))
        groups = sample(
            policy, self.cfg, self.tokenizer, prompts, settings.K, settings.max_new_tokens,
            seed=seed, batch_size=settings.batch_size,
        )  # fmt: skip
        tokens = [[response.tokens for response in group] for group in groups]
        rows = share(self._heads(prompts), tokens, self.prompt_length, settings.max_new_tokens)
        old, reference = (self._read(response_log_probs, model, rows) for model in (policy, self.reference))
        rewards = _rewards(self.reward, prompts, groups)
        self.experience = Experience(rows, old, reference, *self._advantages(params, rows, rewards, old, reference))
        self.done = iteration + 1
        self.record = {
            "samples": (iteration + 1) * rewards.size,
            "reward": rewards.mean(),
            "kl_reference": (old - reference).sum(-1).mean(),
            "length": rows.response.sum(-1).mean(),
            "ended": np.mean([response.ended for group in groups for response in group]),
        } | {name: _rewards(measure, prompts, groups).mean() for name, measure in self.watch.items()}

    def _advantages(self, params, rows: Shared, rewards, old, reference):
        """Return (advantages,), or with a critic (advantages, returns)."""
        beta = self.settings.beta if self.algorithm.penalised else 0.0
        if self.algorithm.advantages is None:
            returns = advantages.returns_to_go(rewards.reshape(-1), old - reference, beta)
            return returns - self._read(baselines.values, params, rows), returns
        R = advantages.penalised_reward(rewards.reshape(-1), old.sum(-1), reference.sum(-1), beta)
        return (self.algorithm.advantages(R.reshape(rewards.shape)).reshape(-1),)

    def finished(self, params) -> dict[str, float]:
        """Return the numbers of the iteration whose steps have led to these weights: what `run` describes."""
        measured = {} if self.measure is None or self.done % self.measure_every else self.measure(policy_of(params))
        if self.experience is None:
            return measured
        rows, old = self.experience.rows, self.experience.old
        log_rho = (self._read(response_log_probs, policy_of(params), rows) - old).sum(-1)
        moved = {"kl_previous": mdloo.divergence(log_rho).mean(), "ratio_max": np.exp(log_rho.max())}
        return self.record | moved | measured

    def _read(self, function, params, rows: Shared):
        prompts = min(len(rows.prompts), max(1, self.settings.batch_size // self.settings.K))
        return in_batches(function, params, rows, self.cfg, prompts)


def run(
    policy: Params,
    cfg: AFMConfig,
    tokenizer,
    prompts: Sequence[str],
    reward: Callable,
    optimizer,
    iterations: int,
    *,
    algorithm: str = "mdloo",
    settings: Settings | None = None,
    reference: Params | None = None,
    watch: Mapping[str, Callable] | None = None,
    measure: Callable | None = None,
    measure_every: int = 1,
    seed: int = 0,
    **fitting,
) -> Outcome:
    """Return the policy after online RL by one of ALGORITHMS, with the numbers of every iteration.

        y_1 .. y_K ~ pi_k(.|x),   R and A fixed,   pi_k+1 = pi_k after inner_steps steps down the loss

    reward(prompts, groups) -> [P, K], numbers for the K responses to each prompt; those of `watch`, {name: function},
    are measured likewise and change nothing. reference: None takes the policy at the start. Responses are drawn at
    temperature 1, for only then is pi_k what they come from; one that max_new_tokens has cut is an action like any
    other, and what it deserves is the reward's to say. fitting goes to `training.fit` (checkpoint, select, progress);
    with checkpoint_every a multiple of inner_steps a run that was killed, or got Ctrl-C, continues to the same numbers.

    history.evaluations has for each iteration, at the number of steps done after it: samples (so far), and of its
    responses the mean reward, kl_reference = mean log(pi_k / pi_ref), length in tokens and the share that ended; then,
    after its steps, kl_previous = KL(pi_k+1 || pi_k) and ratio_max = max pi_k+1 / pi_k over these responses. (Those of
    "dpo" come from the reference, so its numbers say little of its policy.) The numbers of measure(policy) -> {name:
    number}, such as those on held-out prompts, stand there at the start and after every measure_every iterations.

    Raises ValueError for an unknown algorithm, no prompts, and a reward that is not a finite number for each response.

    Source: TR24 section 4 (leave-one-out over K responses of the present policy) [confirmed]; what stays fixed, sizes
    [ours].
    Test: tests/rlhf/test_iterate.py::test_the_reward_rises,
        tests/rlhf/test_iterate.py::test_nothing_is_compiled_after_the_first_iteration
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm must be one of {sorted(ALGORITHMS)}, got {algorithm!r}")
    if not prompts or iterations < 1:
        raise ValueError(f"online RL needs prompts and iterations of 1 or more, got {len(prompts)} and {iterations}")
    chosen, settings = ALGORITHMS[algorithm], settings or Settings()
    reference = policy if reference is None else reference
    source = OnPolicy(
        cfg, tokenizer, prompts, reward, reference, chosen, settings, seed, watch or {}, measure, measure_every
    )
    loss = partial(chosen.loss, cfg=cfg, **{name: getattr(settings, name) for name in chosen.options})
    start = baselines.init_actor_critic(policy, cfg) if chosen.advantages is None else policy
    steps = iterations * settings.inner_steps
    fitting = {"max_bad_steps": 10 * settings.inner_steps} | fitting  # equal rewards change no weight: not yet a fault
    done = fit(
        start, loss, source, optimizer, steps, evaluate=source.finished, evaluate_every=settings.inner_steps, **fitting
    )
    return Outcome(policy_of(done.params), done.history, done.params, done.optimizer_state)


def policy_of(params) -> Params:
    """Return the policy alone, without the critic of PPO."""
    return params.policy if isinstance(params, baselines.ActorCritic) else params


def member(shop: Workshop, iterations: int, algorithm: str = "mdloo", settings: Settings | None = None) -> Callable:
    """Return the trainer of a committee's member that learns online from the newest reward model.

    The reference is the student that the round began with. The optimizer, row_length and max_new_tokens are the
    workshop's; its temperature is not: see `run`.

    Source: TR24 section 4 (online RL among the committee's algorithms) [confirmed]; sizes [ours].
    Test: tests/rlhf/test_iterate.py::test_online_rl_joins_the_committee
    """
    sizes = dict(max_new_tokens=shop.max_new_tokens, row_length=shop.row_length, batch_size=shop.sample_rows)
    settings = dataclasses.replace(settings or Settings(), **sizes)

    def train(situation: Situation) -> Params:
        def reward(prompts, groups):
            return shop.score(situation.reward, prompts, groups)

        return run(
            situation.student, shop.cfg, shop.tokenizer, situation.prompts, reward,
            shop.optimizer(iterations * settings.inner_steps), iterations,
            algorithm=algorithm, settings=settings, seed=situation.seed, progress=False,
        ).policy  # fmt: skip

    return train


def _rewards(function, prompts, groups) -> np.ndarray:
    """Return function(prompts, groups) as finite numbers [P, K], or raise ValueError."""
    found = np.asarray(function(prompts, groups), np.float32)
    shape = len(prompts), len(groups[0])
    if found.shape != shape or not np.isfinite(found).all():
        raise ValueError(f"the reward must give finite numbers of shape {shape}, got {found.shape}: {found}")
    return found

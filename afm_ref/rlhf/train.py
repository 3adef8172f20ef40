"""Online RL: sample from the present policy, score, take a few steps, and again.

    trained = run(policy, cfg, tokenizer, prompts, reward, optax.adam(1e-4), iterations=20)

It is `training.fit` with batches that look at the weights: every inner_steps steps they are
sampled anew. So one program is compiled for all iterations, the optimizer's state is
carried through, and checkpoints are fit's.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from ..config import AFMConfig
from ..post_training.committee import Situation
from ..post_training.members import Workshop
from ..training import History, fit
from ..weights import Params
from . import advantages, mdloo
from .mdloo import policy_of
from .rollout import Algorithm, OnPolicy, Settings

ALGORITHMS = {
    "reinforce": Algorithm(mdloo.reinforce_loss, (), advantages.none),
    "reinforce_mean": Algorithm(mdloo.reinforce_loss, (), advantages.mean_baseline),
    "rloo": Algorithm(mdloo.rloo_loss, ("epsilon",), advantages.leave_one_out),
    "ppo": Algorithm(mdloo.ppo_loss, ("epsilon", "value_weight"), None),
    "grpo": Algorithm(
        mdloo.grpo_loss, ("epsilon", "beta"), advantages.standardised, penalised=False
    ),
    "dpo": Algorithm(
        mdloo.dpo_loss,
        ("beta", "n"),
        advantages.best_against_worst,
        penalised=False,
        online=False,
    ),
    "mdloo": Algorithm(mdloo.mdloo_loss, ("gamma",), advantages.leave_one_out),
    "mdloo_per_token": Algorithm(
        mdloo.mdloo_per_token_loss, ("gamma",), advantages.leave_one_out
    ),
}


class Trained(NamedTuple):
    """What `run` returns; the history's evaluations are the iterations' numbers."""

    policy: Params
    history: History


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
    watch: Mapping[str, Callable] | None = None,
    measure: Callable | None = None,
    measure_every: int = 1,
    seed: int = 0,
    **fitting,
) -> Trained:
    """Return the policy after online RL by one of ALGORITHMS, and each iteration's numbers.

        y_1 .. y_n ~ pi_old(.|x),   R and A fixed,   pi_new = pi_old after inner_steps steps

    The reference is the policy at the start, which may come `with_critic`. reward(prompts,
    groups) -> [P, n], of whatever a policy says: a response that max_new_tokens has cut is
    an action like any other. watch: {name: function like reward}, measured alone. fitting
    goes to `training.fit`; with checkpoint_every a multiple of inner_steps a killed run
    continues to the same numbers.

    history.evaluations has `OnPolicy.described` of each iteration and, after its steps,
    kl_previous = KL(pi_new || pi_old) and ratio_max = max pi_new / pi_old over its responses
    ("dpo" has the reference's). measure(policy) -> {name: number} stands there at the start
    and after every measure_every iterations. Raises ValueError for another algorithm and
    for no prompts.

    Source: TR24 section 4 (leave-one-out over n responses of the present policy)
        [confirmed].
    Test: tests/rlhf/test_train.py::test_the_reward_rises,
        tests/rlhf/test_train.py::test_nothing_is_compiled_after_the_first_iteration
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(
            f"algorithm must be one of {sorted(ALGORITHMS)}, got {algorithm!r}"
        )
    if not prompts or iterations < 1:
        raise ValueError(
            f"online RL needs prompts and iterations of 1 or more, got {len(prompts)} and {iterations}"
        )
    chosen, settings = ALGORITHMS[algorithm], settings or Settings()
    source = OnPolicy(
        cfg,
        tokenizer,
        prompts,
        reward,
        policy_of(policy),
        chosen,
        settings,
        seed,
        watch or {},
        measure,
        measure_every,
    )
    loss = partial(
        chosen.loss, cfg=cfg, **{name: getattr(settings, name) for name in chosen.options}
    )
    start = policy_of(policy)
    if chosen.advantages is None:
        has_critic = isinstance(policy, mdloo.ActorCritic)
        start = policy if has_critic else mdloo.init_actor_critic(policy, cfg)
    steps = iterations * settings.inner_steps
    # equal rewards change no weight: not yet a fault
    fitting = {"max_bad_steps": 10 * settings.inner_steps} | fitting
    done = fit(
        start,
        loss,
        source,
        optimizer,
        steps,
        evaluate=source.finished,
        evaluate_every=settings.inner_steps,
        **fitting,
    )
    return Trained(policy_of(done.params), done.history)


def with_critic(
    policy: Params, cfg: AFMConfig, tokenizer, prompts, reward, optimizer, steps: int, settings: Settings, seed=0,
    **fitting,
) -> mdloo.ActorCritic:  # fmt: skip
    """Return the policy with a critic that has learnt its returns, for PPO to start with.

    The policy stays as it is and is sampled as in `run`, for steps / inner_steps iterations.

    Source: a critic before its first use [standard].
    Test: tests/rlhf/test_train.py::test_a_critic_learns_before_the_policy
    """
    source = OnPolicy(
        cfg, tokenizer, prompts, reward, policy, ALGORITHMS["ppo"], settings, seed
    )
    return fit(
        mdloo.init_actor_critic(policy, cfg),
        partial(mdloo.value_loss, cfg=cfg),
        source,
        optimizer,
        steps,
        select=lambda model: model._replace(policy=None),
        **fitting,
    ).params


def member(
    shop: Workshop,
    iterations: int,
    algorithm: str = "mdloo",
    settings: Settings | None = None,
) -> Callable:
    """Return a trainer for the committee that learns online from the newest reward model.

    The optimizer and the sizes are the workshop's; the reference is the round's first
    student.

    Source: TR24 section 4 (online RL among the committee's algorithms) [confirmed].
    Test: tests/rlhf/test_train.py::test_online_rl_joins_the_committee
    """
    settings = dataclasses.replace(
        settings or Settings(),
        max_new_tokens=shop.max_new_tokens,
        row_length=shop.row_length,
        batch_size=shop.sample_rows,
    )

    def train(situation: Situation) -> Params:
        def reward(prompts, groups):
            return shop.score(situation.reward, prompts, groups)

        return run(
            situation.student, shop.cfg, shop.tokenizer, situation.prompts, reward,
            shop.optimizer(iterations * settings.inner_steps), iterations,
            algorithm=algorithm, settings=settings, seed=situation.seed, progress=False,
        ).policy  # fmt: skip

    return train

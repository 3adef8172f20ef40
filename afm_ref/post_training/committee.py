"""iTeC, the iterative teaching committee: many teachers, the best responses, one student.

Members are functions: nothing here knows how a policy is stored or trained.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._typing import Array, Float, Int
from .preferences import Preference
from .responses import Response


class Situation(NamedTuple):
    """What a member's trainer gets. A trainer is a function of it that returns a policy."""

    student: Any  # the policy to start from
    reward: Any  # the newest reward model
    preferences: list[Preference]  # all so far
    prompts: Sequence[str]
    round: int
    seed: int


class Tools(NamedTuple):
    """What the committee needs done, as functions; see `run` for when each is called."""

    sample: Callable  # (policy, prompts, n, seed) -> n responses to each prompt
    score: Callable  # (reward, prompts, groups) -> a reward for each response, as groups
    annotate: Callable  # (prompts, groups, seed) -> preferences
    refresh: Callable  # (reward, preferences, seed) -> a newer reward model
    distil: Callable  # (student, [(prompt, response)], seed) -> a newer student


class Pool(NamedTuple):
    """Responses of every member to every prompt, and what a reward says of them."""

    names: tuple[str, ...]
    groups: list[list[list[Response]]]  # [M][P][n]
    rewards: Float[Array, "M P n"]


class Best(NamedTuple):
    """For each prompt, whose response was taken and which."""

    member: Int[Array, " P"]
    sample: Int[Array, " P"]


class Round(NamedTuple):
    """What happened in a round."""

    committee: dict[str, Any]  # name -> policy
    preferences: int  # collected up to now
    reward: Any
    pool: Pool
    choice: Best
    student: Any


def pool_of(
    committee: Mapping[str, Any], reward, tools: Tools, prompts, n: int, seed: int
) -> Pool:
    """Return n responses of every member to every prompt, scored by a reward.

    Raises ValueError if a member gives too few, or the reward is not a number for one.
    """
    groups = []
    rewards = []
    for name, said in _answers(committee, tools, prompts, n, seed):
        values = np.asarray(tools.score(reward, prompts, said), float)
        if values.shape != (len(prompts), n) or not np.isfinite(values).all():
            raise ValueError(
                f"the rewards of member {name!r} must be finite numbers [P, n], got shape {values.shape}"
            )
        groups.append(said)
        rewards.append(values)
    return Pool(tuple(committee), groups, np.stack(rewards))


def best_per_prompt(rewards: Float[Array, "M P n"]) -> Best:
    """Return each prompt's response of highest reward of all members; the first of equals.

        (m*, i*)(x) = argmax_{m, i} r(x, y_{m,i})

    Source: TR24 section 4 (the newest reward model picks the best per prompt) [confirmed].
    Test: tests/post_training/test_committee.py::test_the_best_is_chosen_prompt_by_prompt
    """
    M, P, n = rewards.shape
    flat = np.moveaxis(rewards, 1, 0).reshape(P, M * n).argmax(axis=1)
    return Best(flat // n, flat % n)


def best_member(rewards: Float[Array, "M P n"]) -> int:
    """Return the number of the one globally best teacher, by mean reward."""
    return int(rewards.mean(axis=(1, 2)).argmax())


def shares(rewards: Float[Array, "M P n"]) -> Float[Array, " M"]:
    """Return the share of prompts that each member wins; k that tie get 1 / k each."""
    best = rewards.max(axis=2)  # [M, P]
    wins = best == best.max(axis=0)
    return (wins / wins.sum(axis=0)).mean(axis=1)


def chosen(pool: Pool, prompts: Sequence[str], choice: Best) -> list[tuple[str, Response]]:
    """Return (prompt, chosen response) for each prompt: what the student learns from."""
    return [
        (prompt, pool.groups[m][p][i])
        for p, (prompt, m, i) in enumerate(zip(prompts, *choice, strict=True))
    ]


def run(
    members: Mapping[str, Callable], student, reward, tools: Tools, prompts: Sequence[str], *, rounds=3, n=4, seed=0,
    preferences: Sequence[Preference] = (),
) -> list[Round]:  # fmt: skip
    """Return the rounds of a committee; members are trainers, {name: Situation -> policy}.

    Each round:
      1. the committee (at first the student alone) answers n times; `annotate` compares
      2. `refresh` makes the reward model newer, with all preferences so far
      3. every member is trained, from the student; the best of earlier rounds stays on
      4. they all answer n times; the newest reward picks the best response to each prompt;
         `distil` gives the student

    preferences: those known already. The best member is the one of highest mean reward.
    Every call gets a seed of its own. Raises ValueError for no members, prompts or rounds.

    Source: TR24 section 4 (iTeC) [confirmed]; sizes, and how many earlier members stay
        [ours].
    Test: tests/post_training/test_committee.py::test_rounds_by_hand
    """
    if not members or not prompts or rounds < 1 or n < 1:
        raise ValueError(
            f"a committee needs members, prompts, rounds and n of 1 or more, got {rounds=}, {n=}"
        )
    committee, earlier, preferences, done = {"student": student}, {}, list(preferences), []
    for number in range(rounds):
        seeds = [_seed(seed, number, i) for i in range(5 + len(members))]
        everyone = committee | {"student": student}
        said = [groups for _, groups in _answers(everyone, tools, prompts, n, seeds[0])]
        # [M][P][n] -> [P][M n]
        groups = [list(itertools.chain(*each)) for each in zip(*said, strict=True)]
        preferences = preferences + tools.annotate(prompts, groups, seeds[1])
        reward = tools.refresh(reward, preferences, seeds[2])
        trained = {
            name: train(Situation(student, reward, preferences, prompts, number, own))
            for (name, train), own in zip(members.items(), seeds[5:], strict=True)
        }
        committee = earlier | trained
        pool = pool_of(committee, reward, tools, prompts, n, seeds[3])
        choice = best_per_prompt(pool.rewards)
        student = tools.distil(student, chosen(pool, prompts, choice), seeds[4])
        done.append(Round(committee, len(preferences), reward, pool, choice, student))
        best = pool.names[best_member(pool.rewards)]
        earlier = {
            best if best in earlier else f"{best} of round {number + 1}": committee[best]
        }
    return done


def equal_budget(
    pool: Pool, judged: Float[Array, "M P N"]
) -> dict[str, Float[Array, " P"]]:
    """Return the judged value of what each way of teaching picks, from N samples a prompt.

        committee          the best by reward of N / M samples of each of the M members
        best teacher       of N samples of the member of highest mean reward
        <name of member>   of N samples of that member

    judged: another measure of the same responses, [M, P, N]. Raises ValueError unless M
    divides N.

    Source: TR24 section 4 (per prompt, not one globally best teacher) [confirmed].
    Test: tests/post_training/test_committee.py::test_budgets_are_equal
    """
    M, P, N = pool.rewards.shape
    if N % M or judged.shape != (M, P, N):
        raise ValueError(
            f"{N} samples cannot be dealt to {M} members, or judged has not the shape {(M, P, N)}"
        )

    def value(which):  # of these members' and samples' best by reward
        member, i = best_per_prompt(pool.rewards[which])
        return judged[which][member, np.arange(P), i]

    alone = {name: value(slice(m, m + 1)) for m, name in enumerate(pool.names)}
    together = value(np.s_[:, :, : N // M])
    return {
        "committee": together,
        "best teacher": alone[pool.names[best_member(pool.rewards)]],
    } | alone


def _answers(committee, tools, prompts, n, seed):
    """Yield (name, [P][n] responses) of every member."""
    for number, (name, policy) in enumerate(committee.items()):
        said = tools.sample(policy, prompts, n, _seed(seed, number))
        if [len(group) for group in said] != [n] * len(prompts):
            raise ValueError(
                f"member {name!r} must give {n} responses to each of {len(prompts)} prompts"
            )
        yield name, said


def _seed(*key):
    return int(np.random.default_rng(key).integers(2**31))

"""The committee's logic, with members that train nothing: policies are names, responses carry their utility."""

import re
from functools import partial

import numpy as np
import pytest

from afm_ref.post_training import committee
from afm_ref.post_training.committee import Pool, Tools, best_member, best_per_prompt, equal_budget, pool_of, run
from afm_ref.post_training.preferences import Preference
from afm_ref.post_training.responses import Response

PROMPTS = ["maths", "letter", "joke"]
# How good each kind of member is at each prompt.
SKILL = {"sft": (2, 2, 2), "dpo": (9, 1, 1), "rs": (1, 9, 1)}


class Stage:
    """Fake tools that write down every call. A policy is (name, round); a reward model is its version."""

    def __init__(self):
        self.calls, self.seeds = [], []
        self.tools = Tools(self.sample, self.score, self.annotate, self.refresh, self.distil)

    def sample(self, policy, prompts, n, seed):
        self.calls.append(("sample", policy))
        self.seeds.append(seed)
        name, made = policy
        return [[Response(f"{name}{made} on {prompt}, {i}", (i + 1,)) for i in range(n)] for prompt in prompts]

    def score(self, version, prompts, groups):
        """The skill of the kind on the prompt, the round, and a little for the last sample; version 1 errs on jokes."""
        self.calls.append(("score", version))
        found = []
        for p, group in enumerate(groups):
            name, made = re.match(r"(\w+)(\d) on", group[0].text).groups()
            skill = SKILL.get(name, (0, 0, 0))[p] + 0.1 * int(made) + 10 * ((version, p, name) == (1, 2, "rs"))
            found.append([skill + 0.01 * i for i in range(len(group))])
        return found

    def annotate(self, prompts, groups, seed):
        self.calls.append(("annotate", [len(group) for group in groups]))
        return [f"preference {prompt}" for prompt in prompts]

    def refresh(self, version, preferences, seed):
        self.calls.append(("refresh", version, len(preferences)))
        return version + 1

    def distil(self, student, examples, seed):
        self.calls.append(("distil", student, [response.text for _, response in examples]))
        return ("student", student[1] + 1)

    def train(self, name, situation):
        self.calls.append(("train", name, situation.student, situation.reward, len(situation.preferences)))
        return (name, situation.round + 1)


def test_rounds_by_hand():
    stage = Stage()
    members = {name: partial(stage.train, name) for name in SKILL}
    rounds = run(members, ("student", 0), 0, stage.tools, PROMPTS, rounds=2, n=2)
    second = [("rs", 1), ("sft", 2), ("dpo", 2), ("rs", 2)]
    assert stage.calls == [
        ("sample", ("student", 0)),
        ("annotate", [2, 2, 2]),
        ("refresh", 0, 3),
        *(("train", name, ("student", 0), 1, 3) for name in SKILL),
        *(call for name in SKILL for call in (("sample", (name, 1)), ("score", 1))),
        ("distil", ("student", 0), ["dpo1 on maths, 1", "rs1 on letter, 1", "rs1 on joke, 1"]),
        *(("sample", (name, 1)) for name in SKILL),
        ("sample", ("student", 1)),
        ("annotate", [8, 8, 8]),
        ("refresh", 1, 6),
        *(("train", name, ("student", 1), 2, 6) for name in SKILL),
        *(call for policy in second for call in (("sample", policy), ("score", 2))),
        # the newest reward has unlearnt its error on jokes
        ("distil", ("student", 1), ["dpo2 on maths, 1", "rs2 on letter, 1", "sft2 on joke, 1"]),
    ]
    assert [*rounds[0].committee.values()] == [("sft", 1), ("dpo", 1), ("rs", 1)]
    assert list(rounds[1].committee) == ["rs of round 1", "sft", "dpo", "rs"]
    assert [(r.preferences, r.reward, r.student) for r in rounds] == [(3, 1, ("student", 1)), (6, 2, ("student", 2))]
    assert len(set(stage.seeds)) == len(stage.seeds)  # nobody draws with another's seed


def test_known_preferences_come_first():
    stage = Stage()
    a, b = (Response(text, (1,)) for text in "ab")
    known = [Preference(prompt, a, b, 0, (2,) * 4, (0,) * 4, 0.5) for prompt in PROMPTS[:2]]
    members = {"sft": partial(stage.train, "sft")}
    (done,) = run(members, ("student", 0), 0, stage.tools, PROMPTS, rounds=1, n=2, preferences=known)
    assert done.preferences == 2 + 3 and ("refresh", 0, 5) in stage.calls


def made_pool(rewards):
    names = tuple("abcdefgh"[: len(rewards)])
    groups = [[[Response(f"{name}{p}{i}", (1,)) for i in range(len(values))] for p, values in enumerate(member)]
              for name, member in zip(names, rewards)]  # fmt: skip
    return Pool(names, groups, np.array(rewards, float))


def test_the_best_is_chosen_prompt_by_prompt():
    pool = made_pool([[[5, 0], [0, 0]], [[0, 1], [0, 3]]])
    found = committee.chosen(pool, "xy", best_per_prompt(pool.rewards))
    assert [response.text for _, response in found] == ["a00", "b11"]
    assert best_member(pool.rewards) == 0 and best_member(pool.rewards[::-1]) == 1


def test_shares_split_ties():
    rewards = np.array([[[3, 1], [2, 2], [7, 7]], [[3, 0], [1, 0], [7, 1]], [[1, 0], [2, 0], [7, 0]]], float)
    first, other = (1 / 2 + 1 / 2 + 1 / 3) / 3, (1 / 2 + 1 / 3) / 3
    np.testing.assert_allclose(committee.shares(rewards), [first, other, other])


def test_budgets_are_equal():
    """Four samples a prompt for everybody: the committee may not look at more than two of each member."""
    a = [[1, 2, 9, 0], [1, 1, 1, 1], [4, 0, 0, 8]]
    b = [[0, 3, 0, 8], [5, 2, 2, 6], [0, 1, 3, 2]]
    pool = made_pool([a, b])
    found = equal_budget(pool, 10 * pool.rewards + 1)
    best = [81, 61, 31]  # of b: mean 32 / 12 against 28 / 12
    want = {"committee": [31, 51, 41], "a": [91, 11, 81], "b": best, "best teacher": best}
    assert {name: values.tolist() for name, values in found.items()} == want
    with pytest.raises(ValueError, match="dealt"):
        equal_budget(made_pool([[[1, 2, 3]], [[1, 2, 3]]]), np.zeros((2, 1, 3)))


def test_bad_members_are_named():
    stage = Stage()
    short = stage.tools._replace(sample=lambda policy, prompts, n, seed: [[]] * len(prompts))
    nan = stage.tools._replace(score=lambda *_: np.full((3, 2), np.nan))
    for tools, message in ((short, "'sft' must give 2 responses"), (nan, "'sft' must be finite")):
        with pytest.raises(ValueError, match=message):
            pool_of({"sft": ("sft", 1)}, 1, tools, PROMPTS, 2, 0)
    with pytest.raises(ValueError, match="needs members"):
        run({}, "student", 0, stage.tools, PROMPTS)

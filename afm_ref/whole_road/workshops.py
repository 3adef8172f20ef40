"""The committee on the bench: who its members are, and whose rewards they follow."""

import dataclasses
from functools import partial
from typing import NamedTuple

from .. import assets, rlhf
from ..post_training import committee, members, utility
from .recipes import NEW_TOKENS, ROW, SAMPLE_ROWS, adam, afm

# an iteration of online RL: each step on a quarter of its prompts; gamma and the rates are what
# chapter 11's tries chose
SETTINGS = rlhf.Settings(
    n=4, prompts=64, inner_steps=8, parts=4, beta=0.01, gamma=0.1, max_new_tokens=NEW_TOKENS,
    row_length=ROW, batch_size=SAMPLE_ROWS,
)  # fmt: skip


class Oracle(members.Workshop):
    """A workshop whose reward is the latent utility: a committee that is never misled."""

    def score(self, reward, prompts, groups):
        """Return the utility of each response."""
        return [
            [utility(self.records[p], response) for response in group]
            for p, group in zip(prompts, groups)
        ]


JUDGES = {"reward model": members.Workshop, "utility": Oracle}  # whose rewards are followed


class Shops(NamedTuple):
    """A workshop for each way to learn, of its own optimizer."""

    supervised: members.Workshop
    pairwise: members.Workshop  # from preferences
    online: members.Workshop


def learning_rate(algorithm: str = "mdloo") -> float:
    """Return the peak rate that an algorithm's tries chose in chapter 11; 0.0003 without tries."""
    chosen = assets.recording("mdloo")["numbers"][
        "chosen"
    ]  # {algorithm: (rate, trust region)}
    return chosen.get(algorithm, (3e-4,))[0]


def shops(bench, records, judge) -> Shops:
    """Return the workshops of a bench for these records' prompts; judge: one of JUDGES."""
    s = bench.sizes
    of = {record.prompt: record for record in records}
    supervised = JUDGES[judge](
        bench.cfg, bench.tok, of, partial(afm, s.member_rate), s.member_steps,
        sample_rows=SAMPLE_ROWS, row_length=ROW, max_new_tokens=NEW_TOKENS,
    )  # fmt: skip

    def by_adam(rate):
        return dataclasses.replace(supervised, optimizer=partial(adam, rate))

    return Shops(supervised, by_adam(s.preference_rate), by_adam(learning_rate()))


def trainers(bench, shops: Shops):
    """Return {name: trainer} of the members."""
    s = bench.sizes
    settings = dataclasses.replace(SETTINGS, prompts=s.online_prompts)
    return {
        "rejection sampling": shops.supervised.rejection(8),
        "DPO": shops.pairwise.preference("dpo", 0.1, s.newest),
        "MDLOO": rlhf.member(shops.online, s.iterations, "mdloo", settings),
    }


def teach(bench, judge, seed):
    """Return the rounds of a committee from the bench's student on, with one of JUDGES.

    The reward model has just learnt from this student: one round compares and refreshes
    nothing more.
    """
    records = bench.records(bench.sizes.committee_records, seed=60 + seed)
    of = shops(bench, records, judge)
    tools = of.supervised.tools()._replace(
        annotate=lambda *_: [], refresh=lambda reward, *_: reward
    )
    return committee.run(
        trainers(bench, of), bench.student(seed), bench.reward(seed), tools, [record.prompt for record in records],
        rounds=bench.sizes.rounds, n=3, seed=seed, preferences=bench.preferences(seed),
    )  # fmt: skip

"""The committee on the bench: who its members are, and whose rewards they follow."""

import dataclasses
from functools import partial
from typing import NamedTuple

import numpy as np

from .. import rlhf
from ..post_training import committee, members, utility
from .bench import MAIN, NEW_TOKENS, ROW, SAMPLE_ROWS, TAUGHT, adam, afm


class Oracle(members.Workshop):
    """A workshop whose reward is the latent utility: a committee that is never misled."""

    def score(self, reward, prompts, groups):
        """Return the utility of each response."""
        return [
            [utility(self.records[p], response) for response in group]
            for p, group in zip(prompts, groups)
        ]

    def refresh(self, reward, preferences, seed):
        """Return the reward: there is nothing to learn."""
        return reward


JUDGES = {"reward model": members.Workshop, "utility": Oracle}  # whose rewards are followed


class Shops(NamedTuple):
    """A workshop for each way to learn, of its own optimizer."""

    supervised: members.Workshop
    pairwise: members.Workshop  # from preferences
    online: members.Workshop
    rewarding: members.Workshop  # of the reward model


def shops(bench, records, judge) -> Shops:
    """Return the workshops of a bench for these records' prompts; judge: one of JUDGES."""
    s = bench.sizes
    of = {record.prompt: record for record in records}
    supervised = JUDGES[judge](
        bench.cfg, bench.tok, of, partial(afm, s.member_rate), s.member_steps,
        sample_rows=SAMPLE_ROWS, row_length=ROW, max_new_tokens=NEW_TOKENS,
    )  # fmt: skip

    def by_adam(rate, **changes):
        return dataclasses.replace(supervised, optimizer=partial(adam, rate), **changes)

    rewarding = by_adam(
        s.refresh_rate, reward_steps=s.refresh_steps, reward_prompts=s.reward_batch
    )
    return Shops(supervised, by_adam(s.preference_rate), by_adam(s.online_rate), rewarding)


def trainers(bench, shops: Shops, known):
    """Return {name: trainer} of the members; known: examples that SFT goes on with."""
    s = bench.sizes
    settings = rlhf.Settings(n=4, prompts=16, inner_steps=2, beta=s.beta, gamma=s.gamma)
    return {
        "SFT": shops.supervised.sft(known),
        "rejection sampling": shops.supervised.rejection(8),
        "DPO": shops.pairwise.preference("dpo", 0.1, s.newest),
        "IPO": shops.pairwise.preference("ipo_mean", 0.5, s.newest),
        "MDLOO": rlhf.member(shops.online, s.iterations, "mdloo", settings),
    }


def teach(bench, judge, seed):
    """Return the rounds of a committee from the bench's student on, with one of JUDGES."""
    records = taught_records(bench, seed)
    of = shops(bench, records, judge)
    known = bench.hybrid(seed)[0]["all"]

    def distil(student, examples, seed):
        # with as many of the hybrid data between, lest the rest be forgotten
        some = np.random.default_rng(seed).choice(len(known), len(examples))
        return of.supervised.fine_tune(student, examples + [known[i] for i in some], seed)

    tools = of.supervised.tools()._replace(refresh=of.rewarding.refresh, distil=distil)
    return committee.run(
        trainers(bench, of, known), bench.student(seed), bench.reward(seed, MAIN), tools,
        [record.prompt for record in records],
        rounds=bench.sizes.rounds, n=3, seed=seed, preferences=bench.preferences(seed),
    )  # fmt: skip


def taught_records(bench, seed):
    """Return the records whose prompts the committee answers."""
    return bench.records(bench.sizes.committee_records, seed=60 + seed, only=TAUGHT)

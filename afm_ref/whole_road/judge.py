"""A reward model from one pass over annotators' pairs of a policy's own responses."""

from collections import defaultdict
from functools import partial

import numpy as np

from ..post_training import losses, preferences, reward_model
from ..post_training.rows import share, take
from ..training import fit
from .recipes import NEW_TOKENS, PROMPT_TOKENS, adam

POOL_SEED, SAMPLES, PAIRS, EACH = (
    500,
    4,
    4,
    8,
)  # responses and pairs a prompt; prompts a step
RATE = 1e-3


def trained(bench, pool, prompts, seed):
    """Return a reward model after one pass over the pool's first prompts.

    Its rewards are scaled so that they differ within a prompt as much as utilities do, on the
    pool's last prompts (`BenchSizes.scaled_on`): the head's weights hold the factor.
    """
    records, groups = pool
    batch, steps = batches_of(bench, records[:prompts], groups[:prompts], seed)
    start = reward_model.init_reward_model(bench.instruct, bench.cfg, seed)
    loss = partial(reward_model.reward_loss, cfg=bench.cfg)
    steps = max(2, steps)
    judge = fit(start, loss, batch, adam(RATE, steps), steps, progress=False).params
    last = records[-bench.sizes.scaled_on :], groups[-bench.sizes.scaled_on :]
    both = bench.judged(*last), bench.score(judge, *last)
    truth, rewards = (np.sqrt(of.var(axis=1).mean()) for of in both)
    return judge._replace(preference=judge.preference * np.float32(truth / rewards))


def batches_of(bench, records, groups, seed):
    """Return (step -> Pairs, steps) of one pass, EACH prompts at a time; each is read once.

    Raises ValueError at a step whose prompts have no two different responses.
    """
    found = defaultdict(list)
    for preference in preferences.collect(records, groups, seed=seed, pairs=PAIRS):
        found[preference.prompt].append(preference)
    said = [[response.tokens for response in group] for group in groups]
    heads = [bench.tokens_of(record.prompt) for record in records]
    # and one, for the last token to be read
    rows = share(heads, said, PROMPT_TOKENS, NEW_TOKENS + 1)
    order = np.random.default_rng(seed).permutation(len(records))

    def batch(step):
        numbers = np.resize(order[EACH * step : EACH * (step + 1)], EACH)
        some = [
            (i, n, pair) for i, n in enumerate(numbers) for pair in found[records[n].prompt]
        ]
        if not some:
            raise ValueError(
                f"the responses to each of {EACH} prompts are alike, so no pair can be compared: "
                "sample more prompts, or from a policy that is less sure"
            )
        filled = [some[i % len(some)] for i in range(EACH * PAIRS)]
        sides = [
            [(p.chosen, p.chosen_grades) for *_, p in filled],
            [(p.rejected, p.rejected_grades) for *_, p in filled],
        ]
        places = [
            [SAMPLES * i + groups[n].index(y) for (i, n, _), (y, _) in zip(filled, side)]
            for side in sides
        ]
        return losses.Pairs(
            take(rows, numbers),
            np.array(places),
            np.array([preferences.SOFT_LABELS[p.level] for *_, p in filled], np.float32),
            np.array([[grades for _, grades in side] for side in sides], np.int32),
            (np.arange(len(filled)) < len(some)).astype(np.float32),
        )

    return batch, -(-len(records) // EACH)

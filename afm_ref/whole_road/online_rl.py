"""Online RL on the bench: one algorithm from the student on, measured as it goes."""

from functools import partial
from typing import NamedTuple

import numpy as np

from ..data.tasks import Record
from ..post_training.rows import conversation, in_batches, pad, sequence_log_probs
from ..rlhf import Settings, Trained, train
from .bench import NEW_TOKENS, ROW, SAMPLE_ROWS, TAUGHT, adam
from .workshops import JUDGES, shops

SETTINGS = Settings(
    n=4, prompts=16, inner_steps=2, max_new_tokens=NEW_TOKENS, row_length=ROW
)
ITERATIONS, MEASURE_EVERY, MEASURE_SEED = 20, 4, 81
PROMPTS = 32  # of each task; every one is visited again and again, as few samples must do
MEASURES = ("utility", "proxy", "kl", "tokens", "held_out_utility", "held_out_proxy")


class Course(NamedTuple):
    """Where a run starts, what it learns on and by whose reward: all but the algorithm."""

    student: object
    reward: object
    records: list[Record]


def course(bench, seed: int) -> Course:
    """Return the course of a seed: its student and reward model, and prompts of the tasks
    that rewards teach.
    """
    return Course(
        bench.student(seed),
        bench.reward(seed),
        bench.records(PROMPTS, seed=80 + seed, only=TAUGHT),
    )


def learn(
    bench, seed: int, algorithm="mdloo", judge="reward model", rate=3e-4, iterations=ITERATIONS, settings=SETTINGS,
    measure_every=MEASURE_EVERY, **fitting,
) -> Trained:  # fmt: skip
    """Return `rlhf.run` from the bench's student of this seed, which is the reference as
    well.

    history.evaluations has what `measured` gives at the start and every measure_every
    iterations. fitting goes to `rlhf.run`: checkpoint, progress. Raises ValueError for
    another judge than JUDGES, and what `rlhf.run` refuses.
    """
    if judge not in JUDGES:
        raise ValueError(f"judge must be one of {tuple(JUDGES)}, got {judge!r}")
    on = course(bench, seed)
    shop = shops(bench, on.records, judge).online
    return train.run(
        on.student, bench.cfg, bench.tok, list(shop.records), partial(shop.score, on.reward),
        adam(rate, iterations * settings.inner_steps), iterations, algorithm=algorithm, settings=settings, seed=seed,
        measure=lambda policy: measured(bench, policy, on), measure_every=measure_every, **fitting,
    )  # fmt: skip


def measured(bench, policy, on: Course) -> dict[str, float]:
    """Return MEASURES of a policy.

    Of 2 responses to each prompt that it learns on: the mean true utility, the proxy (the
    reward model's reward), kl = mean log(pi / pi_ref) in nats and their length in tokens;
    of 1 to each held-out prompt the utility and the proxy. The random numbers are the same
    at every call.
    """
    groups = bench.sample(policy, on.records, 2, MEASURE_SEED)
    said = [(record.prompt, y) for record, group in zip(on.records, groups) for y in group]
    rows = pad([conversation(bench.tok, *item) for item in said], ROW)
    log_probs, to = (
        in_batches(sequence_log_probs, p, rows, bench.cfg, SAMPLE_ROWS)
        for p in (policy, on.student)
    )
    held_out = bench.held_out_of(*TAUGHT)
    answers = bench.sample(policy, held_out, 1, MEASURE_SEED)
    values = (
        bench.judged(on.records, groups),
        bench.score(on.reward, on.records, groups),
        log_probs - to,
        rows.response.sum(-1),
        bench.judged(held_out, answers),
        bench.score(on.reward, held_out, answers),
    )
    return {name: float(np.mean(of)) for name, of in zip(MEASURES, values)}


def curve(history) -> dict[str, list]:
    """Return {"samples": responses drawn so far} and the MEASURES along the way, as lists
    of equal length.
    """
    rows = [row for row in history.evaluations if "kl" in row]
    return {"samples": [int(row.get("samples", 0)) for row in rows]} | {
        name: [round(row[name], 4) for row in rows] for name in MEASURES
    }

"""Online RL on the bench: one algorithm from the student on, measured as it goes."""

from functools import partial
from typing import NamedTuple

import numpy as np

from ..data.tasks import Record
from ..post_training.rows import conversation, in_batches, pad, sequence_log_probs
from ..rlhf import Trained, train
from .recipes import ROW, SAMPLE_ROWS, adam
from .workshops import JUDGES, SETTINGS, shops

ITERATIONS, MEASURE_EVERY, MEASURE_SEED = 8, 2, 81
MEASURED = 64  # of the prompts that it learns on, to measure with
MEASURES = ("utility", "proxy", "kl", "tokens", "held_out_utility", "held_out_proxy")


class Course(NamedTuple):
    """Where a run starts, what it learns on and by whose reward: all but the algorithm."""

    student: object
    reward: object
    records: list[Record]


def course(bench, seed: int, prompts: int) -> Course:
    """Return the course of a seed: its student and reward model, and so many prompts."""
    return Course(
        bench.student(seed), bench.reward(seed), bench.records(-(-prompts // 2), 300 + seed)
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
    on = course(bench, seed, iterations * settings.prompts)
    shop = shops(bench, on.records, judge).online
    return train.run(
        on.student, bench.cfg, bench.tok, list(shop.records), partial(shop.score, on.reward),
        adam(rate, iterations * settings.inner_steps), iterations, algorithm=algorithm, settings=settings, seed=seed,
        measure=lambda policy: measured(bench, policy, on), measure_every=measure_every, **fitting,
    )  # fmt: skip


def measured(bench, policy, on: Course) -> dict[str, float]:
    """Return MEASURES of a policy.

    Of 2 responses to some prompts that it learns on: the mean true utility, the proxy (the
    reward model's reward), kl = mean log(pi / pi_ref) in nats and their length in tokens;
    of 1 to each held-out prompt the utility and the proxy. The random numbers are the same
    at every call.
    """
    spread = np.linspace(0, len(on.records) - 1, min(MEASURED, len(on.records))).astype(int)
    records = [on.records[i] for i in spread]
    groups = bench.sample(policy, records, 2, MEASURE_SEED)
    said = [(record.prompt, y) for record, group in zip(records, groups) for y in group]
    rows = pad([conversation(bench.tok, *item) for item in said], ROW)
    log_probs, to = (
        in_batches(sequence_log_probs, p, rows, bench.cfg, SAMPLE_ROWS)
        for p in (policy, on.student)
    )
    answers = bench.sample(policy, bench.held_out, 1, MEASURE_SEED)
    values = (
        bench.judged(records, groups),
        bench.score(on.reward, records, groups),
        log_probs - to,
        rows.response.sum(-1),
        bench.judged(bench.held_out, answers),
        bench.score(on.reward, bench.held_out, answers),
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

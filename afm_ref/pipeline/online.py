"""Online RL on the bench: one algorithm from the student on, measured on held-out prompts as it goes."""

import dataclasses

import numpy as np

from ..post_training import utility
from ..post_training.policy import sequence_log_probs
from ..post_training.responses import conversation, in_batches, pad
from ..rlhf import Outcome, Settings, iterate
from .bench import NEW_TOKENS, ROW, SAMPLE_ROWS, TAUGHT, adam

JUDGES = ("reward model", "utility")
SETTINGS = Settings(K=4, prompts=16, inner_steps=4, max_new_tokens=NEW_TOKENS, row_length=ROW, batch_size=64)
TRAIN_RECORDS = 400  # a task


def learn(
    bench, seed: int, algorithm="mdloo", judge="reward model", rate=3e-4, iterations=24, settings=SETTINGS,
    measure_every=4, **fitting,
) -> Outcome:  # fmt: skip
    """Return `rlhf.run` from the bench's student of this seed, the student the reference.

    judge: whose reward is maximised, the reward model's or the latent utility itself. history.evaluations has, at the
    start and every measure_every iterations, what `measured` gives. fitting goes to `rlhf.run`: checkpoint, progress.
    """
    if judge not in JUDGES:
        raise ValueError(f"judge must be one of {JUDGES}, got {judge!r}")
    student, reward = bench.student(seed), bench.reward(seed)
    records = {r.prompt: r for r in bench.records(TRAIN_RECORDS, seed=80 + seed, only=TAUGHT)}

    def scores(prompts, groups):
        return bench.score(reward, [records[prompt] for prompt in prompts], groups)

    def utilities(prompts, groups):
        return [[utility(records[prompt], y) for y in group] for prompt, group in zip(prompts, groups, strict=True)]

    steps = iterations * settings.inner_steps
    return iterate.run(
        student, bench.cfg, bench.tok, list(records), scores if judge == "reward model" else utilities,
        adam(rate, steps), iterations, algorithm=algorithm, settings=settings, seed=seed,
        measure=lambda policy: measured(bench, policy, student, reward), measure_every=measure_every, **fitting,
    )  # fmt: skip


def measured(bench, policy, reference, reward, n=2, seed=81) -> dict[str, float]:
    """Return the true utility, the proxy (the reward model's reward), the KL to the reference in nats, and the length.

    Means over n responses to each held-out prompt of the tasks that rewards teach; kl = mean log(pi / pi_ref).
    """
    records = [record for record in bench.held_out if record.task in TAUGHT]
    groups = bench.sample(policy, records, n, seed)
    said = [(record.prompt, y) for record, group in zip(records, groups) for y in group]
    rows = pad([conversation(bench.tok, *item) for item in said], ROW)
    log_probs, to = (in_batches(sequence_log_probs, p, rows, bench.cfg, SAMPLE_ROWS) for p in (policy, reference))
    return {
        "utility": float(np.mean(bench.judged(records, groups))),
        "proxy": float(np.mean(bench.score(reward, records, groups))),
        "kl": float(np.mean(log_probs - to)),
        "tokens": float(rows.response.sum(-1).mean()),
    }


def curve(outcome: Outcome) -> dict[str, list]:
    """Return {name: values} of what `measured` gave along the way, and the samples drawn until then."""
    rows = [row for row in outcome.history.evaluations if "kl" in row]
    table = {name: [round(row[name], 4) for row in rows] for name in ("utility", "proxy", "kl", "tokens")}
    return {"samples": [int(row.get("samples", 0)) for row in rows]} | table


def settings_of(**changes) -> Settings:
    """Return SETTINGS with changes."""
    return dataclasses.replace(SETTINGS, **changes)

"""The runs of `experiments.post_training`: what each trains and measures, on one bench."""

import numpy as np

from afm_ref.post_training import committee, losses, preferences, responses, reward_model, utility
from afm_ref.whole_road.bench import MAIN, ROW, TASKS, TAUGHT, VARIANTS
from afm_ref.whole_road.workshops import taught_records, teach

PARTS = ("demonstrations", "evolved", "solutions", "all")


def base_run(bench):
    """Return the utility of the shipped model."""
    return {"utility": bench.by_task(bench.judged(bench.held_out, bench.sample(bench.base, bench.held_out, 4, 77)))}


def hybrid_run(bench, part, seed):
    """Return the utility of the model fine-tuned on one part of the hybrid data, and the counts of its curation."""
    parts, counts = bench.hybrid(seed)
    policy = bench.fine_tune(parts[part], bench.sizes.sft_steps, seed)
    found = bench.judged(bench.held_out, bench.sample(policy, bench.held_out, 4, 77))
    return {"examples": len(parts[part]), "utility": bench.by_task(found), "counts": counts}


def reward_run(bench, variant, seed):
    """Return how well a reward model knows the utility on held-out prompts: pairs, margins, the best of n."""
    model, held_out = bench.reward(seed, variant), bench.held_out
    groups = bench.sample(bench.student(seed), held_out, bench.sizes.best_of, 78)
    judged, rewards = bench.judged(held_out, groups), bench.score(model, held_out, groups)
    by_record = {record.prompt: number for number, record in enumerate(held_out)}
    found = preferences.collect(held_out, groups, seed=seed, pairs=10)
    numbers = np.array([by_record[p.prompt] for p in found])
    gaps = np.array([p.gap for p in found])
    margins = reward_model.margins(model, losses.pairs_of(found, bench.tok, ROW), bench.cfg)
    expected = [preferences.expected_verdict(held_out[n], p.chosen, p.rejected) for n, p in zip(numbers, found)]
    seen = {task: bench.task_of[numbers] == task for task in TASKS} | {"all": np.ones(len(found), bool)}
    probability = 1 / (1 + np.exp(-margins))
    target = np.array([e.label if VARIANTS[variant]["soft"] else e.probability for e in expected])
    # in both orders: which response comes first here is the verdict of one annotator, of which the model knows nothing
    bins = reward_model.calibration(
        np.concatenate([probability, 1 - probability]), np.concatenate([target, 1 - target])
    )
    return {
        "pairs": len(found),
        "unequal_pairs": {name: int((gaps[which] != 0).sum()) for name, which in seen.items()},
        "accuracy": {name: reward_model.accuracy(margins[which], gaps[which]) for name, which in seen.items()},
        "annotators": {name: float((gaps[which & (gaps != 0)] > 0).mean()) for name, which in seen.items()},
        "calibration_error": bins.error,
        "reliability": [column.tolist() for column in bins],
        "margins": [margins[[p.level == level for p in found]].round(3).tolist() for level in range(4)],
        "best_of": {task: best_of(bench, rewards, judged, task) for task in TASKS},
    } | ({"rewards": rewards.round(3).tolist(), "utilities": judged.round(3).tolist()} if variant == MAIN else {})


def best_of(bench, rewards, judged, task):
    """Return a list over n = 1 .. m of [utility of the best by reward, utility of the best by utility]."""
    rows = np.flatnonzero(bench.task_of == task)
    mean = responses.expected_best
    return [
        [
            float(np.mean([mean(rewards[p], n, judged[p]) for p in rows])),
            float(np.mean([mean(judged[p], n) for p in rows])),
        ]
        for n in range(1, rewards.shape[1] + 1)
    ]


def committee_run(bench, judge, seed):
    """Return the rounds of a committee with one of JUDGES, and its teaching at equal budgets."""
    student, records = bench.student(seed), taught_records(bench, seed)
    rounds = teach(bench, judge, seed)
    return {
        "rounds": [round_numbers(bench, done, student, records) for done in rounds],
    } | ({"budget": budget_numbers(bench, rounds[-1], seed)} if judge == "reward model" else {})


def round_numbers(bench, done, first, records):
    """Return a round's utilities and win rates on held-out prompts, and who won the training prompts."""
    everyone = {"start": first} | done.committee | {"student": done.student}
    found = {name: bench.judged(bench.held_out, bench.sample(p, bench.held_out, 4, 79)) for name, p in everyone.items()}
    task_of = np.array([record.task for record in records])
    said = committee.chosen(done.pool, [r.prompt for r in records], done.choice)
    return {
        "members": list(done.committee),
        "preferences": done.preferences,
        "utility": {name: bench.by_task(values) for name, values in found.items()},
        "wins": {name: bench.by_task(wins(values, found["start"])) for name, values in found.items()},
        "shares": {
            name: dict(zip(done.pool.names, committee.shares(done.pool.rewards[:, which]).tolist()))
            for name, which in ({t: task_of == t for t in TAUGHT} | {"all": task_of != ""}).items()
        },
        "pool_utility": float(np.mean([bench.judged(records, groups) for groups in done.pool.groups])),
        "chosen_utility": float(np.mean([utility(r, y) for r, (_, y) in zip(records, said)])),
    }


def wins(ours, theirs):
    """Return for each prompt the share of pairs of samples in which ours has the higher utility, ties half: [P]."""
    return (0.5 + 0.5 * np.sign(ours[:, :, None] - theirs[:, None, :])).mean(axis=(1, 2))


def budget_numbers(bench, done, seed):
    """Return the mean utility and reward of what each way of teaching picks for held-out prompts."""
    n = 2 * len(done.committee)
    records = [record for record in bench.held_out if record.task in TAUGHT][::2]
    task_of = np.array([record.task for record in records])
    tools = committee.Tools(bench.sample, bench.score, None, None, None)  # here "prompts" are records
    pool = committee.pool_of(done.committee, done.reward, tools, records, n, seed)
    judged = np.array([bench.judged(records, groups) for groups in pool.groups])
    picked, scored = (committee.equal_budget(pool, of) for of in (judged, pool.rewards))
    return {
        "samples": n,
        "best_teacher": pool.names[committee.best_member(pool.rewards)],
        "utility": {name: bench.by_task(values, task_of) for name, values in picked.items()},
        "reward": {name: float(values.mean()) for name, values in scored.items()},
    }

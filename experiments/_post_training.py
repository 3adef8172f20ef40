"""The runs of `experiments.post_training`: what each trains and measures, on one bench."""

import dataclasses
from functools import lru_cache, partial

import numpy as np
import optax

from afm_ref import assets, rlhf
from afm_ref.data import tasks
from afm_ref.interop import hugging_face
from afm_ref.post_training import (
    best_of_n,
    committee,
    comparisons,
    hybrid,
    measures,
    members,
    pairs,
    preferences,
    responses,
    reward_model,
    sft,
    utility,
)
from afm_ref.pretraining import afm_optimizer, warmup_cosine
from afm_ref.training import fit

TASKS = {"summarise": 0, "answer": 0, "sums": 0}  # and their difficulty
TAUGHT = ("summarise", "answer")  # by the committee: a pilot's best of 4 by reward was worth more than one sample there
PROMPT_TOKENS, NEW_TOKENS, ROW = 46, 16, 64  # prompts are short, so that a row of 64 tokens holds every response
SAMPLE_ROWS = 128
PARTS = ("demonstrations", "evolved", "solutions", "all")
VARIANTS = {  # of the reward model's loss
    "soft labels, grades": dict(soft=True, grading_weight=0.1),
    "hard labels, grades": dict(soft=False, grading_weight=0.1),
    "soft labels, no grades": dict(soft=True, grading_weight=0.0),
}
MAIN = "soft labels, grades"


def afm(rate, steps):
    """Return Apple's pre-training optimizer, for supervised steps."""
    return afm_optimizer(rate, warmup_cosine(max(1, steps // 10), steps), weight_decay=1e-5)


def adam(rate, steps):
    """Return AdamW with a tenth of warm-up and a cosine to 0, for rewards, preferences and online RL."""
    schedule = optax.warmup_cosine_decay_schedule(0, rate, max(1, steps // 10), steps)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.95, weight_decay=0.01))


class Bench:
    """The shipped model, the records and the measures that all parts share."""

    def __init__(self, a):
        self.a = a
        self.base, self.cfg, self.tok = assets.load_tiny()
        self.held_out = self.records(a.held_out, seed=a.held_out_seed, split="held_out")
        self.task_of = np.array([record.task for record in self.held_out])

    def short(self, record):
        """Return whether a record fits into the rows."""
        head = len(tasks.chat_tokens(self.tok, record.prompt).tokens)
        return head <= PROMPT_TOKENS and len(self.tok.encode(record.reference)) < NEW_TOKENS

    def records(self, count, seed, split="train"):
        """Return `count` records of each task that fit, no prompt twice."""
        found = []
        for task, difficulty in TASKS.items():
            drawn = tasks.records(task, 5 * count, seed=seed, split=split, difficulty=difficulty)
            found += list({r.prompt: r for r in drawn if self.short(r)}.values())[:count]
        return found

    def sample(self, policy, records, n, seed, temperature=1.0):
        """Return n responses to each record's prompt."""
        prompts = [record.prompt for record in records]
        settings = dict(temperature=temperature, seed=seed, batch_size=SAMPLE_ROWS)
        return responses.sample(policy, self.cfg, self.tok, prompts, n, NEW_TOKENS, **settings)

    def score(self, reward, records, groups):
        """Return the rewards of groups of responses, [P, n]."""
        prompts = [record.prompt for record in records]
        return np.array(reward_model.rewards(reward, self.cfg, self.tok, prompts, groups, length=ROW))

    def judged(self, records, groups):
        """Return the latent utilities of groups of responses, [P, n]."""
        return np.array([[utility(r, response) for response in group] for r, group in zip(records, groups)])

    def by_task(self, values, task_of=None):
        """Return the mean over held-out prompts [P, ...] of each task, of those the committee teaches, and of all."""
        task_of = self.task_of if task_of is None else task_of
        groups = {t: task_of == t for t in TASKS if t in task_of} | {"taught": np.isin(task_of, TAUGHT)}
        return {name: float(np.mean(values[which])) for name, which in groups.items()} | {"all": float(np.mean(values))}

    def fine_tune(self, params, examples, steps, seed):
        """Return the weights after supervised steps from the shipped model's rate of fine-tuning."""
        optimizer = afm(self.a.learning_rate, steps)
        return sft.fine_tune(
            params, self.cfg, self.tok, examples, optimizer, steps, batch_size=8, seed=seed, progress=False
        ).params

    @lru_cache(maxsize=1)  # noqa: B019
    def backbone(self):
        """Return the reward models' start: the shipped model after SFT on many records of the tasks. It is kept."""
        folder = self.a.folder / "backbone"
        if not folder.exists():
            examples = sft.examples_of(self.records(self.a.backbone_records, seed=1), self.tok)
            hugging_face.save(folder, self.fine_tune(self.base, examples, self.a.backbone_steps, seed=99), self.cfg)
        return hugging_face.load(folder)[0]

    @lru_cache(maxsize=1)  # noqa: B019
    def student(self, seed):
        """Return the policy fine-tuned on all hybrid data."""
        return self.fine_tune(self.base, self.hybrid(seed)[0]["all"], self.a.sft_steps, seed)

    @lru_cache(maxsize=1)  # noqa: B019
    def hybrid(self, seed):
        """Return {part: examples} of the hybrid data, and the counts of curation."""
        written = [record for record in hybrid.demonstrations() if record.task in TASKS]
        counts = {"demonstrations": len(written)}
        steps = [
            ("copies", hybrid.without_copies),
            ("held-out prompts", hybrid.without_held_out(self.held_out)),
            ("too long", lambda records: [record for record in records if self.short(record)]),
        ]
        generations = [record for i in range(3) for record in hybrid.evolve(written, 10 * seed + i)]
        evolved, counts["evolved"] = hybrid.curate(generations, steps)
        parts = {"demonstrations": sft.examples_of(written, self.tok)}
        parts["evolved"] = parts["demonstrations"] + sft.examples_of(evolved, self.tok)
        kept, counts["solutions"] = self.solutions(parts["evolved"], seed)
        parts["solutions"] = parts["demonstrations"] + kept
        parts["all"] = parts["evolved"] + kept
        return parts, counts

    def solutions(self, written, seed):
        """Return solutions sampled from a model of these examples, kept by verifier, and the counts."""
        policy = self.fine_tune(self.base, written, self.a.sft_steps, seed)
        records = self.records(self.a.records, seed=20 + seed)
        groups = self.sample(policy, records, 4, seed)
        solved = [hybrid.Solved(record, tuple(group)) for record, group in zip(records, groups)]
        solvable, counts = hybrid.curate(solved, [("always or never solved", hybrid.of_difficulty())])
        kept = hybrid.solutions(solvable, hybrid.by_verifier)
        return kept, [*counts, hybrid.Step("no solution", len(solvable), len(kept))]

    @lru_cache(maxsize=1)  # noqa: B019
    def reward(self, variant, seed):
        """Return a reward model trained on preferences between the student's responses and references."""
        batches = comparisons.comparison_batches(self.preferences(seed), self.tok, self.a.reward_batch, seed)
        loss = partial(reward_model.reward_loss, cfg=self.cfg, **VARIANTS[variant])
        start = reward_model.init_reward_model(self.backbone(), self.cfg, seed)
        steps = self.a.reward_steps
        return fit(start, loss, batches, adam(self.a.reward_rate, steps), steps, progress=False).params

    @lru_cache(maxsize=1)  # noqa: B019
    def preferences(self, seed):
        """Return preferences between four samples and the reference of each prompt."""
        records = self.records(self.a.preference_records, seed=40 + seed)
        groups = self.sample(self.student(seed), records, 4, seed)
        said = [group + [responses.written(self.tok, r.reference)] for r, group in zip(records, groups)]
        return preferences.collect(records, said, seed=seed, pairs=10)


def base_run(bench):
    """Return the utility of the shipped model."""
    return {"utility": bench.by_task(bench.judged(bench.held_out, bench.sample(bench.base, bench.held_out, 4, 77)))}


def hybrid_run(bench, part, seed):
    """Return the utility of the model fine-tuned on one part of the hybrid data, and the counts of its curation."""
    parts, counts = bench.hybrid(seed)
    policy = bench.fine_tune(bench.base, parts[part], bench.a.sft_steps, seed)
    found = bench.judged(bench.held_out, bench.sample(policy, bench.held_out, 4, 77))
    return {"examples": len(parts[part]), "utility": bench.by_task(found), "counts": counts}


def reward_run(bench, variant, seed):
    """Return how well a reward model knows the utility on held-out prompts: pairs, margins, the best of n."""
    model, held_out = bench.reward(variant, seed), bench.held_out
    groups = bench.sample(bench.student(seed), held_out, bench.a.best_of, 78)
    judged, rewards = bench.judged(held_out, groups), bench.score(model, held_out, groups)
    by_record = {record.prompt: number for number, record in enumerate(held_out)}
    found = preferences.collect(held_out, groups, seed=seed, pairs=10)
    numbers = np.array([by_record[p.prompt] for p in found])
    gaps = np.array([p.gap for p in found])
    margins = reward_model.margins(model, pairs.pairs_of(found, bench.tok, ROW), bench.cfg)
    expected = [preferences.expected_verdict(held_out[n], p.chosen, p.rejected) for n, p in zip(numbers, found)]
    seen = {task: bench.task_of[numbers] == task for task in TASKS} | {"all": np.ones(len(found), bool)}
    probability = 1 / (1 + np.exp(-margins))
    target = np.array([e.label if VARIANTS[variant]["soft"] else e.probability for e in expected])
    # in both orders: which response comes first here is the verdict of one annotator, of which the model knows nothing
    bins = measures.calibration(np.concatenate([probability, 1 - probability]), np.concatenate([target, 1 - target]))
    return {
        "pairs": len(found),
        "unequal_pairs": {name: int((gaps[which] != 0).sum()) for name, which in seen.items()},
        "accuracy": {name: measures.accuracy(margins[which], gaps[which]) for name, which in seen.items()},
        "annotators": {name: float((gaps[which & (gaps != 0)] > 0).mean()) for name, which in seen.items()},
        "calibration_error": bins.error,
        "reliability": [column.tolist() for column in bins],
        "margins": [margins[[p.level == level for p in found]].round(3).tolist() for level in range(4)],
        "best_of": {task: best_of(bench, rewards, judged, task) for task in TASKS},
    } | ({"rewards": rewards.round(3).tolist(), "utilities": judged.round(3).tolist()} if variant == MAIN else {})


def best_of(bench, rewards, judged, task):
    """Return a list over n = 1 .. m of [utility of the best by reward, utility of the best by utility]."""
    rows = np.flatnonzero(bench.task_of == task)
    mean = best_of_n.expected_best
    return [
        [
            float(np.mean([mean(rewards[p], n, judged[p]) for p in rows])),
            float(np.mean([mean(judged[p], n) for p in rows])),
        ]
        for n in range(1, rewards.shape[1] + 1)
    ]


class Oracle(members.Workshop):
    """A workshop whose reward is the latent utility itself: what a committee can do that is never misled."""

    def score(self, reward, prompts, groups):
        """Return the utility of each response."""
        return [[utility(self.records[p], response) for response in group] for p, group in zip(prompts, groups)]

    def refresh(self, reward, preferences, seed):
        """Return the reward: there is nothing to learn."""
        return reward


JUDGES = {"reward model": members.Workshop, "utility": Oracle}


def shops(bench, records, judge):
    """Return (workshop for supervised steps, for preferences, for online RL, for the reward model)."""
    a = bench.a
    sizes = dict(seq_len=128, row_length=ROW, max_new_tokens=NEW_TOKENS, sample_rows=SAMPLE_ROWS, batch_size=8)
    of = {record.prompt: record for record in records}
    supervised = JUDGES[judge](bench.cfg, bench.tok, of, partial(afm, a.member_rate), a.member_steps, **sizes)
    pairwise = dataclasses.replace(supervised, optimizer=partial(adam, a.preference_rate))
    online = dataclasses.replace(supervised, optimizer=partial(adam, a.online_rate))
    rewarding = dataclasses.replace(
        supervised, optimizer=partial(adam, a.refresh_rate), reward_steps=a.refresh_steps, reward_prompts=a.reward_batch
    )
    return supervised, pairwise, online, rewarding


def committee_run(bench, judge, seed):
    """Return the rounds of a committee with one of JUDGES, and its teaching at equal budgets."""
    a = bench.a
    records = [r for r in bench.records(a.committee_records, seed=60 + seed) if r.task in TAUGHT]
    supervised, pairwise, online, rewarding = shops(bench, records, judge)
    settings = rlhf.Settings(K=4, prompts=16, inner_steps=2, beta=a.beta, gamma=a.gamma)
    known = bench.hybrid(seed)[0]["all"]
    trainers = {
        "SFT": supervised.sft(known),
        "rejection sampling": supervised.rejection(8),
        "DPO": pairwise.preference("dpo", 0.1, a.newest),
        "IPO": pairwise.preference("ipo_mean", 0.5, a.newest),
        "MDLOO": rlhf.member(online, a.iterations, "mdloo", settings),
    }

    def distil(student, examples, seed):  # with as many of the hybrid data between, lest the rest be forgotten
        some = np.random.default_rng(seed).choice(len(known), len(examples))
        return supervised.fine_tune(student, examples + [known[i] for i in some], seed)

    tools = supervised.tools()._replace(refresh=rewarding.refresh, distil=distil)
    prompts, student, reward = [r.prompt for r in records], bench.student(seed), bench.reward(MAIN, seed)
    rounds = committee.run(
        trainers, student, reward, tools, prompts, rounds=a.rounds, n=3, seed=seed, preferences=bench.preferences(seed)
    )
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
    pool = committee.draw(done.committee, done.reward, tools, records, n, seed)
    judged = np.array([bench.judged(records, groups) for groups in pool.groups])
    picked, scored = (committee.equal_budget(pool, of) for of in (judged, pool.rewards))
    return {
        "samples": n,
        "best_teacher": pool.names[committee.best_member(pool.rewards)],
        "utility": {name: bench.by_task(values, task_of) for name, values in picked.items()},
        "reward": {name: float(values.mean()) for name, values in scored.items()},
    }

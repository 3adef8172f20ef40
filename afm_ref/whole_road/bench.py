"""The bench that post-training is done and measured on: short tasks, held-out prompts, and
how each model is made.

bench = Bench(BenchSizes(), "runs/bench")
bench.student(seed)                         # SFT on hybrid data; made once, then read from the folder
bench.reward(seed)                          # a reward model of that student's responses, likewise
bench.by_task(bench.judged(bench.held_out, bench.sample(policy, bench.held_out, 4, seed=1)))
"""

import dataclasses
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import optax

from .. import assets
from ..data import tasks
from ..disk import resumable
from ..interop import hugging_face, reward_files
from ..post_training import (
    hybrid,
    losses,
    preferences,
    responses,
    reward_model,
    sft,
    utility,
)
from ..pretraining import afm_optimizer, warmup_cosine
from ..training import fit

TASKS = {"summarise": 0, "answer": 0, "sums": 0}  # and their difficulty
# by rewards: in a pilot, choosing among samples by reward was worth nothing on sums
TAUGHT = ("summarise", "answer")
# prompts are short, so that a row of 64 tokens holds every response
PROMPT_TOKENS, NEW_TOKENS, ROW = 46, 16, 64
SAMPLE_ROWS = 128
VARIANTS = {  # of the reward model's loss
    "soft labels, grades": dict(soft=True, grading_weight=0.1),
    "hard labels, grades": dict(soft=False, grading_weight=0.1),
    "soft labels, no grades": dict(soft=True, grading_weight=0.0),
}
MAIN = "soft labels, grades"


@dataclasses.dataclass(frozen=True)
class BenchSizes:
    """How much of everything; ours, found in pilots, and those of the recordings. Apple
    states none of them.
    """

    held_out: int = 60  # prompts a task
    held_out_seed: int = 10_000
    learning_rate: float = 0.003  # peak, of SFT from the shipped model
    sft_steps: int = 120
    records: int = 200  # a task, to be solved by the model
    backbone_records: int = 2500  # a task
    backbone_steps: int = 1000
    preference_records: int = 450  # a task
    reward_steps: int = 600
    reward_rate: float = 0.001
    reward_batch: int = 6  # prompts
    rounds: int = 3  # of the committee
    committee_records: int = 100  # prompts a task
    newest: int = 400  # preferences that DPO and IPO learn from
    member_steps: int = 30
    member_rate: float = 0.0005  # of SFT members and the student
    preference_rate: float = 0.0003  # of DPO and IPO
    online_rate: float = 0.0003  # of MDLOO
    iterations: int = 10  # of MDLOO
    beta: float = 0.05
    gamma: float = 0.5
    refresh_steps: int = 40
    refresh_rate: float = 0.0002


def warmup(steps: int) -> int:
    """Return how many of the steps warm up: a tenth, at least one, and none where there is
    but one.
    """
    return min(max(1, steps // 10), steps - 1)


def afm(rate, steps):
    """Return Apple's pre-training optimizer, for supervised steps."""
    return afm_optimizer(rate, warmup_cosine(warmup(steps), steps), weight_decay=1e-5)


def adam(rate, steps):
    """Return AdamW with a tenth of warm-up and a cosine to 0, for rewards, preferences and
    online RL.
    """
    schedule = optax.warmup_cosine_decay_schedule(0, rate, warmup(steps), steps)
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.95, weight_decay=0.01)
    )


class Bench:
    """The shipped model, the records and the measures that everything shares.

    sizes: `BenchSizes`, or anything with its fields. folder: where models that took long
    are kept; None keeps none.
    """

    def __init__(self, sizes=BenchSizes(), folder=None):
        self.sizes = sizes
        self.folder = folder and Path(folder)
        self.base, self.cfg, self.tok = assets.load_tiny()
        self.held_out = self.records(
            sizes.held_out, seed=sizes.held_out_seed, split="held_out"
        )
        self.task_of = np.array([record.task for record in self.held_out])

    def short(self, record):
        """Return whether a record fits into the rows."""
        head = len(tasks.chat_tokens(self.tok, record.prompt).tokens)
        return head <= PROMPT_TOKENS and len(self.tok.encode(record.reference)) < NEW_TOKENS

    def records(self, count, seed, split="train", only=tuple(TASKS)):
        """Return `count` records of each task that fit, no prompt twice."""
        found = []
        for task in only:
            drawn = tasks.records(
                task, 5 * count, seed=seed, split=split, difficulty=TASKS[task]
            )
            found += list({r.prompt: r for r in drawn if self.short(r)}.values())[:count]
        return found

    def held_out_of(self, *only):
        """Return the held-out records of these tasks."""
        return [record for record in self.held_out if record.task in only]

    def sample(self, policy, records, n, seed):
        """Return n responses to each record's prompt."""
        prompts = [record.prompt for record in records]
        return responses.sample(
            policy, self.cfg, self.tok, prompts, n, NEW_TOKENS, seed=seed, batch_size=SAMPLE_ROWS,
        )  # fmt: skip

    def score(self, reward, records, groups):
        """Return the rewards of groups of responses, [P, n]."""
        prompts = [record.prompt for record in records]
        return reward_model.rewards(
            reward, self.cfg, self.tok, prompts, groups, ROW - NEW_TOKENS, NEW_TOKENS
        )

    def judged(self, records, groups):
        """Return the latent utilities of groups of responses, [P, n]."""
        return np.array(
            [
                [utility(r, response) for response in group]
                for r, group in zip(records, groups)
            ]
        )

    def by_task(self, values, task_of=None):
        """Return the mean over held-out prompts [P, ...] of each task, of those that
        rewards teach, and of all.
        """
        task_of = self.task_of if task_of is None else task_of
        groups = {t: task_of == t for t in TASKS if t in task_of}
        groups |= {"taught": np.isin(task_of, TAUGHT), "all": slice(None)}
        return {name: float(np.mean(values[which])) for name, which in groups.items()}

    def fine_tune(self, examples, steps, seed):
        """Return the shipped model after supervised steps on examples."""
        return sft.fine_tune(
            self.base, self.cfg, self.tok, examples, afm(self.sizes.learning_rate, steps), steps,
            batch_size=8, seed=seed, progress=False,
        ).params  # fmt: skip

    def kept(self, name, make, files=hugging_face):
        """Return the model that make() gives, from the folder if it is there already."""
        if self.folder is None:
            return make()
        folder = resumable.finished(
            self.folder / name, lambda new: files.save(new, make(), self.cfg)
        )
        return files.load(folder)[0]

    @lru_cache(maxsize=1)  # noqa: B019
    def backbone(self):
        """Return the reward models' start: the shipped model after SFT on many records of
        the tasks.
        """

        def make():
            examples = sft.examples_of(
                self.records(self.sizes.backbone_records, seed=1), self.tok
            )
            return self.fine_tune(examples, self.sizes.backbone_steps, seed=99)

        return self.kept("backbone", make)

    @lru_cache(maxsize=1)  # noqa: B019
    def student(self, seed):
        """Return the policy fine-tuned on all hybrid data."""
        steps = self.sizes.sft_steps
        return self.kept(
            f"student_{seed}",
            lambda: self.fine_tune(self.hybrid(seed)[0]["all"], steps, seed),
        )

    @lru_cache(maxsize=1)  # noqa: B019
    def hybrid(self, seed):
        """Return {part: examples} of the hybrid data, and the counts of curation."""
        written = [record for record in hybrid.demonstrations() if record.task in TASKS]
        counts = {"demonstrations": len(written)}
        steps = [
            ("copies", hybrid.without_copies),
            ("held-out prompts", hybrid.without_held_out(self.held_out)),
            ("too long", lambda records: [*filter(self.short, records)]),
        ]
        generations = [
            record for i in range(3) for record in hybrid.evolve(written, 10 * seed + i)
        ]
        evolved, counts["evolved"] = hybrid.curate(generations, steps)
        parts = {"demonstrations": sft.examples_of(written, self.tok)}
        parts["evolved"] = parts["demonstrations"] + sft.examples_of(evolved, self.tok)
        kept, counts["solutions"] = self.solutions(parts["evolved"], seed)
        parts["solutions"] = parts["demonstrations"] + kept
        parts["all"] = parts["evolved"] + kept
        return parts, counts

    def solutions(self, written, seed):
        """Return solutions sampled from a model of these examples, kept by verifier, and
        the counts.
        """
        policy = self.fine_tune(written, self.sizes.sft_steps, seed)
        records = self.records(self.sizes.records, seed=20 + seed)
        groups = self.sample(policy, records, 4, seed)
        solved = [
            hybrid.Solved(record, tuple(group)) for record, group in zip(records, groups)
        ]
        solvable, counts = hybrid.curate(
            solved, [("always or never solved", hybrid.of_difficulty)]
        )
        kept = hybrid.solutions(solvable)
        return kept, [*counts, hybrid.CurationStep("no solution", len(solvable), len(kept))]

    @lru_cache(maxsize=1)  # noqa: B019
    def reward(self, seed, variant=MAIN):
        """Return a reward model trained on preferences between the student's responses and
        references.
        """

        def make():
            batches = losses.prompt_batches(
                self.preferences(seed), self.tok, self.sizes.reward_batch, seed
            )
            loss = partial(reward_model.reward_loss, cfg=self.cfg, **VARIANTS[variant])
            start = reward_model.init_reward_model(self.backbone(), self.cfg, seed)
            steps = self.sizes.reward_steps
            optimizer = adam(self.sizes.reward_rate, steps)
            return fit(start, loss, batches, optimizer, steps, progress=False).params

        name = f"reward_{variant}_{seed}".replace(", ", "_").replace(" ", "_")
        return self.kept(name, make, reward_files)

    @lru_cache(maxsize=1)  # noqa: B019
    def preferences(self, seed):
        """Return preferences between four samples and the reference of each prompt."""
        records = self.records(self.sizes.preference_records, seed=40 + seed)
        groups = self.sample(self.student(seed), records, 4, seed)
        said = [
            group + [responses.written(self.tok, r.reference)]
            for r, group in zip(records, groups)
        ]
        return preferences.collect(records, said, seed=seed, pairs=10)

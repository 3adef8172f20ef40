"""The bench that post-training is done and measured on: two tasks, held-out prompts, and
how each model is made.

bench = Bench(BenchSizes(), "runs/bench")
bench.student(seed)                         # could answer rightly, mostly does not; made once, then read
bench.reward(seed)                          # a reward model of that student's responses, likewise
bench.by_task(bench.judged(bench.held_out, bench.sample(policy, bench.held_out, 4, seed=1)))
"""

import dataclasses
from functools import lru_cache
from pathlib import Path

import numpy as np

from .. import assets
from ..data import tasks
from ..disk import resumable
from ..interop import hugging_face, reward_files
from ..post_training import (
    mixed_quality,
    preferences,
    responses,
    reward_model,
    sft,
    utility,
)
from . import judge
from .recipes import NEW_TOKENS, PROMPT_TOKENS, SAMPLE_ROWS, TASKS, afm


@dataclasses.dataclass(frozen=True)
class BenchSizes:
    """How much of everything; ours. Apple states none of them."""

    held_out: int = 128  # prompts a task
    held_out_seed: int = 10_300
    start_records: int = 1500  # a task
    start_steps: int = 150
    start_rate: float = 0.0005
    judged: int = 1250  # prompts, of four responses each, that the reward model learns from
    scaled_on: int = 200  # further ones, on which its rewards get the spread of utilities
    rounds: int = 1  # of the committee
    committee_records: int = 96  # prompts a task
    newest: int = 400  # preferences that DPO learns from
    member_steps: int = 80
    member_rate: float = 0.0005  # of SFT members and the student
    preference_rate: float = 0.0003  # of DPO
    iterations: int = 3  # of the committee's MDLOO
    online_prompts: int = 64  # of an iteration of MDLOO


class Bench:
    """The shipped models, the records and the measures that everything shares.

    sizes: `BenchSizes`, or anything with its fields. folder: where models that took long
    are kept; None keeps none. base: the model of pre-training; instruct: the same, fine-tuned
    on many records of the tasks.
    """

    def __init__(self, sizes=BenchSizes(), folder=None):
        self.sizes = sizes
        self.folder = folder and Path(folder)
        self.base = assets.load_tiny()[0]
        self.instruct, self.cfg, self.tok = assets.load_instruct()
        self.held_out = self.records(sizes.held_out, sizes.held_out_seed, "held_out")
        self.task_of = np.array([record.task for record in self.held_out])

    def records(self, count, seed, split="train", only=tuple(TASKS)):
        """Return `count` records of each task whose prompt is short enough, no prompt twice."""
        found = []
        for task in only:
            drawn = tasks.records(
                task, 2 * count, seed=seed, split=split, difficulty=TASKS[task]
            )
            short = [r for r in drawn if len(self.tokens_of(r.prompt)) <= PROMPT_TOKENS]
            found += list({record.prompt: record for record in short}.values())[:count]
        return found

    def tokens_of(self, prompt):
        """Return a prompt's ids."""
        return tasks.chat_tokens(self.tok, prompt).tokens

    def held_out_of(self, task):
        """Return the held-out records of a task."""
        return [record for record in self.held_out if record.task == task]

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
            reward,
            self.cfg,
            self.tok,
            prompts,
            groups,
            PROMPT_TOKENS,
            NEW_TOKENS,
            SAMPLE_ROWS,
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
        """Return the mean over prompts [P, ...] of each task, and of all."""
        task_of = self.task_of if task_of is None else task_of
        groups = {t: task_of == t for t in TASKS if t in task_of} | {"all": slice(None)}
        return {name: float(np.mean(values[which])) for name, which in groups.items()}

    def kept(self, name, make, files=hugging_face):
        """Return the model that make() gives, in float32, from the folder if it is there already."""
        if self.folder is None:
            return make()
        more = {"dtype": "float32"} if files is hugging_face else {}
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = resumable.finished(
            self.folder / name, lambda new: files.save(new, make(), self.cfg, **more)
        )
        return files.load(folder)[0]

    @lru_cache(maxsize=1)  # noqa: B019
    def student(self, seed=0):
        """Return the instruct model after SFT on answers of mixed quality: it could answer
        rightly, and mostly does not.
        """
        s = self.sizes

        def make():
            examples = mixed_quality.answers(
                self.records(s.start_records, 70 + seed), self.tok, 70 + seed
            )
            optimizer = afm(s.start_rate, s.start_steps)
            return sft.fine_tune(
                self.instruct, self.cfg, self.tok, examples, optimizer, s.start_steps, batch_size=8, seed=70 + seed,
                progress=False,
            ).params  # fmt: skip

        return self.kept(f"student_{seed}", make)

    @lru_cache(maxsize=1)  # noqa: B019
    def pool(self, seed=0):
        """Return (training records, the tasks in turn; the student's four responses to each)."""
        s = self.sizes
        found = self.records((s.judged + s.scaled_on) // 2, judge.POOL_SEED + seed)
        half = len(found) // 2
        of_both = [record for pair in zip(found[:half], found[half:]) for record in pair]
        said = self.sample(self.student(seed), of_both, judge.SAMPLES, judge.POOL_SEED)
        return of_both, said

    @lru_cache(maxsize=1)  # noqa: B019
    def reward(self, seed=0):
        """Return a reward model of annotators' preferences between the student's responses."""
        return self.kept(
            f"reward_{seed}",
            lambda: judge.trained(self, self.pool(seed), self.sizes.judged, seed),
            reward_files,
        )

    def preferences(self, seed=0):
        """Return the preferences that the reward model learns from."""
        records, groups = (of[: self.sizes.judged] for of in self.pool(seed))
        return preferences.collect(records, groups, seed=seed, pairs=judge.PAIRS)

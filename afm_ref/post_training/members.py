"""The committee's members and tools for real models: SFT, rejection sampling, DPO, IPO."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial

from ..config import AFMConfig
from ..data.tasks import Record
from ..training import fit
from . import reward_model, sft
from .committee import Situation, Tools
from .losses import pair_batches, pairs_of, preference_loss, prompt_batches, with_reference
from .preferences import collect
from .responses import rejection_sample, sample
from .rows import ROW_MULTIPLE

PAIRS = 2  # judged by annotators, a prompt


@dataclasses.dataclass(frozen=True)
class Workshop:
    """What all members share; the numbers are ours.

    Source: TR24 section 4 (the committee's algorithms) [confirmed].
    Test: tests/post_training/test_members.py::test_a_round_with_real_models
    """

    cfg: AFMConfig
    tokenizer: object
    records: Mapping[str, Record]  # prompt -> record, for the annotators
    optimizer: Callable  # steps -> an optax optimizer
    steps: int = 60
    reward_steps: int = 100
    batch_size: int = 8  # pairs, or rows of examples
    reward_prompts: int = 6  # a batch of the reward model
    sample_rows: int = 64  # responses sampled at a time
    seq_len: int = 128
    row_length: int | None = None  # fixed: no round compiles anew; None: the longest
    max_new_tokens: int = 32

    def tools(self) -> Tools:
        """Return the tools for policies that are Params, rewards by a RewardModel."""
        return Tools(self.sample, self.score, self.annotate, self.refresh, self.fine_tune)

    def sample(self, policy, prompts, n, seed):
        """Return n responses to each prompt."""
        return sample(
            policy, self.cfg, self.tokenizer, prompts, n, self.max_new_tokens,
            seed=seed, batch_size=self.sample_rows,
        )  # fmt: skip

    def score(self, reward, prompts, groups):
        """Return the reward of each response, as groups."""
        lengths = (
            (self.row_length - self.max_new_tokens, self.max_new_tokens)
            if self.row_length
            else ()
        )
        return reward_model.rewards(
            reward, self.cfg, self.tokenizer, prompts, groups, *lengths
        )

    def annotate(self, prompts, groups, seed):
        """Return the panel's preferences."""
        return collect(
            [self.records[prompt] for prompt in prompts], groups, seed=seed, pairs=PAIRS
        )

    def refresh(self, reward, preferences, seed):
        """Return the reward model trained on with all preferences."""
        size = min(self.reward_prompts, len({p.prompt for p in preferences}))
        feed = prompt_batches(
            preferences, self.tokenizer, size, seed, self.row_length or ROW_MULTIPLE
        )
        return self._fit(
            reward, partial(reward_model.reward_loss, cfg=self.cfg), feed, self.reward_steps
        )

    def fine_tune(self, policy, examples, seed):
        """Return the policy after SFT on (prompt, response) examples."""
        return sft.fine_tune(
            policy, self.cfg, self.tokenizer, examples, self.optimizer(self.steps), self.steps,
            batch_size=self.batch_size, seq_len=self.seq_len, seed=seed, progress=False,
        ).params  # fmt: skip

    def sft(self, examples) -> Callable:
        """Return the trainer of a member that learns from these examples."""
        return lambda situation: self.fine_tune(situation.student, examples, situation.seed)

    def rejection(self, n: int) -> Callable:
        """Return the trainer of a member that learns from the student's own best of n."""

        def train(situation: Situation):
            groups = self.sample(situation.student, situation.prompts, n, situation.seed)
            values = self.score(situation.reward, situation.prompts, groups)
            examples = rejection_sample(situation.prompts, groups, values)
            return self.fine_tune(situation.student, examples, situation.seed)

        return train

    def preference(self, kind: str, beta: float, newest: int = 0) -> Callable:
        """Return the trainer of one that learns from the newest preferences (0: all)."""

        def train(situation: Situation):
            pairs = pairs_of(
                situation.preferences[-newest:], self.tokenizer, self.row_length
            )
            pairs = with_reference(pairs, situation.student, self.cfg)
            loss = partial(preference_loss, cfg=self.cfg, kind=kind, beta=beta)
            feed = pair_batches(
                pairs, min(self.batch_size, len(pairs.labels)), situation.seed
            )
            return self._fit(situation.student, loss, feed, self.steps)

        return train

    def _fit(self, params, loss, feed, steps):
        return fit(params, loss, feed, self.optimizer(steps), steps, progress=False).params

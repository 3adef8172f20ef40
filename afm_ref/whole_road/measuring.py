"""What a model is measured by after every step: always the same held-out prompts and the
same held-out text.
"""

from functools import partial

import numpy as np

from ..config import parameters
from ..data import packing, pretraining_text, tasks
from ..data.tokenizer import END
from ..evaluation import total_loss
from ..generation import generate
from ..losses import next_token
from ..post_training import reward_model
from .artifacts import Made
from .recipes import NEW_TOKENS, TASKS
from .text import SEQ_LEN

TEXT_BATCH = 8  # rows
SAMPLE_SEED, REWARD_SEED = 77, 78
# prompts whose answers are kept: the first of each task
SHOWN = {"summarise": 3, "answer": 3}


class Measures:
    """The measures of models on a bench.

    Held-out prompts are answered at temperature 1, `samples` times each, task by task, with
    the same seeds after every step. Palettized weights are used as dense arrays of the same
    values, with adapters added to them: one compiled program serves all steps, and the
    numbers are those of the weights on disk up to the rounding of sums.
    """

    def __init__(self, bench, held_out):
        self.bench = bench
        english = [
            document for document in held_out if document.source in pretraining_text.ENGLISH
        ]
        rows = packing.pack_for_evaluation(english, bench.tok, SEQ_LEN)
        size = min(bench.sizes.text_rows, len(rows.tokens))
        # of every part of it
        spread = np.linspace(0, len(rows.tokens) - 1, size).astype(int)
        chosen = packing.Packed(*(field[spread] for field in rows[:3]), 0)
        self.text = packing.evaluation_batches(chosen, TEXT_BATCH)
        targets = (batch.targets[batch.weights > 0] for batch in self.text)
        self.text_bytes = sum(int(bench.tok.byte_lengths(ids).sum()) for ids in targets)
        # one object, so that it is compiled once
        self.loss = partial(next_token, cfg=bench.cfg)

    def of(self, made: Made) -> dict:
        """Return the measures of what a step has made.

        utility        mean over held-out prompts of each task, and of all
        by_prompt      the mean over the samples of each held-out prompt
        bits_per_byte  of held-out English that none of the steps is about; None for adapters of single tasks
        bits           stored bits per parameter of the plain model
        """
        judged = self.judged(made.policies)
        return {
            "utility": {
                name: round(value, 5) for name, value in self.bench.by_task(judged).items()
            },
            "by_prompt": judged.mean(axis=1).round(4).tolist(),
            "answers": self.answers(made.policies),
            "bits_per_byte": self.bits_per_byte(made.policies["answer"])
            if made.whole
            else None,
            "bytes": made.stored_bytes,
            "bits": round(8 * made.stored_bytes / parameters(self.bench.cfg)["total"], 3),
        }

    def judged(self, policies):
        """Return the utility of sampled responses, [P, n] in the order of bench.held_out,
        which is that of TASKS.
        """
        rows = []
        for task in TASKS:
            records = self.bench.held_out_of(task)
            groups = self.bench.sample(
                policies[task], records, self.bench.sizes.samples, SAMPLE_SEED
            )
            rows.append(self.bench.judged(records, groups))
        return np.concatenate(rows)

    def answers(self, policies):
        """Return the most likely answers, token by token, to the prompts that are shown."""
        bench = self.bench
        records = shown(self.bench)
        prompts = [tasks.chat_tokens(bench.tok, record.prompt).tokens for record in records]
        said = {
            task: generate(policies[task], bench.cfg, prompts, NEW_TOKENS, stop=END)
            for task in SHOWN
        }
        tokens = [said[record.task][i] for i, record in enumerate(records)]
        return [bench.tok.decode([t for t in row.tolist() if t != END]) for row in tokens]

    def bits_per_byte(self, params):
        """Return bits per byte of the held-out English."""
        nats, _ = total_loss(params, self.loss, self.text, progress=False)
        return round(nats / np.log(2) / self.text_bytes, 5)

    def accuracy(self, reward, policy) -> float:
        """Return the share of pairs of a policy's held-out samples that a reward orders as
        the utility does.

        Pairs of equal utility are left out.
        """
        bench, records = self.bench, self.bench.held_out
        groups = bench.sample(policy, records, bench.sizes.samples, REWARD_SEED)
        values = bench.score(reward, records, groups), bench.judged(records, groups)
        first, second = np.triu_indices(values[1].shape[1], 1)
        gaps = ((each[:, first] - each[:, second]).ravel() for each in values)
        return round(reward_model.accuracy(*gaps), 5)


def shown(bench):
    """Return the records whose answers are kept."""
    return [r for task, count in SHOWN.items() for r in bench.held_out_of(task)[:count]]

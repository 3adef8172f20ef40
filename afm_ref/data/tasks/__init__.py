"""Everyday text and five tasks on it, generated: a program wrote all of it, no person did,
and every record says so.

    records("summarise", 100, seed=0, split="train")   -> prompts with references
    score(record, response), success(record, response) -> how good a response is, in [0, 1], and whether it will do

Train and held-out records come from different seeds and are about different pairs of sender
and topic.
"""

import numpy as np

from afm_ref.data import chat
from afm_ref.data.chat import Rendered, chat_tokens
from afm_ref.data.corpora import Document
from afm_ref.data.tasks.metrics import score, success

from . import builders
from .builders import DEFAULT_DIFFICULTY, PRETRAINING_DIFFICULTY, TASKS, Record

__all__ = [
    "TASKS",
    "Record",
    "Rendered",
    "chat_tokens",
    "everyday_documents",
    "records",
    "score",
    "success",
    "task_documents",
]

SPLITS = ("train", "held_out")


def records(
    task: str,
    count: int,
    seed: int = 0,
    split: str = "train",
    difficulty: int | None = None,
) -> list[Record]:
    """Return generated records of a task; the i-th depends on (task, split, seed, i) alone.

    `difficulty` 0..4 makes the inputs longer or the errors more (see
    builders.DEFAULT_DIFFICULTY); None takes the default. Raises ValueError for an unknown
    task, split or difficulty.
    """
    if task not in TASKS:
        raise ValueError(f"no task {task!r}; the tasks are {', '.join(TASKS)}")
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, not {split!r}")
    difficulty = DEFAULT_DIFFICULTY[task] if difficulty is None else difficulty
    if not 0 <= difficulty <= 4:
        raise ValueError(f"difficulty must be 0..4, not {difficulty}")
    kind = list(TASKS).index(task)
    return [
        TASKS[task](generator(kind, split, seed, i), split, difficulty)
        for i in range(count)
    ]


def generator(kind: int, split: str, seed: int, i: int) -> np.random.Generator:
    """Return the source of chance of the i-th text of a kind: numbers 0, 1, .. of the tasks,
    from 100 on of other texts.
    """
    return np.random.default_rng((kind, SPLITS.index(split), seed, i))


def everyday_documents(count: int, seed: int = 0, split: str = "train") -> list[Document]:
    """Return generated messages, mails, threads and notification stacks as plain documents."""
    texts = (builders.everyday(generator(100, split, seed, i), split) for i in range(count))
    return [
        Document(text + "\n", "everyday", f"generated-{split}-{i}")
        for i, text in enumerate(texts)
    ]


def task_documents(count: int, seed: int = 0, split: str = "train") -> list[Document]:
    """Return generated records of all tasks in turn, every difficulty up to
    PRETRAINING_DIFFICULTY, as documents.
    """
    documents = []
    for t, task in enumerate(TASKS):
        for i in range(t, count, len(TASKS)):
            rng = generator(200, split, seed, i)
            record = TASKS[task](
                rng, split, int(rng.integers(PRETRAINING_DIFFICULTY[task] + 1))
            )
            text = chat.render(record.prompt, record.reference)
            documents.append(
                Document(text, "tasks", f"generated-{split}-{task}-{i}", markers=True)
            )
    return documents

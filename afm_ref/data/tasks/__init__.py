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
    "DEFAULT_DIFFICULTY",
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
    key = (list(TASKS).index(task), SPLITS.index(split), seed)
    return [
        TASKS[task](np.random.default_rng((*key, i)), split, difficulty)
        for i in range(count)
    ]


def everyday_documents(count: int, seed: int = 0, split: str = "train") -> list[Document]:
    """Return generated messages, mails, threads and notification stacks as plain documents."""
    documents = []
    for i in range(count):
        text = builders.everyday(
            np.random.default_rng((100, SPLITS.index(split), seed, i)), split
        )
        documents.append(Document(text + "\n", "everyday", f"generated-{split}-{i}"))
    return documents


def task_documents(count: int, seed: int = 0, split: str = "train") -> list[Document]:
    """Return generated records of all tasks in turn, every difficulty up to
    PRETRAINING_DIFFICULTY, as documents.
    """
    documents = []
    for t, task in enumerate(TASKS):
        for i in range(t, count, len(TASKS)):
            rng = np.random.default_rng((200, SPLITS.index(split), seed, i))
            record = TASKS[task](
                rng, split, int(rng.integers(PRETRAINING_DIFFICULTY[task] + 1))
            )
            text = chat.render(record.prompt, record.reference)
            documents.append(
                Document(text, "tasks", f"generated-{split}-{task}-{i}", markers=True)
            )
    return documents

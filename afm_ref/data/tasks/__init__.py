"""Everyday text and five tasks on it, generated: a program wrote all of it, no person did, and every record says so.

    records("summarise", 100, seed=0, split="train")   -> prompts with references
    score(record, response), success(record, response) -> how good a response is, in [0, 1], and whether it will do
    render(record), render_prompt(record)              -> the chat format, as text with turn markers
    chat_tokens(tokenizer, prompt, response=None)      -> the same as token ids, safe for text that users typed

Train and held-out records come from different seeds and are about different pairs of sender and topic.
"""

from typing import NamedTuple

import numpy as np

from afm_ref.data.corpora import Document
from afm_ref.data.tasks import builders
from afm_ref.data.tasks.builders import DEFAULT_DIFFICULTY, PRETRAINING_DIFFICULTY, TASKS, Record
from afm_ref.data.tasks.metrics import score, success
from afm_ref.data.tokenizer import ASSISTANT, BOS, END, USER

__all__ = ["DEFAULT_DIFFICULTY", "TASKS", "Record", "chat_tokens", "everyday_documents", "records", "render"]
__all__ += ["Rendered", "render_prompt", "score", "success", "task_documents"]

SPLITS = ("train", "held_out")


class Rendered(NamedTuple):
    """A conversation as token ids, and where the response begins."""

    tokens: np.ndarray  # int32 [T]
    response_start: int  # tokens[response_start:] is what the assistant should write, its end marker included


def records(task: str, count: int, seed: int = 0, split: str = "train", difficulty: int | None = None) -> list[Record]:
    """Return generated records of a task; the i-th depends on (task, split, seed, i) alone.

    `difficulty` 0..4 makes the inputs longer or the errors more (see builders.DEFAULT_DIFFICULTY); None takes the
    default. Raises ValueError for an unknown task, split or difficulty.
    """
    if task not in TASKS:
        raise ValueError(f"no task {task!r}; the tasks are {', '.join(TASKS)}")
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, not {split!r}")
    difficulty = DEFAULT_DIFFICULTY[task] if difficulty is None else difficulty
    if not 0 <= difficulty <= 4:
        raise ValueError(f"difficulty must be 0..4, not {difficulty}")
    key = (list(TASKS).index(task), SPLITS.index(split), seed)
    return [TASKS[task](np.random.default_rng((*key, i)), split, difficulty) for i in range(count)]


def render_prompt(record: Record) -> str:
    """Return the user's turn and the opening of the assistant's, with turn markers, for showing and pre-training."""
    return f"<|user|>{record.prompt}<|end|><|assistant|>"


def render(record: Record) -> str:
    """Return the whole conversation of a record as text with turn markers."""
    return f"{render_prompt(record)}{record.reference}<|end|>"


def chat_tokens(tokenizer, prompt: str, response: str | None = None) -> Rendered:
    """Return a conversation as token ids: <|bos|><|user|> prompt <|end|><|assistant|> [response <|end|>].

    Markers that a user typed into the prompt stay plain text.
    """
    head = np.concatenate([[BOS, USER], tokenizer.encode(prompt), [END, ASSISTANT]])
    tail = [] if response is None else np.concatenate([tokenizer.encode(response), [END]])
    return Rendered(np.concatenate([head, tail]).astype(np.int32), len(head))


def everyday_documents(count: int, seed: int = 0, split: str = "train") -> list[Document]:
    """Return generated messages, mails, threads and notification stacks as plain documents."""
    documents = []
    for i in range(count):
        text = builders.everyday(np.random.default_rng((100, SPLITS.index(split), seed, i)), split)
        documents.append(Document(text + "\n", "everyday", f"generated-{split}-{i}"))
    return documents


def task_documents(count: int, seed: int = 0, split: str = "train") -> list[Document]:
    """Return generated records of all tasks in turn, every difficulty up to PRETRAINING_DIFFICULTY, as documents."""
    documents = []
    for t, task in enumerate(TASKS):
        for i in range(t, count, len(TASKS)):
            rng = np.random.default_rng((200, SPLITS.index(split), seed, i))
            record = TASKS[task](rng, split, int(rng.integers(PRETRAINING_DIFFICULTY[task] + 1)))
            documents.append(Document(render(record), "tasks", f"generated-{split}-{task}-{i}", markers=True))
    return documents

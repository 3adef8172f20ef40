"""Hybrid data: demonstrations, and synthetic data evolved from them, sampled and curated.

A model wrote the demonstrations, not a person; every record says so (`generated`).
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..data import overlap, tasks
from ..data.corpora import Document
from ..data.tasks import Record, grammar, lexicon
from ..data.tasks.builders import with_an_error
from ..disk import text_files
from .responses import Response

DEMONSTRATIONS = Path(tasks.__file__).with_name("demonstrations.jsonl")


class Solved(NamedTuple):
    """A record with responses sampled for it."""

    record: Record
    responses: tuple[Response, ...]


class CurationStep(NamedTuple):
    """One step of curation, with how many items went in and came out."""

    name: str
    before: int
    after: int


def demonstrations() -> list[Record]:
    """Return the demonstrations of all tasks; a model wrote them, no person did.

    Source: TR24 section 4.1 (human demonstrations) [confirmed]; that a model wrote these
        [ours].
    Test: tests/post_training/test_members.py::test_demonstrations_do_their_tasks
    """
    return [Record(**fields) for _, fields in text_files.read_json_lines(DEMONSTRATIONS)]


def deeper(record: Record, rng: np.random.Generator) -> Record:
    """Return a harder variant of a record, whose reference still holds.

    A third number for a sum; a line of chatter for a summary or a question; one more error
    to correct; a postscript to be kept for a change of tone.

    Source: TR24 section 4.1 (evolving in depth) [confirmed]; by these rules instead of a
        model [ours].
    Test: tests/post_training/test_members.py::test_evolution_keeps_references_true
    """
    talk = grammar.small_talk(rng)
    if record.task == "sums":
        return _longer_sum(record, rng)
    if record.task == "proofread":
        wrong = record.reference
        while wrong in (record.reference, record.fields["source"]):
            wrong = with_an_error(rng, record.fields["source"])
        return record._replace(prompt="Correct:\n" + wrong, fields={"source": wrong})
    if record.task == "tone":
        fields = record.fields | {"facts": [*record.fields["facts"], talk]}
        return record._replace(
            prompt=f"{record.prompt} PS: {talk}",
            reference=f"{record.reference} PS: {talk}",
            fields=fields,
        )
    lines = record.prompt.split("\n")
    place = 0 if record.task == "answer" else 1  # a question stays last
    lines.insert(place, f"{grammar.pick(rng, lexicon.NAMES)}: {talk}")
    return record._replace(prompt="\n".join(lines))


def broader(record: Record, rng: np.random.Generator) -> Record:
    """Return a new record of the same task, about something else.

    Source: TR24 section 4.1 (evolving in breadth) [confirmed]; by the task's generator
        instead of a model [ours].
    Test: tests/post_training/test_members.py::test_evolution_keeps_references_true
    """
    return tasks.records(
        record.task, 1, seed=int(rng.integers(1, 2**31)), split=record.split
    )[0]


def evolve(records: Sequence[Record], seed: int = 0) -> list[Record]:
    """Return two new records of each, in depth and in breadth, by (seed, place) alone."""
    new = []
    for i, record in enumerate(records):
        rng = np.random.default_rng((seed, 3, i))
        new += [deeper(record, rng), broader(record, rng)]
    return new


def curate(
    items: list, steps: Sequence[tuple[str, Callable]]
) -> tuple[list, list[CurationStep]]:
    """Return what is left after all steps (name, list -> list), and the counts of each.

    Source: TR24 section 4.1 (curation) [confirmed]; the steps [ours].
    Test: tests/post_training/test_members.py::test_curation_counts
    """
    counts = []
    for name, step in steps:
        left = step(items)
        counts.append(CurationStep(name, len(items), len(left)))
        items = left
    return items, counts


def without_copies(records: list[Record]) -> list[Record]:
    """Return the first of every set of records whose prompts have the same words."""
    kept = {}
    for record in records:
        words = re.findall(r"\w+|[+-]", overlap.normal(record.prompt).lower())
        kept.setdefault((record.task, *words), record)
    return [*kept.values()]


def without_held_out(held_out: Sequence[Record]) -> Callable:
    """Return a step that drops records with 13 words in a row of a held-out prompt."""
    forbidden = overlap.ngrams(map(_document, held_out))
    prompts = {overlap.normal(record.prompt) for record in held_out}

    def step(records):
        new = [r for r in records if overlap.normal(r.prompt) not in prompts]
        return [r for r in new if not forbidden & overlap.ngrams([_document(r)])]

    return step


def of_difficulty(solved: Sequence[Solved]) -> list[Solved]:
    """Return those of which the verifier passes neither too large nor too small a share.

    Source: TR24 section 4.1, a difficulty threshold in one secondary account [inferred].
    Test: tests/post_training/test_members.py::test_solutions_are_kept_by_the_verifier
    """
    rates = [
        np.mean([tasks.success(s.record, r.text) for r in s.responses]) for s in solved
    ]
    return [s for s, rate in zip(solved, rates) if 0.1 <= rate <= 0.9]


def solutions(solved: Sequence[Solved]) -> list[tuple[str, Response]]:
    """Return (prompt, response) for SFT: the first that ends and is right by the truth.

    Records without any are left out.

    Source: TR24 section 4.1 (kept by ground truth, or by a judge where there is none: the
        first here) [confirmed].
    Test: tests/post_training/test_members.py::test_solutions_are_kept_by_the_verifier
    """
    kept = []
    for s in solved:
        right = [r for r in s.responses if r.ended and tasks.success(s.record, r.text)]
        kept += [(s.record.prompt, response) for response in right[:1]]
    return kept


def _longer_sum(record, rng):
    number, total = int(rng.integers(10)), int(record.reference)
    plus = number > total or rng.random() < 0.5
    sign, verb, change = ("+", "add", number) if plus else ("-", "take away", -number)
    if record.prompt.endswith(" ="):
        prompt = f"{record.prompt.removesuffix(' =')} {sign} {number} ="
    else:
        prompt = f"{record.prompt} Then {verb} {number}."
    return record._replace(prompt=prompt, reference=str(total + change))


def _document(record):
    return Document(record.prompt, "tasks", record.task)

"""Hybrid data: the demonstrations are right and labelled, evolution keeps references true, curation counts."""

import re

import numpy as np

from afm_ref.data import tasks
from afm_ref.data.tasks import grammar, lexicon
from afm_ref.post_training import hybrid
from afm_ref.post_training.hybrid import CurationStep, Solved
from afm_ref.post_training.responses import written
from tests.post_training.models import tokenizer

TOK = tokenizer()
DEMONSTRATIONS = hybrid.demonstrations()


def test_demonstrations_do_their_tasks():
    assert {record.task for record in DEMONSTRATIONS} == set(tasks.TASKS)
    assert all(record.generated and record.split == "train" for record in DEMONSTRATIONS)  # a model wrote them
    assert len({record.prompt for record in DEMONSTRATIONS}) == len(DEMONSTRATIONS) >= 200
    for record in DEMONSTRATIONS:
        assert tasks.success(record, record.reference), record
        assert len(tasks.chat_tokens(TOK, record.prompt, record.reference).tokens) <= 112
        if record.task != "proofread":  # no name stands with a topic that it is held out with
            text = f"{record.prompt} {record.reference}"
            names, topics = (
                [w for w in words if re.search(rf"(?<!\w){re.escape(w)}(?!\w)", text)]
                for words in (lexicon.NAMES, [*lexicon.EVENTS, *lexicon.THINGS])
            )
            assert not any(grammar.belongs("held_out", name, topic) for name in names for topic in topics)


def test_evolution_keeps_references_true():
    seeds = DEMONSTRATIONS + [record for task in tasks.TASKS for record in tasks.records(task, 20)]
    new = hybrid.evolve(seeds, seed=3)
    assert new == hybrid.evolve(seeds, seed=3) and new[:6] == hybrid.evolve(seeds[:3], seed=3)
    for record, deep, broad in zip(seeds, new[::2], new[1::2]):
        assert record.task == deep.task == broad.task and deep.split == "train"
        assert tasks.success(deep, deep.reference) and tasks.success(broad, broad.reference)
        assert deep.prompt not in (record.prompt, broad.prompt)
        if record.task == "proofread":
            assert deep.reference == record.reference and deep.fields["source"] in deep.prompt
        else:
            assert len(deep.prompt) > len(record.prompt)
        if record.task == "answer":
            assert deep.prompt.endswith(record.prompt)


def test_longer_sums_are_right():
    """Python adds up what stands in the prompt."""
    record = next(r for r in DEMONSTRATIONS if r.prompt == "9 - 3 - 3 =")
    for deep in (hybrid.deeper(record, np.random.default_rng(seed)) for seed in range(30)):
        assert eval(deep.prompt.removesuffix(" =")) == int(deep.reference) >= 0
    worded = next(r for r in DEMONSTRATIONS if r.prompt.endswith("How many?"))
    deep = hybrid.deeper(worded, np.random.default_rng(0))
    verb, number = re.search(r"Then (add|take away) (\d)\.$", deep.prompt).groups()
    assert int(deep.reference) == int(worded.reference) + int(number) * (1 if verb == "add" else -1)


def test_curation_counts():
    records = tasks.records("answer", 12)
    again = records + [records[3]._replace(prompt=records[3].prompt.upper() + "!")]
    held = hybrid.without_held_out([records[0], tasks.records("summarise", 1)[0]])
    left, counts = hybrid.curate(again, [("no copies", hybrid.without_copies), ("not held out", held)])
    assert left == records[1:] and counts == [CurationStep("no copies", 13, 12), CurationStep("not held out", 12, 11)]
    text = " ".join(f"word{i}" for i in range(20))  # a long run of held-out words is enough
    old, new = (records[0]._replace(prompt=prompt) for prompt in (f"before {text} after", f"other, {text.upper()}!"))
    assert hybrid.without_held_out([old])([records[0], new, old]) == records[:1]


def test_solutions_are_kept_by_the_verifier():
    record = tasks.Record("sums", "3 + 4 =", "7", "train", {})
    right, wrong = written(TOK, "7"), written(TOK, "8")
    cut = right._replace(tokens=right.tokens[:-1])
    solved = [Solved(record, said) for said in ((wrong, right), (wrong, wrong), (right, right), (cut, wrong))]
    keep = [("3 + 4 =", right)]
    assert hybrid.solutions(solved) == keep * 2  # a response without an end is no demonstration
    assert hybrid.of_difficulty(solved) == [solved[0], solved[3]]

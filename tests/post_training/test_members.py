"""SFT, whose loss in packed rows is that of whole responses; hybrid data; the committee's loop with tiny models."""

import math
import re

import jax
import numpy as np
import optax
import pytest

from afm_ref.data import tasks
from afm_ref.data.packing import batch_of
from afm_ref.data.tasks import grammar, lexicon
from afm_ref.losses import next_token
from afm_ref.post_training import committee, hybrid, members, sft
from afm_ref.post_training.hybrid import CurationStep, Solved
from afm_ref.post_training.responses import sampled, written
from afm_ref.post_training.reward_model import init_reward_model
from afm_ref.post_training.rows import conversation, pad, sequence_log_probs
from afm_ref.transformer import init
from tests.post_training.models import TEXT_CFG, params64, tokenizer

TOK = tokenizer()
EXAMPLES = sft.examples_of([record for task in tasks.TASKS for record in tasks.records(task, 3)], TOK)
EXAMPLES += [("Where?", written(TOK, "")), ("Who?", sampled(TOK, TOK.encode("the park and")))]


def test_loss_is_that_of_whole_responses():
    """Several conversations in a row, none seeing another, against each one alone in a padded row."""
    params = params64(cfg=TEXT_CFG)
    packed = sft.packed_examples(EXAMPLES, TOK, 160, seed=2)
    total, count = next_token(params, batch_of(packed, np.arange(len(packed.tokens))), TEXT_CFG)
    log_probs = sequence_log_probs(params, pad([conversation(TOK, *e) for e in EXAMPLES]), TEXT_CFG)
    assert len(packed.tokens) < len(EXAMPLES) / 2
    assert total == pytest.approx(-log_probs.sum(), rel=1e-10)
    assert count == sum(len(response.tokens) for _, response in EXAMPLES)


def test_a_few_steps_lower_the_loss():
    settings = dict(batch_size=8, seq_len=160, progress=False)
    done = sft.fine_tune(init(TEXT_CFG, 0), TEXT_CFG, TOK, EXAMPLES, optax.adam(0.02), 6, **settings)
    assert done.history.loss[0] == pytest.approx(math.log(2048), rel=0.2)
    assert done.history.loss[-1] < done.history.loss[0] - 0.5


def test_nothing_to_learn_from_is_refused():
    with pytest.raises(ValueError, match="no examples"):
        sft.fine_tune(init(TEXT_CFG, 0), TEXT_CFG, TOK, [], optax.adam(0.1), 1)
    with pytest.raises(ValueError, match="raise seq_len"):
        sft.packed_examples(EXAMPLES, TOK, 16)


def distance(a, b):
    return max(jax.tree.leaves(jax.tree.map(lambda x, y: float(np.abs(np.asarray(x) - np.asarray(y)).max()), a, b)))


def test_a_round_with_real_models(monkeypatch):
    """SFT writes down what it is given: the real one compiles, and has a test of its own."""
    tuned, shop_of = [], members.Workshop
    monkeypatch.setattr(shop_of, "fine_tune", lambda _, policy, given, seed: tuned.append((policy, given)) or policy)
    records = {record.prompt: record for record in tasks.records("sums", 6)}
    prompts, student, seen = list(records), init(TEXT_CFG, 0), []
    sizes = dict(batch_size=2, sample_rows=8, row_length=32, max_new_tokens=12)
    shop = shop_of(TEXT_CFG, TOK, records, lambda steps: optax.sgd(0.1), steps=1, reward_steps=1, **sizes)

    def foreign(situation):
        seen.append(situation)
        return situation.student

    demonstrations = sft.examples_of(list(records.values()), TOK)
    ours = {"sft": shop.sft(demonstrations), "rs": shop.rejection(2), "dpo": shop.preference("dpo", 0.1)}
    reward = init_reward_model(student, TEXT_CFG)
    (done,) = committee.run(ours | {"foreign": foreign}, student, reward, shop.tools(), prompts, rounds=1, n=2)
    assert list(done.committee) == [*ours, "foreign"] and done.pool.rewards.shape == (4, len(prompts), 2)
    assert seen[0].reward is done.reward and seen[0].student is student
    assert 0 < len(seen[0].preferences) == done.preferences
    assert distance(done.committee["foreign"], student) == 0
    for changed, before in ((done.committee["dpo"], student), (done.reward, reward)):
        assert 0 < distance(changed, before) < 1  # one step of SGD
    (_, given), (_, sampled), (_, distilled) = tuned
    assert given == demonstrations and [prompt for prompt, _ in sampled] == prompts
    best = shop.score(done.reward, prompts, [[response] for _, response in distilled])
    np.testing.assert_allclose(np.ravel(best), done.pool.rewards.max(axis=(0, 2)), rtol=1e-4, atol=1e-6)  # float32


def test_the_newest_preferences_are_taken(monkeypatch):
    given = []
    monkeypatch.setattr(members, "pairs_of", lambda preferences, *_: given.append(list(preferences)) or 1 / 0)
    shop = members.Workshop(TEXT_CFG, TOK, {}, optax.sgd)
    situation = committee.Situation(None, None, list("abcd"), [], 0, 0)
    for newest in (0, 3):
        with pytest.raises(ZeroDivisionError):
            shop.preference("dpo", 0.1, newest)(situation)
    assert given == [list("abcd"), list("bcd")]


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

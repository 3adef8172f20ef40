"""What a run reads, measures and prints: against NumPy, counting, brute force and numbers by hand."""

import itertools
import math

import numpy as np
import pytest

from afm_ref.data.packing import batch_of
from afm_ref.losses import token_log_probs
from afm_ref.post_training.responses import written
from afm_ref.transformer import Causal, forward
from afm_ref.whole_road import measuring, results_table, text
from afm_ref.whole_road.artifacts import Made
from afm_ref.whole_road.bench import Bench
from afm_ref.whole_road.recipes import TASKS
from tests.whole_road import small


@pytest.fixture(scope="module")
def measures():
    with small.model():
        yield measuring.Measures(Bench(small.SIZES), small.documents()[1])


def test_bits_per_byte_are_those_of_numpy(measures):
    bench, nats, n_bytes = measures.bench, 0.0, 0
    for batch in measures.text:
        logits = forward(bench.base, batch.tokens, bench.cfg, None, Causal(batch.documents))
        nats -= (token_log_probs(logits, batch.targets) * batch.weights).sum()
        n_bytes += sum(len(bench.tok.decode(row[w > 0]).encode()) for row, w in zip(batch.targets, batch.weights))
    assert n_bytes == measures.text_bytes > 1000
    expected = nats / math.log(2) / n_bytes  # float32 in another order; kept to 5 digits
    assert measures.bits_per_byte(bench.base) == pytest.approx(expected, rel=1e-4)


def test_every_task_is_answered_by_its_own_policy(measures, monkeypatch):
    """The utilities are worth what the policy's number says, and stand in the order of the held-out prompts."""
    bench = measures.bench
    monkeypatch.setattr(bench, "sample", lambda policy, records, n, seed: [[policy] * n for _ in records])
    judged = lambda records, groups: np.array(groups) + [[r.task == "answer"] for r in records]  # noqa: E731
    monkeypatch.setattr(bench, "judged", judged)
    monkeypatch.setattr(measures, "answers", lambda policies: [])
    found = measures.of(Made(dict(zip(TASKS, (0.25, 0.5))), 1000, whole=False))
    want = dict(summarise=0.25, answer=1.5, all=0.875)
    assert found["utility"] == pytest.approx(want, abs=1e-5)
    assert found["by_prompt"] == [0.25] * 3 + [1.5] * 3 and found["bits_per_byte"] is None
    weights = sum(np.size(w) for w in (bench.base.embed, bench.base.final_norm, *bench.base.layers[0]) if w is not None)
    assert found["bits"] == round(8000 / weights, 3)


def test_accuracy_counts_pairs(measures, monkeypatch):
    bench, rng = measures.bench, np.random.default_rng(0)
    rewards, judged = rng.integers(0, 3, (2, 4, 5)) / 2
    monkeypatch.setattr(bench, "sample", lambda *_: None)
    monkeypatch.setattr(bench, "score", lambda *_: rewards)
    monkeypatch.setattr(bench, "judged", lambda *_: judged)
    every = [pair for of in zip(rewards, judged) for pair in itertools.combinations(zip(*of), 2)]
    points = [0.5 if a == b else float((a > b) == (u > v)) for (a, u), (b, v) in every if u != v]
    assert 0 < len(points) < 40 and measures.accuracy(None, None) == round(np.mean(points), 5)


def test_the_table_by_hand():
    """Of two prompts that differ by 0.2 the interval is 0.1 times t = 12.706 on either side."""
    row = dict(utility={"all": 0.5}, bits_per_byte=1.25, bits=16.0, answers=["yes"], by_prompt=[0.4, 0.6])
    after = row | {"by_prompt": [0.5, 0.9], "bits_per_byte": None, "answers": ["no"]}
    steps = {"0_base": row, "2_reward": {"accuracy": 0.625}, "7_features": after}
    prompts = [{"task": "answer", "prompt": "Why?", "reference": "So."}]
    results = {"task_of": ["summarise", "answer"], "steps": steps, "prompts": prompts}
    _, base, features, accuracy = results_table.table(results).splitlines()
    assert base.split() == ["0_base", "0.500", "[-0.771,", "1.771]", "1.250", "16.00"]
    assert features.split()[1:7] == ["0.700", "[-1.841,", "3.241]", "+0.200", "[-1.071,", "+1.471]"]
    assert features.split()[7:] == ["-", "16.00"] and "62%" in accuracy
    said = "Why?", "(reference)", "'So.'", "0_base", "'yes'", "7_features", "'no'"
    assert results_table.answers(results).split() == [*said]


def test_both_kinds_have_about_as_many_targets(measures, monkeypatch):
    """With references for responses: they are as long as good ones. Within a factor of 2; equal rows would give 4."""
    bench, (train, _) = measures.bench, small.documents()
    answer = lambda _, records, n, seed: [[written(bench.tok, r.reference)] for r in records]  # noqa: E731
    monkeypatch.setattr(bench, "sample", answer)
    rows = text.mixed_rows(bench, None, train, seed=0)
    batch = batch_of(rows, np.arange(len(rows.tokens)))
    said = {bench.tok.decode(bench.tok.encode(r.reference)) for r in bench.records(small.SIZES.conversations, seed=70)}
    of_text = rows.trained.mean(axis=1) > 0.9  # in conversations the prompts are no targets
    targets = [batch.weights[kind].sum() for kind in (of_text, ~of_text)]
    assert 0.5 < targets[0] / targets[1] < 2
    assert of_text.mean() == pytest.approx(text.TEXT_SHARE, abs=0.5 / len(of_text))
    found = "".join(bench.tok.decode(row[w > 0]) for row, w in zip(batch.targets[~of_text], batch.weights[~of_text]))
    assert all(reference in found for reference in said)

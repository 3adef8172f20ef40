"""Checkers accept the solutions, and refuse every stub and the mistakes that people make."""

import json
import math
import pathlib

import jax
import numpy as np
import pytest

from afm_ref import config, ops
from afm_ref.curation import Dropped, decontamination
from afm_ref.data.corpora import Document
from afm_ref.parallelism.sharded import ring_attention
from afm_ref.post_training import committee, losses, responses, reward_model
from afm_ref.pretraining.optimizer import block_update
from afm_ref.pretraining.pruning.top_k import soft_top_k, solve
from afm_ref.pretraining.stages import rope_base
from afm_ref.rlhf import advantages, mdloo
from afm_ref.teaching import attempt
from afm_ref.teaching.exercises import EXERCISES, grade

NOTEBOOKS = pathlib.Path(__file__).resolve().parents[2] / "notebooks"


def verdicts(path):
    """Return {id: verdict} of the cells that attempt an exercise, run after the notebook's set-up cell."""
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    names, found = {}, {}
    exec("".join(cells[0]["source"]), names)
    names["attempt"] = lambda id, answer: found.__setitem__(id, grade(id, answer))
    for cell in cells:
        source = "".join(cell["source"])
        if "attempt(" in source:
            exec(source, names)
    return found


def notebooks():
    return sorted(NOTEBOOKS.glob("*.ipynb"))


@pytest.mark.parametrize("path", notebooks(), ids=lambda p: p.stem)
def test_stubs_are_not_attempted_and_solutions_are_right(path):
    stubs, solutions = verdicts(path), verdicts(NOTEBOOKS / "solutions" / path.name)
    chapter = str(int(path.name[:2]))
    assert set(stubs) == set(solutions) == {id for id in EXERCISES if id.split(".")[0] == chapter} and stubs
    assert {v.status for v in stubs.values()} == {"not attempted"}
    assert {id: v for id, v in solutions.items() if v.status != "right"} == {}


def test_every_exercise_is_in_a_notebook():
    assert {id.split(".")[0] for id in EXERCISES} == {str(int(p.name[:2])) for p in notebooks()}


def pool_strided(w, n_kv_heads, head_dim):
    return w.reshape(-1, n_kv_heads, head_dim, w.shape[-1]).mean(0).reshape(-1, w.shape[-1])


def adamw_decay(w, g, v, m, t, s, rate, decay):
    """Exercise 2.3 with the learning rate in front of the decay, too."""
    v = 0.95 * v + 0.05 * g**2
    u = g / np.sqrt(v / (1 - 0.95**t))
    m = 0.95 * m + 0.05 * u / max(1.0, np.sqrt(np.mean(u**2)))
    return np.stack([w - s * rate * (m + decay * w), v, m])


WRONG = {  # id: (a plausible wrong answer, words of the hint it must get)
    "0.1": (lambda vocab_size: np.log2(vocab_size), "nats"),
    "0.2": (lambda nats_per_token, bytes_per_token: nats_per_token / bytes_per_token, "ln 2"),
    "1.1": (
        lambda cfg, memory_bytes, bytes_per_value: (
            memory_bytes // (2 * cfg.n_layers * cfg.n_heads * cfg.head_dim * bytes_per_value)
        ),
        "not all N",
    ),
    "1.2": (lambda x, positions, theta: ops.rope(x, positions, theta, "interleaved"), "turned the vectors on"),
    "1.3": (pool_strided, "neighbours share"),
    "1.4": (
        lambda q_gain, k_gain: len(q_gain) ** 0.5 * np.max(np.abs(q_gain)) * np.max(np.abs(k_gain)),
        "not a tight one",
    ),
    "2.1": (
        lambda benchmark, documents, low, high, threshold: [
            any(f" {' '.join(run)} " in f" {text} " for run in zip(*(benchmark.split()[i:] for i in range(low))))
            for text in documents
        ],
        "common usage and drops nothing",
    ),
    "2.2": (
        lambda similarity, rows, wanted: max(1, math.ceil(math.log(1 - wanted) / math.log(1 - similarity + 1e-12))),
        "ALL its rows",
    ),
    "2.3": (adamw_decay, "not multiplied by the learning rate"),
    "2.4": (lambda base, T_train, T: base ** (math.log(T) / math.log(T_train)), "2 pi"),
    "2.5": (lambda scores, k, eps: eps * (np.log(k) - np.logaddexp.reduce(scores / eps)), "nobody is clipped"),
    "3.1": (
        lambda n, n_bytes, latency_s, bandwidth_bytes_per_s: (
            (n - 1) * (latency_s + n_bytes / n / bandwidth_bytes_per_s)
        ),
        "AND an all-gather",
    ),
    "3.2": (lambda n_parameters, n_devices, stage: 16 * n_parameters / n_devices, "only stage 3"),
    "3.3": (lambda n_stages, largest_bubble: math.ceil((n_stages - 1) / largest_bubble), "the busy time"),
    "3.4": (lambda T, n: np.arange(T).reshape(n, -1), "contiguous"),
    "3.5": (
        lambda top_a, total_a, out_a, top_b, total_b, out_b: (out_a / total_a + out_b / total_b) / 2,
        "do not weigh the same",
    ),
    "4.1": (lambda found: sum(w * (n - 1) / n * times for kind, w, n, times in found), "AND an all-gather"),
    "4.2": (
        lambda cfg, seq_len, tokens, step_s, chips, peak_flops: (
            config.train_flops_per_token(cfg, 0) * tokens / (step_s * chips * peak_flops)
        ),
        "scores and weighted values",
    ),
    "4.3": (
        lambda n_parameters, model, hbm_bytes, other_bytes: (
            2 ** math.ceil(math.log2(16 * n_parameters / model / hbm_bytes))
        ),
        "beside the state",
    ),
    "4.4": (
        lambda n, peak_flops, bandwidth_bytes_per_s: math.ceil(
            2 * (n - 1) / n * 2 * peak_flops / (2 * bandwidth_bytes_per_s)
        ),
        "6 FLOPs a parameter",
    ),
    "5.1": (lambda shapes, rank, bytes_per_value: bytes_per_value * sum(o * i for o, i in shapes), "not of A and B"),
    "5.2": (lambda w, a, b, alpha: w + b @ a, "alpha / R"),
    "5.3": (lambda a, x, g, scale: g.T @ (x @ a.T), "multiplies the gradient too"),
    "5.4": (
        lambda singular_values, tolerance: int(
            np.searchsorted(np.cumsum(singular_values) / singular_values.sum(), 1 - tolerance) + 1
        ),
        "sum of SQUARES",
    ),
    "5.5": (lambda requests, sizes, budget: len(set(requests)), "must be read again"),
    "6.1": (lambda out_dim, in_dim, bits, rows_per_table: bits * out_dim * in_dim, "tables are stored too"),
    "6.2": (lambda codes: 16 * codes[0::2] + codes[1::2], "LOW half"),
    "6.3": (lambda values: [min(values), max(values)], "is its mean"),
    "6.4": (lambda cost_at_2, cost_at_4, weights, average: [4] * len(weights), "over the budget"),
    "6.5": (lambda w, h: np.round(w), "make up for the error"),
    "7.1": (
        lambda margins, labels: [np.log1p(np.exp(-margins)), np.log(labels / (1 - labels))],
        "loss of a hard label",
    ),
    "7.2": (
        lambda rewards, n: np.diff((np.arange(len(rewards) + 1) / len(rewards)) ** n) @ np.sort(rewards),
        "without replacement",
    ),
    "7.3": (
        lambda policy, reference, starts, lengths, beta: np.log1p(
            np.exp(-beta * np.subtract(*(policy - reference).sum(-1)))
        ).mean(),
        "prompt and padding count",
    ),
    "7.4": (
        lambda rewards, judged: [
            np.mean([judged[:, p].ravel()[rewards[:, p].argmax()] for p in range(rewards.shape[1])]),
            np.mean([j[r.argmax()] for r, j in zip(*(of[rewards.mean((1, 2)).argmax()] for of in (rewards, judged)))]),
        ],
        "each gives N / M samples",
    ),
    "8.1": (lambda rewards: rewards - rewards.mean(axis=1, keepdims=True), "the OTHER K - 1"),
    "8.2": (
        lambda log_probs, old_log_probs, advantages, gamma: (
            np.exp(log_probs - old_log_probs) * advantages - gamma * (log_probs - old_log_probs)
        ),
        "has the weight rho",
    ),
    "8.3": (lambda policy_log_probs, advantages, gamma: policy_log_probs + advantages / gamma, "add up to 1"),
    "8.4": (lambda K: [[0.2, 0.3, 0.5], [1.0, 2.0, 3.0]], "the mean reward is 2.3"),
}


MORE_WRONG = (
    ("2.1", lambda threshold, **given: dropped(threshold=threshold + 1, **given), "REACHES"),
    ("2.1", lambda low, high, **given: dropped(low=low, high=low, **given), "not `low` alone"),
    ("2.1", lambda low, high, **given: dropped(low=high, high=high, **given), "not `high` alone"),
    ("2.4", lambda base, T_train, T: base * T / T_train, "stretches"),
    ("2.5", lambda **given: soft_top_k(**given), "the weights"),
    ("2.5", lambda **given: -solve(**given).threshold, "the sign"),
    ("2.5", lambda scores, k, eps: -np.sort(scores)[-k], "limit for eps"),
    ("8.2", lambda log_probs, old_log_probs, **rest: -mdloo.mdloo(log_probs, old_log_probs, **rest), "the loss"),
    ("8.2", lambda log_probs, old_log_probs, **rest: mdloo.mdloo(old_log_probs, log_probs, **rest), "not pi_k / pi"),
    ("8.2", lambda log_probs, old_log_probs, advantages, gamma: (
        np.exp(d := log_probs - old_log_probs) * (advantages - gamma * d)), "a slope of A - gamma"),
)  # fmt: skip


def test_every_exercise_has_a_plausible_wrong_answer():
    assert set(WRONG) == set(EXERCISES)


@pytest.mark.parametrize(("id", "answer", "hint"), [*((id, *told) for id, told in WRONG.items()), *MORE_WRONG])
def test_a_plausible_wrong_answer_fails_with_a_hint(id, answer, hint):
    verdict = grade(id, answer)
    assert verdict.status == "wrong" and hint in verdict.message, verdict
    assert "expected" in verdict.message and "got" in verdict.message


@pytest.mark.parametrize("id", sorted(EXERCISES))
def test_no_constant_is_right(id):
    for constant in (0, 1.0, float("nan"), np.zeros((2, 2)), "text", [None]):
        assert grade(id, lambda **_: constant).status == "wrong", constant  # noqa: B023 - called here


@pytest.mark.parametrize("id", ["1.2", "1.3", "1.4", "3.5"])
def test_what_an_answer_does_to_its_input_does_not_reach_the_judge(id):
    def spoil(**arguments):
        for value in arguments.values():
            if isinstance(value, np.ndarray):
                value[...] = 0
        return 1e9

    spoilt, honest = grade(id, spoil), grade(id, lambda **_: 1e9)
    assert spoilt.status == "wrong" and spoilt.message == honest.message


def test_the_stub_forms_are_not_attempted_and_errors_are_told():
    def raises(**_):
        raise NotImplementedError

    def empty(**_): ...

    assert grade("0.1", raises).status == grade("0.1", empty).status == "not attempted"
    verdict = grade("0.1", lambda vocab_size: 1 / 0)
    assert verdict.status == "wrong" and "ZeroDivisionError" in verdict.message
    with pytest.raises(ValueError, match="no exercise"):
        grade("9.9", empty)


def test_attempt_prints_the_verdict(capsys):
    attempt("0.1", lambda vocab_size: ...)
    attempt("0.1", lambda vocab_size: np.log(vocab_size))
    attempt("0.1", lambda vocab_size: -np.log(vocab_size))
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "○ Exercise 0.1, the loss of a guesser (easy, 3 min): not attempted"
    assert out[1] == "✓ Exercise 0.1, the loss of a guesser (easy, 3 min): right"
    assert out[2].endswith("not yet") and out[3] == "    input    vocab_size=2" and "MINUS" in out[6]


def dpo_loss(policy, reference, starts, lengths, beta):
    places = np.arange(policy.shape[-1])
    response = (places >= starts[..., None]) & (places < lengths[..., None])
    chosen, rejected = np.where(response, policy - reference, 0).sum(-1)
    return losses.dpo(chosen - rejected, beta).mean()


def of_committee(rewards, judged):
    found = committee.equal_budget(committee.Pool(tuple("abc"[: len(rewards)]), [], rewards), judged)
    return [found["committee"].mean(), found["best teacher"].mean()]


def apple_step(w, g, v, m, t, s, rate, decay):
    with jax.enable_x64(True):
        change, v, m = block_update(g, v, m, w, 1 - 0.95**t, rate=rate, decay=decay)
        return np.stack([w + s * change, v, m])


def dropped(benchmark, documents, low, high, threshold):
    found = decontamination.Benchmarks([benchmark], low, high)
    step = decontamination.Decontamination(found, decontamination.count(found, documents), threshold)
    return [step(Document(text, "web", "n")) == Dropped("benchmark text") for text in documents]


# The checkers count, rotate, bisect and enumerate in their own way; the package's functions must agree with them.
PACKAGE = {
    "1.1": lambda cfg, memory_bytes, bytes_per_value: (
        memory_bytes // config.kv_cache_bytes_per_token(cfg, bytes_per_value)
    ),
    "1.2": lambda x, positions, theta: ops.rope(x, -positions, theta, "interleaved"),
    "2.1": dropped,
    "2.3": apple_step,  # but for the 1e-30 that the package adds to the squares
    "2.4": rope_base,
    "2.5": lambda scores, k, eps: solve(scores, k, eps).threshold,
    "3.1": lambda n, n_bytes, latency_s, bandwidth_bytes_per_s: (
        2 * (n - 1) * (latency_s + n_bytes / n / bandwidth_bytes_per_s)
    ),
    "3.2": lambda n_parameters, n_devices, stage: np.dot(
        ((16, 0), (8, 8), (4, 12), (0, 16))[stage], (n_parameters, n_parameters / n_devices)
    ),
    "3.3": lambda n_stages, largest_bubble: max(1, math.ceil((n_stages - 1) * (1 - largest_bubble) / largest_bubble)),
    "3.4": lambda T, n: np.reshape(ring_attention.sequence_order(T, n, zigzag=True), (n, -1)),
    "7.1": lambda margins, labels: [reward_model.soft_label_loss(margins, labels), reward_model.optimal_margin(labels)],
    "7.2": responses.expected_best,
    "7.3": dpo_loss,
    "7.4": of_committee,
    "8.1": advantages.leave_one_out,
    "8.2": lambda log_probs, old_log_probs, advantages, gamma: mdloo.mdloo(log_probs, old_log_probs, advantages, gamma),
}


@pytest.mark.parametrize("id", PACKAGE)
def test_the_expected_numbers_are_the_packages(id):
    for case in EXERCISES[id].cases():
        found = PACKAGE[id](**case.arguments)
        np.testing.assert_allclose(case.expected, found, rtol=1e-9, atol=1e-9)


def test_no_pair_of_normalised_vectors_passes_the_bound_of_1_4():
    rng = np.random.default_rng((1, 4))
    for case in EXERCISES["1.4"].cases():
        q_gain, k_gain = case.arguments["q_gain"], case.arguments["k_gain"]
        H = len(q_gain)
        x, y = rng.standard_normal((2, 20_000, H))
        q, k = (ops.rms_norm(v, g, 1e-12) for v, g in ((x, q_gain), (y, k_gain)))
        largest = np.abs((q * k).sum(-1)).max() / H**0.5
        assert 0.8 * case.expected < largest <= case.expected * (1 + 1e-9)

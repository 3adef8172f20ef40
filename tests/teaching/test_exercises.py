"""Checkers accept the solutions, and refuse every stub and the mistakes that people make."""

import json
import pathlib
from math import ceil, comb, log, log2

import jax
import numpy as np
import optax
import pytest

from afm_ref import config, ops
from afm_ref.curation import Dropped, decontamination, heuristics
from afm_ref.data.corpora import Document
from afm_ref.parallelism.compiled import collectives
from afm_ref.post_training import committee, losses, responses, reward_model
from afm_ref.pretraining.long_context import rope_base
from afm_ref.pretraining.optimizer import warmup_cosine
from afm_ref.pretraining.pruning.top_k import soft_top_k, solve
from afm_ref.rlhf import advantages, bandit, mdloo
from afm_ref.teaching import attempt
from afm_ref.teaching.exercises import EXERCISES, grade
from afm_ref.teaching.exercises.registry import bisect

NOTEBOOKS = pathlib.Path(__file__).resolve().parents[2] / "notebooks"


CHAPTERS = sorted(NOTEBOOKS.glob("*.ipynb"))


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


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_stubs_are_not_attempted_and_solutions_are_right(path):
    stubs, solutions = verdicts(path), verdicts(NOTEBOOKS / "solutions" / path.name)
    chapter = str(int(path.name[:2]))
    assert set(stubs) == set(solutions) == {id for id in EXERCISES if id.split(".")[0] == chapter} and stubs
    assert {v.status for v in stubs.values()} == {"not attempted"}
    assert {id: v for id, v in solutions.items() if v.status != "right"} == {}


def pool_strided(w, n_kv_heads, head_dim):
    return w.reshape(-1, n_kv_heads, head_dim, w.shape[-1]).mean(0).reshape(-1, w.shape[-1])


def turned_keys(k, shift, theta):
    return ops.rope(k[None, :, None], np.full((1, len(k)), shift), theta, "interleaved")[0, :, 0]


def common_runs(benchmark, documents, low, **_):
    """Exercise 2.3 where one run of `low` words that both have is enough."""
    runs = [f" {' '.join(run)} " for run in zip(*(benchmark.split()[i:] for i in range(low)))]
    return [any(run in f" {text} " for run in runs) for text in documents]


def train_by_sums(w, batches, rate):
    """Exercise 3.1 with the gradients of a batch added up."""
    losses_before = []
    for batch in batches:
        errors = [w * x - y for x, y in batch]
        losses_before.append(np.mean(np.square(errors)) / 2)
        w -= rate * sum(error * x for error, (x, _) in zip(errors, batch))
    return [*losses_before, w]


def apple_order(w, g, square, mean_g, step, rate, decay):
    """Exercise 3.2 with the momentum over the normalised update, as Apple has it."""
    square = 0.999 * square + 0.001 * g**2
    mean_u = 0.9 * mean_g + 0.1 * g / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return np.stack([w - rate * (mean_u / (1 - 0.9**step) + decay * w), square, mean_u])


def all_on_both(n_fast, n_slow, n_bytes):
    """Exercise 6.1 with all of the array over the slow links."""
    return [2 * (n - 1) * n_bytes / n for n in (n_fast, n_slow)]


def window_of(share, n_parameters, n_layers, n_heads, head_dim):
    return share / (1 - share) * n_parameters / (n_layers * n_heads * head_dim)


def by_softness(scores, k, eps, cut_moves=True):
    m, cut = soft_top_k(scores, k, eps), -solve(scores, k, eps).threshold
    free = np.where(m < 1, m, 0)
    return -free * (scores - ((free * scores).sum() / free.sum() if cut_moves else cut)) / eps**2


def rows_of_others(n_heads, n_kv_heads, head_dim, cut, group=None):
    head = np.arange(n_heads * head_dim) // head_dim
    return np.flatnonzero(head // (group or n_heads // n_kv_heads) != cut)


def best_student(p, teacher):
    return 0.1 * p + 0.9 * (np.arange(len(p)) == teacher)


def equal_steps(parent, student, parent_steps, mask_steps, student_steps, taught):
    return student_steps + (parent_steps + mask_steps + taught * student_steps / 3) * parent / student


def without_scores(cfg, tokens, mfu, chips, peak_flops, **_):
    return config.train_flops_per_token(cfg, 0) * tokens / (mfu * chips * peak_flops) / 86_400


def all_of_the_memory(n_parameters, model, hbm_bytes, **_):
    return 2 ** ceil(log2(16 * n_parameters / model / hbm_bytes))


def stacked_adapters(a1, b1, a2, b2, **_):
    """Exercise 8.3 without regard to the scale."""
    return np.concatenate([np.concatenate([a1, a2]), np.concatenate([b1, b2], axis=1).T], axis=1)


def slices_if_nothing_is_recomputed(batch_tokens, peak_flops, dcn_bandwidth):
    return 1 + 1.5 * batch_tokens * dcn_bandwidth // peak_flops


def rank_by_sum(singular_values, tolerance):
    share = np.cumsum(singular_values) / singular_values.sum()
    return int(np.searchsorted(share, 1 - tolerance) + 1)


def dpo_of_all_tokens(policy, reference, beta, **_):
    return np.log1p(np.exp(-beta * np.subtract(*(policy - reference).sum(-1)))).mean()


def all_samples_of_one(rewards, judged):
    best = rewards.mean((1, 2)).argmax()
    committee = [judged[:, p].ravel()[rewards[:, p].argmax()] for p in range(rewards.shape[1])]
    return [np.mean(committee), np.mean([j[r.argmax()] for r, j in zip(rewards[best], judged[best])])]


def log_ratio(log_probs, old_log_probs, **_):
    return log_probs - old_log_probs


def best_step(policy_log_probs, advantages, gamma):
    return bandit.maximiser(policy_log_probs, advantages, gamma)


def at_temperature(logits, temperature):
    return ops.softmax(logits / temperature)


def ahead(one, other, n):
    """Exercise 12.2: how often a model answers more of n prompts rightly than another."""
    counts = np.arange(n + 1)
    p, q = (np.array([comb(n, k) * p**k * (1 - p) ** (n - k) for k in counts]) for p in (one, other))
    return p @ (counts[:, None] > counts) @ q


WRONG = [  # an exercise, a plausible wrong answer, words of the hint it must get
    ("0.1", lambda vocab_size: np.log2(vocab_size), "nats"),
    ("0.2", lambda nats_per_token, bytes_per_token: nats_per_token / bytes_per_token, "ln 2"),
    ("0.3", lambda logits, temperature: at_temperature(logits, 1 / temperature), "divide"),
    ("0.3", lambda logits, temperature: at_temperature(logits, 1) / temperature, "not the probabilities"),
    ("0.4", lambda probabilities: ceil(-np.log(probabilities).sum() / 8), "nats are not bits"),
    ("0.4", lambda probabilities: -np.log2(probabilities).sum() // 8, "rounded down"),
    ("1.1", pool_strided, "neighbours share"),
    ("1.2", lambda q_gain, k_gain: len(q_gain) ** 0.5 * max(abs(q_gain)) * max(abs(k_gain)), "not a tight one"),
    ("1.3", lambda k, gain, **by: turned_keys(k, **by), "take it off before you turn"),
    ("1.3", lambda k, gain, shift, theta: gain * turned_keys(k / gain, -shift, theta), "the wrong way"),
    ("1.3", lambda k, gain, **by: turned_keys(k / gain, **by), "put on again"),
    ("1.4", lambda cfg, **of: conversation(cfg=cfg, **of) * cfg.n_kv_heads // cfg.n_heads, "not all N"),
    ("1.4", lambda cfg, memory_bytes, **_: memory_bytes // config.kv_cache_bytes_per_token(cfg), "memory first"),
    ("1.4", lambda **of: conversation(**of, tokens=-(10**9)), "no token does"),
    ("2.1", lambda text: np.mean([text.split("\n").count(x) > 1 for x in text.split("\n")]), "repeats nothing"),
    ("2.2", lambda good, good_kept, junk_kept: good_kept / (good_kept + junk_kept), "as much good as junk"),
    ("2.3", common_runs, "common usage and drops nothing"),
    ("2.3", lambda threshold, **given: dropped(threshold=threshold + 1, **given), "REACHES"),
    ("2.3", lambda low, high, **given: dropped(low=low, high=low, **given), "not `low` alone"),
    ("2.3", lambda low, high, **given: dropped(low=high, high=high, **given), "not `high` alone"),
    ("2.4", lambda similarity, rows, wanted: max(1, ceil(log(1 - wanted) / log(1 - similarity + 1e-12))), "ALL its"),
    ("3.1", train_by_sums, "MEAN"),
    ("3.2", apple_order, "this is Apple's order"),
    ("3.3", lambda warm, end, final, decay: (1 - decay) ** end, "scales the decay too"),
    ("3.4", lambda inputs, slopes, rate: -rate * np.sign(slopes) * np.abs(inputs).sum(1), "sum the gradients first"),
    ("3.5", lambda memory, times: ceil(log((1 - memory) * times) / -log(memory)), "SQUARES"),
    ("4.1", lambda base, T_train, new_base: T_train ** (log(new_base) / log(base)), "divide by 2 pi"),
    ("4.1", lambda base, T_train, new_base: T_train * new_base / base, "at the border"),
    ("4.2", lambda tokens, weights, most_epochs: most_epochs * max(tokens / (weights + 1e-9)), "used up first"),
    ("4.2", lambda tokens, weights, most_epochs: most_epochs * sum(tokens), "whatever their shares"),
    ("4.3", lambda T, window, stride: np.arange(T) % window, "by `stride`, not"),
    ("4.3", lambda T, window, stride: np.minimum(np.arange(T), window - 1), "by one token"),
    ("4.4", lambda share, **model: window_of(share / (1 + share), **model), "of the whole"),
    ("4.4", lambda share, **model: window_of(share, **model) / 2, "not 12"),
    ("5.1", lambda scores, k, eps: -by_softness(scores, k, eps), "the sign"),
    ("5.1", lambda scores, k, eps: by_softness(scores, k, eps, cut_moves=False), "the cut moves"),
    ("5.2", lambda head_dim, **heads: rows_of_others(head_dim=head_dim, group=1, **heads), "not one"),
    ("5.2", lambda head_dim, **heads: rows_of_others(head_dim=1, **heads), "rows are asked"),
    ("5.3", lambda p, teacher: -p @ np.log2(best_student(p, teacher)), "own entropy"),
    ("5.3", lambda p, teacher: p @ np.log(p / best_student(p, teacher)), "not ln"),
    ("5.4", lambda mask_steps, **run: equal_steps(mask_steps=0, **run), "masks are learnt"),
    ("5.4", lambda taught, **run: equal_steps(taught=False, **run), "in every step"),
    ("6.1", all_on_both, "1 / n_fast of the array"),
    ("6.2", lambda n_parameters, memory_bytes, zero: ceil(16 * n_parameters / memory_bytes), "only ZeRO-3"),
    ("6.2", lambda **given: fewest(**given) - 1, "round up"),
    ("6.3", lambda **given: -log_probability(**given), "this is the loss"),
    ("6.4", lambda n_stages, largest_bubble: ceil((n_stages - 1) / largest_bubble), "the busy time"),
    ("7.1", lambda whole_bytes, data, fsdp: 2 * (1 - 1 / (data * fsdp)) * whole_bytes, "most of it is sliced away"),
    ("7.2", without_scores, "scores and weighted values"),
    ("7.3", all_of_the_memory, "beside"),
    ("7.4", slices_if_nothing_is_recomputed, "8 FLOPs"),
    ("8.1", lambda shapes, n_bytes, bytes_per_value: n_bytes // sum(o + i for o, i in shapes), "is in bytes"),
    ("8.2", rank_by_sum, "sum of SQUARES"),
    ("8.3", stacked_adapters, "is another scale for both"),
    ("8.3", lambda a1, **_: a1, "of shape (2, 7)"),
    ("8.3", lambda **given: 2 * stacked_adapters(**given), "is off by"),
    ("8.4", lambda requests, sizes, budget: len(set(requests)), "must be read again"),
    ("9.1", lambda values: [min(values), max(values)], "is its mean"),
    ("9.2", lambda out_dim, in_dim, bits, rows_per_table: bits * out_dim * in_dim, "tables are stored too"),
    ("9.3", lambda codes: 16 * codes[0::2] + codes[1::2], "LOW half"),
    ("9.4", lambda weights, **_: [4] * len(weights), "over the budget"),
    ("9.5", lambda w, h: np.round(w), "make up for the error"),
    ("10.1", lambda margins, labels: [np.log1p(np.exp(-margins)), np.log(labels / (1 - labels))], "of a hard label"),
    ("10.2", lambda rewards, n: np.diff(np.linspace(0, 1, len(rewards) + 1) ** n) @ np.sort(rewards), "replacement"),
    ("10.3", dpo_of_all_tokens, "prompt and padding count"),
    ("10.4", all_samples_of_one, "each gives N / M samples"),
    ("11.1", lambda rewards: rewards - rewards.mean(axis=1, keepdims=True), "the OTHER n - 1"),
    ("11.4", lambda gamma, advantages, **at: np.exp(d := log_ratio(**at)) * advantages - gamma * d, "the weight rho"),
    ("11.4", lambda **given: -mdloo.mdloo(**given), "the loss"),
    ("11.4", lambda log_probs, old_log_probs, **rest: mdloo.mdloo(old_log_probs, log_probs, **rest), "not pi_old / pi"),
    ("11.4", lambda gamma, advantages, **at: np.exp(d := log_ratio(**at)) * (advantages - gamma * d), "of A - gamma"),
    ("11.3", lambda policy_log_probs, advantages, gamma: policy_log_probs + advantages / gamma, "add up to 1"),
    ("11.3", lambda advantages, gamma, **_: bandit.normalised(advantages / gamma), "pi_old is missing"),
    ("11.3", lambda advantages, gamma, **given: best_step(advantages=gamma * advantages, gamma=1, **given), "SHORT"),
    ("11.3", lambda **given: np.exp(best_step(**given)), "log-probabilities are asked"),
    ("11.2", lambda n: [[0.2, 0.3, 0.5], [1.0, 2.0, 3.0]], "the mean reward is 2.3"),
    ("11.2", lambda n: [[0.5, 0.5], [1.0, -1.0]], "3 to 8 arms"),
    ("11.2", lambda n: [[0.5, 0.5, 0.5], [1.0, 0.0, -1.0]], "with sum 1"),
    ("11.2", lambda n: [[0.5, 0.5, 0.0], [1.0, -1.0, 0.0]], "above 0"),
    ("11.2", lambda n: [[0.25, 0.5, 0.25], [0.0, 0.0, 0.0]], "0 without"),
    ("11.2", lambda n: [[0.25, 0.5, 0.25], [2.0, 2.0, 2.0]], "the mean reward is 2:"),
    ("12.1", lambda change, deviation: max(2, ceil((1.96 * deviation / change) ** 2)), "for many seeds"),
    ("12.2", lambda better, worse, n: ahead(worse, better, n), "a tie misleads"),
    ("12.2", lambda better, worse, n: ahead(better, worse, n), "do NOT mislead"),
    ("12.3", lambda rank, bits: ceil(160 * rank / bits), "two matrices"),
    ("12.3", lambda rank, bits: ceil(32 * rank / bits), "a tenth is asked"),
]


def test_every_exercise_is_in_a_notebook_and_has_a_plausible_wrong_answer():
    assert {id.split(".")[0] for id in EXERCISES} == {str(int(p.name[:2])) for p in CHAPTERS}
    assert {id for id, *_ in WRONG} == set(EXERCISES)


@pytest.mark.parametrize(("id", "answer", "hint"), WRONG)
def test_a_plausible_wrong_answer_fails_with_a_hint(id, answer, hint):
    verdict = grade(id, answer)
    assert verdict.status == "wrong" and hint in verdict.message, verdict
    assert "expected" in verdict.message and "got" in verdict.message


@pytest.mark.parametrize("id", sorted(EXERCISES))
def test_no_constant_is_right(id):
    for constant in (0, 1.0, float("nan"), np.zeros((2, 2)), "text", [None]):
        assert grade(id, lambda **_: constant).status == "wrong", constant  # noqa: B023 - called here


@pytest.mark.parametrize("id", ["1.1", "1.2", "1.3", "6.3"])
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


def adamw_step(w, g, square, mean_g, step, rate, decay):
    with jax.enable_x64(True):
        rule = optax.adamw(rate, weight_decay=decay)
        state = rule.init(w)
        adam = state[0]._replace(count=np.int32(step - 1), mu=mean_g, nu=square)
        change, (adam, *_) = rule.update(g, (adam, *state[1:]), w)
        return np.stack([w + change, adam.nu, adam.mu])


def share_left(warm, end, final, decay):
    with jax.enable_x64(True):
        return np.prod(1 - decay * np.asarray(warmup_cosine(warm, end, final)(np.arange(1, end + 1))))


def dropped(benchmark, documents, low, high, threshold):
    found = decontamination.Benchmarks([benchmark], low, high)
    step = decontamination.Decontamination(found, decontamination.count(found, documents), threshold)
    return [step(Document(text, "web", "n")) == Dropped("benchmark text") for text in documents]


def conversation(cfg, memory_bytes, weight_bits, tokens=0):
    free = memory_bytes - config.parameters(cfg)["total"] * weight_bits // 8
    return max(free // config.kv_cache_bytes_per_token(cfg), tokens)


def two_axis_bytes(n_fast, n_slow, n_bytes):
    return [collectives.sent("all-reduce", n_bytes / m, n) for m, n in ((1, n_fast), (n_fast, n_slow))]


def fewest(n_parameters, memory_bytes, zero):
    whole, sharded = (n_parameters * size for size in ((16, 0), (8, 8), (4, 12), (0, 16))[zero])
    if whole + sharded <= memory_bytes:
        return 1
    return ceil(sharded / (memory_bytes - whole)) if memory_bytes > whole else 0


def log_probability(logits, targets):
    whole = np.concatenate(logits, axis=-1)
    return np.array(jax.nn.log_softmax(whole.astype(np.float64)))[np.arange(len(targets)), targets]


# The checkers count, rotate, bisect and enumerate in their own way; the package's functions must agree with them.
PACKAGE = {
    "0.3": at_temperature,
    "1.3": lambda k, gain, **by: gain * turned_keys(k / gain, **by),
    "1.4": conversation,
    "2.1": heuristics.repeated_lines,
    "2.3": dropped,
    "3.2": adamw_step,
    "3.3": share_left,
    "4.1": lambda base, T_train, new_base: bisect(lambda T: rope_base(base, T_train, T) < new_base, 7.0, 1e9),
    "6.1": two_axis_bytes,
    "6.2": fewest,
    "6.4": lambda n_stages, largest_bubble: max(1, ceil((n_stages - 1) * (1 - largest_bubble) / largest_bubble)),
    "10.1": lambda margins, labels: [
        reward_model.soft_label_loss(margins, labels),
        reward_model.optimal_margin(labels),
    ],
    "10.2": responses.expected_best,
    "10.3": dpo_loss,
    "10.4": of_committee,
    "11.1": advantages.leave_one_out,
    "11.4": mdloo.mdloo,
}


@pytest.mark.parametrize("id", PACKAGE)
def test_the_expected_numbers_are_the_packages(id):
    for case in EXERCISES[id].cases():
        found = PACKAGE[id](**case.arguments)
        np.testing.assert_allclose(case.expected, found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("id", "answer"), [("4.4", window_of), ("5.1", by_softness), ("5.2", rows_of_others), ("5.4", equal_steps)]
)
def test_a_formula_gives_what_the_checker_bisects_or_counts(id, answer):
    assert grade(id, answer).status == "right"


def test_no_pair_of_normalised_vectors_passes_the_bound_of_1_2():
    rng = np.random.default_rng((1, 4))
    for case in EXERCISES["1.2"].cases():
        q_gain, k_gain = case.arguments["q_gain"], case.arguments["k_gain"]
        H = len(q_gain)
        x, y = rng.standard_normal((2, 20_000, H))
        q, k = (ops.rms_norm(v, g, 1e-12) for v, g in ((x, q_gain), (y, k_gain)))
        largest = np.abs((q * k).sum(-1)).max() / H**0.5
        assert 0.8 * case.expected < largest <= case.expected * (1 + 1e-9)


def nearly_best_step(advantages, **given):
    return bandit.normalised(best_step(advantages=advantages, **given) + 0.01 * np.sin(np.arange(len(advantages))))


def one_arm(policy_log_probs, advantages, gamma):
    return np.log(np.where(advantages == advantages.max(), 1 - 1e-12, 1e-12 / (len(advantages) - 1)))


def test_the_best_step_passes_and_its_neighbours_do_not():
    assert grade("11.3", best_step).status == "right"
    for answer in (nearly_best_step, one_arm, lambda policy_log_probs, **_: policy_log_probs):
        assert "no other beats" in grade("11.3", answer).message


def test_what_harms_is_decided_as_the_closed_form_decides():
    statuses, names = set(), ("leave one out", "none")
    for p, rewards in (
        ([0.25, 0.5, 0.25], [1.0, 0.0, -1.0]),
        ([0.9, 0.05, 0.05], [1.0, 0.0, 0.0]),  # the mean is not near 0, but the common arm hardly moves the scores
        ([0.3, 0.3, 0.4], [0.4, 0.4, 0.0]),
        ([0.1, 0.2, 0.3, 0.4], [4.0, 3.0, 2.0, 1.0]),
        ([0.2, 0.3, 0.5], [1.0, -1.0, 0.25]),
    ):
        variances = [[bandit.gradient_variance(np.log(p), rewards, n, name) for name in names] for n in (2, 3, 4)]
        harmed = all(ours >= 1.5 * none for ours, none in variances)
        verdict = grade("11.2", lambda n, p=p, rewards=rewards: [p, rewards])
        statuses.add(verdict.status)
        assert (verdict.status == "right") == harmed, (variances, verdict)
        if not harmed:
            ours, none = next(pair for pair in variances if pair[0] < 1.5 * pair[1])
            assert f"{ours:.4g} with leave-one-out, {none:.4g} without" in verdict.message
    assert statuses == {"right", "wrong"}

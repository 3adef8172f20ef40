"""Chapter 8's checkers: right answers pass, further mistakes are told, and the numbers are what they claim to be."""

import numpy as np
import pytest

from afm_ref.rlhf import advantages, bandit, mdloo
from afm_ref.teaching.exercises import EXERCISES, grade


def cases(id):
    return [case.arguments for case in EXERCISES[id].cases()], [case.expected for case in EXERCISES[id].cases()]


def test_leave_one_out_is_the_packages_and_knows_nothing_of_its_own_response():
    for given, expected in zip(*cases("8.1"), strict=True):
        rewards = given["rewards"]
        np.testing.assert_allclose(expected, advantages.leave_one_out(rewards), rtol=1e-12)
        np.testing.assert_allclose(np.sum(expected, axis=1), 0, atol=1e-12)
        baseline = rewards - expected
        for i in range(rewards.shape[1]):
            np.testing.assert_allclose(baseline[:, i], np.delete(rewards, i, axis=1).mean(axis=1), rtol=1e-12)


def test_the_mean_over_pi_k_is_the_objective():
    for given, expected in zip(*cases("8.2"), strict=True):
        log_p, log_q, A, gamma = given.values()
        p, q = np.exp(log_p), np.exp(log_q)
        assert p.sum() == pytest.approx(1) and q.sum() == pytest.approx(1)  # all responses are listed
        assert q @ expected == pytest.approx(p @ A - gamma * (p @ np.log(p / q)), rel=1e-12)
        np.testing.assert_allclose(expected, mdloo.mdloo(log_p, log_q, A, gamma), rtol=1e-12)


def right_step(policy_log_probs, advantages, gamma):
    return bandit.maximiser(policy_log_probs, advantages, gamma)


def nearly_right_step(policy_log_probs, advantages, gamma):
    return bandit.normalised(
        right_step(policy_log_probs, advantages, gamma) + 0.01 * np.sin(np.arange(len(advantages)))
    )


def one_arm(policy_log_probs, advantages, gamma):
    return np.log(np.where(advantages == advantages.max(), 1 - 1e-12, 1e-12 / (len(advantages) - 1)))


def test_the_best_step_passes_and_its_neighbours_do_not():
    assert grade("8.3", right_step).status == "right"
    for answer in (nearly_right_step, one_arm, lambda policy_log_probs, **_: policy_log_probs):
        assert "no other beats" in grade("8.3", answer).message


MISTAKES = [
    ("8.1", lambda rewards: advantages.standardised(rewards, 0.0), "GRPO's"),
    ("8.1", lambda rewards: advantages.leave_one_out(rewards) / rewards.std(axis=1, keepdims=True), "GRPO's"),
    ("8.2", lambda log_probs, old_log_probs, advantages, gamma: (
        np.exp(d := log_probs - old_log_probs) * advantages - gamma * (np.exp(d) - 1 - d)), "the other way round"),
    ("8.2", lambda log_probs, old_log_probs, advantages, gamma: (
        np.exp(d := log_probs - old_log_probs) * advantages - gamma * (np.exp(-d) - 1 + d)), "k3"),
    ("8.2", lambda log_probs, old_log_probs, advantages, gamma: (
        np.exp(d := log_probs - old_log_probs) * (advantages - gamma * d)), "a slope of A - gamma"),
    ("8.2", lambda log_probs, old_log_probs, **rest: -mdloo.mdloo(log_probs, old_log_probs, **rest), "the loss"),
    ("8.2", lambda log_probs, old_log_probs, **rest: mdloo.mdloo(old_log_probs, log_probs, **rest), "not pi_k / pi"),
    ("8.3", lambda advantages, gamma, **_: bandit.normalised(advantages / gamma), "pi_k is missing"),
    ("8.3", lambda advantages, gamma, **given: right_step(advantages=gamma * advantages, gamma=1.0, **given), "SHORT"),
    ("8.3", lambda **given: np.exp(right_step(**given)), "log-probabilities are asked"),
    ("8.4", lambda K: [[0.5, 0.5], [1.0, -1.0]], "3 to 8 arms"),
    ("8.4", lambda K: [[0.5, 0.5, 0.5], [1.0, 0.0, -1.0]], "with sum 1"),
    ("8.4", lambda K: [[0.5, 0.5, 0.0], [1.0, -1.0, 0.0]], "above 0"),
    ("8.4", lambda K: [[0.25, 0.5, 0.25], [0.0, 0.0, 0.0]], "0 without"),
    ("8.4", lambda K: [[0.25, 0.5, 0.25], [2.0, 2.0, 2.0]], "the mean reward is 2:"),
]  # fmt: skip


@pytest.mark.parametrize(("id", "answer", "hint"), MISTAKES)
def test_mistakes_are_told(id, answer, hint):
    verdict = grade(id, answer)
    assert verdict.status == "wrong" and hint in verdict.message, verdict


BANDITS = [
    ([0.25, 0.5, 0.25], [1.0, 0.0, -1.0]),
    ([0.9, 0.05, 0.05], [1.0, 0.0, 0.0]),  # the mean is not near 0, but the common arm hardly moves the scores
    ([0.3, 0.3, 0.4], [0.4, 0.4, 0.0]),
    ([0.1, 0.2, 0.3, 0.4], [4.0, 3.0, 2.0, 1.0]),
    ([0.2, 0.3, 0.5], [1.0, -1.0, 0.25]),
]


@pytest.mark.parametrize(("p", "rewards"), BANDITS)
def test_what_harms_is_decided_as_the_closed_form_decides(p, rewards):
    variances = [
        [bandit.gradient_variance(np.log(p), rewards, K, name) for name in ("leave one out", "none")] for K in (2, 3, 4)
    ]
    harmed = all(ours >= 1.5 * none for ours, none in variances)
    verdict = grade("8.4", lambda K: [p, rewards])
    assert (verdict.status == "right") == harmed, (variances, verdict)
    if not harmed:
        ours, none = next(pair for pair in variances if pair[0] < 1.5 * pair[1])
        assert f"{ours:.4g} with leave-one-out, {none:.4g} without" in verdict.message


def test_both_verdicts_are_among_the_bandits():
    found = {grade("8.4", lambda K, bandit=pair: list(bandit)).status for pair in BANDITS}
    assert found == {"right", "wrong"}

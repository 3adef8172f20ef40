"""Chapter 8's checkers: right answers pass, further mistakes are told, and the numbers are what they claim to be."""

import numpy as np
import pytest

from afm_ref.rlhf import bandit
from afm_ref.teaching.exercises import EXERCISES, grade


def test_the_mean_over_pi_k_is_the_objective():
    for case in EXERCISES["8.2"].cases():
        log_p, log_q, A, gamma = case.arguments.values()
        p, q = np.exp(log_p), np.exp(log_q)
        assert p.sum() == pytest.approx(1) and q.sum() == pytest.approx(1)  # all responses are listed
        assert q @ case.expected == pytest.approx(p @ A - gamma * (p @ np.log(p / q)), rel=1e-12)


def right_step(policy_log_probs, advantages, gamma):
    return bandit.maximiser(policy_log_probs, advantages, gamma)


def nearly_right_step(advantages, **given):
    return bandit.normalised(right_step(advantages=advantages, **given) + 0.01 * np.sin(np.arange(len(advantages))))


def one_arm(policy_log_probs, advantages, gamma):
    return np.log(np.where(advantages == advantages.max(), 1 - 1e-12, 1e-12 / (len(advantages) - 1)))


def test_the_best_step_passes_and_its_neighbours_do_not():
    assert grade("8.3", right_step).status == "right"
    for answer in (nearly_right_step, one_arm, lambda policy_log_probs, **_: policy_log_probs):
        assert "no other beats" in grade("8.3", answer).message


MISTAKES = [
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


def test_what_harms_is_decided_as_the_closed_form_decides():
    statuses = set()
    for p, rewards in BANDITS:
        variances = [
            [bandit.gradient_variance(np.log(p), rewards, K, name) for name in ("leave one out", "none")]
            for K in (2, 3, 4)
        ]
        harmed = all(ours >= 1.5 * none for ours, none in variances)
        verdict = grade("8.4", lambda K, p=p, rewards=rewards: [p, rewards])
        statuses.add(verdict.status)
        assert (verdict.status == "right") == harmed, (variances, verdict)
        if not harmed:
            ours, none = next(pair for pair in variances if pair[0] < 1.5 * pair[1])
            assert f"{ours:.4g} with leave-one-out, {none:.4g} without" in verdict.message
    assert statuses == {"right", "wrong"}

"""The reward model: what its heads read, its loss by definition, the margins at which it rests."""

import math

import numpy as np
import pytest

from afm_ref.post_training import preferences, reward_model
from afm_ref.post_training.responses import Response, written
from afm_ref.post_training.rows import conversation, pad
from afm_ref.transformer import hidden, init
from tests.post_training.models import CFG, TEXT_CFG, random_pairs, random_reward_model, slope, tokenizer


def by_hand(model, rows, b):
    """Return (reward, grade logits [4, 3]) of one row, from its real tokens alone."""
    e = hidden(model.params, rows.tokens[b : b + 1, : rows.lengths[b]], CFG)[0][0, -1]
    logits = [w @ np.tanh(v @ e + b) + c for v, b, w, c in zip(*model[2:])]
    return float(model.preference @ e), np.array(logits)


def test_heads_read_the_last_real_token():
    model, pairs = random_reward_model(), random_pairs(4)
    rows, found = pairs.rows, reward_model.read(model, pairs.rows, CFG)
    assert len(set(rows.lengths.tolist())) > 3
    for b in range(8):
        reward, logits = by_hand(model, rows, b)
        assert found.rewards[b] == pytest.approx(reward, rel=1e-10)
        np.testing.assert_allclose(found.grade_logits[:, b], logits, rtol=1e-9, atol=1e-12)
    difference = found.rewards[:4] - found.rewards[4:]
    margins = reward_model.margins(model, pairs, CFG, batch_size=4)
    np.testing.assert_allclose(margins, difference, rtol=1e-4, atol=1e-4)  # float32


@pytest.mark.parametrize("soft", [True, False])
def test_loss_equals_its_definition(soft):
    model, pairs, weight = random_reward_model(), random_pairs(4), 0.3
    want = 0.0
    for b in range(4):
        sides = [by_hand(model, pairs.rows, b + 4 * side) for side in (0, 1)]
        p, d = pairs.labels[b] if soft else 1.0, sides[0][0] - sides[1][0]
        want += p * math.log1p(math.exp(-d)) + (1 - p) * math.log1p(math.exp(d))
        for (_, logits), grades in zip(sides, pairs.grades[:, b]):
            shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
            want -= weight * np.log(shares[np.arange(4), grades]).sum()
    total, count = reward_model.reward_loss(model, pairs, CFG, soft, weight)
    assert count == 4 and total == pytest.approx(want, rel=1e-10)


def test_loss_at_the_start():
    """Heads of grades start at zero: ln 3 a grade. Rewards start near zero: ln 2 a pair."""
    model, pairs = reward_model.init_reward_model(init(CFG, 0), CFG), random_pairs(5)
    pairs = pairs._replace(labels=pairs.labels.astype(np.float32))
    ranking, _ = reward_model.reward_loss(model, pairs, CFG, grading_weight=0)
    assert ranking / 5 == pytest.approx(math.log(2), abs=0.2)  # |margin| is of the size of sqrt(2 / D) = 0.4
    total, _ = reward_model.reward_loss(model, pairs, CFG, grading_weight=0.1)
    assert (total - ranking) / 5 == pytest.approx(0.1 * 8 * math.log(3), rel=1e-4)


def test_gradient_against_finite_differences():
    pairs = random_pairs(3)
    numeric, exact = slope(lambda model: reward_model.reward_loss(model, pairs, CFG)[0], random_reward_model())
    assert numeric == pytest.approx(exact, rel=1e-6)


def test_margins_reach_their_optimum():
    """Margins, one a level: least at log-odds of the label, to the digits of the sources, by a search over a grid."""
    labels, margins = np.array(preferences.SOFT_LABELS), np.linspace(0, 4, 4001)
    best = [margins[reward_model.soft_label_loss(margins, np.full(4001, label)).argmin()] for label in labels]
    np.testing.assert_allclose(best, [2.94, 1.73, 1.10, 0.62], atol=0.006)
    np.testing.assert_allclose(best, reward_model.optimal_margin(labels), atol=1e-3)
    hard = reward_model.soft_label_loss(np.array([1.0, 3.0, 10.0]), np.ones(3))
    assert hard[0] > hard[1] > hard[2]  # without soft labels it pays to go on for ever


def test_rewards_come_back_by_prompt():
    tok, model = tokenizer(), reward_model.init_reward_model(init(TEXT_CFG, 0), TEXT_CFG)
    prompts = ["3 + 4 =", "Where?", "4 + 4 ="]
    groups = [[written(tok, text) for text in pair] for pair in (("7", ""), ("the park", "7"), ("8", "no"))]
    groups[2][0] = Response("8", tuple(tok.encode("8")))  # cut
    chats = [conversation(tok, prompt, y) for prompt, group in zip(prompts, groups) for y in group]
    alone = np.reshape([reward_model.read(model, pad([chat]), TEXT_CFG).rewards for chat in chats], (3, 2))
    for lengths in ((), (30, 7)):  # the prompt is read once for both, with room for the last token in either case
        found = reward_model.rewards(model, TEXT_CFG, tok, prompts, groups, *lengths, batch_size=4)
        np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-6)  # float32
    with pytest.raises(ValueError, match="a response must have 1 to"):
        reward_model.rewards(model, TEXT_CFG, tok, ["Where?"], [[Response("", ())]])


def test_accuracy_by_hand():
    assert reward_model.accuracy([1, -1, 0, 5, 5], [0.2, 0.1, 0.3, -0.1, 0]) == pytest.approx(1.5 / 4)
    with pytest.raises(ValueError, match="no pair"):
        reward_model.accuracy([1.0], [0.0])


def test_calibration_by_hand():
    found = reward_model.calibration([0.05, 0.06, 0.55, 1.0], [0, 1, 0.5, 1], bins=10)
    np.testing.assert_allclose(found.predicted, [0.055, 0.55, 1])
    np.testing.assert_allclose(found.observed, [0.5, 0.5, 1])
    assert found.count.tolist() == [2, 1, 1]
    assert found.error == pytest.approx((2 * 0.445 + 0.05 + 0) / 4)
    for predicted in ([], [0.5, 0.5], [1.2]):
        with pytest.raises(ValueError, match=r"one for each outcome|probabilities"):
            reward_model.calibration(predicted, [1.0])

"""DPO, IPO and the reward model: closed forms, finite differences, TRL (made by `python -m tests.golden.make`)."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from afm_ref.interop import hugging_face
from afm_ref.post_training import losses, preferences, reward_model
from afm_ref.post_training.responses import Response, written
from afm_ref.post_training.reward_model import init_reward_model, reward_loss, soft_label_loss
from afm_ref.post_training.rows import Padded, conversation, pad
from afm_ref.transformer import hidden, init
from tests.post_training import models
from tests.post_training.models import CFG, TEXT_CFG, params64, random_pairs, random_reward_model, slope, tokenizer


def test_log_sigmoid_does_not_overflow():
    x = np.array([-1000.0, -2.0, 0.0, 2.0, 1000.0])
    want = [-1000, -math.log1p(math.exp(2)), -math.log(2), -math.log1p(math.exp(-2)), 0]
    np.testing.assert_allclose(losses.log_sigmoid(x), want, rtol=1e-14)
    slopes = jax.vmap(jax.grad(losses.log_sigmoid))(jnp.asarray(x, np.float32))
    np.testing.assert_allclose(slopes, [1, 1 / (1 + math.exp(-2)), 0.5, 1 / (1 + math.exp(2)), 0], rtol=1e-6)


def test_the_first_step_has_its_true_slope():
    """Where the policy is still the reference h is exactly 0: minus half of beta, as torch and the formula have it."""
    for loss, setting, want in ((losses.dpo, 0.3, -0.15), (soft_label_loss, jnp.full(1, 0.85), 0.5 - 0.85)):
        slope = jax.grad(lambda x, y, loss=loss: loss(x, y).sum())(jnp.zeros(1), setting)
        assert slope[0] == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("strength", [0.05, 0.5, 3.0])
def test_minima_and_slopes(strength):
    h, step = np.linspace(-4, 4, 9), 1e-6
    slopes = {f: (f(h + step, strength) - f(h - step, strength)) / (2 * step) for f in (losses.dpo, losses.ipo)}
    np.testing.assert_allclose(slopes[losses.dpo], -strength / (1 + np.exp(strength * h)), rtol=1e-6)
    np.testing.assert_allclose(slopes[losses.ipo], 2 * (h - 1 / (2 * strength)), rtol=1e-6, atol=1e-7)
    assert losses.ipo(np.array([1 / (2 * strength)]), strength) == 0


def test_reference_is_the_policy_at_the_start():
    params = init(CFG, 0)
    pairs = losses.with_reference(random_pairs(5), params, CFG, batch_size=4)
    for kind, want in (("dpo", math.log(2)), ("ipo", 25.0), ("ipo_mean", 25.0)):  # 1 / (2 * 0.1) squared
        total, count = losses.preference_loss(params, pairs, CFG, kind, 0.1)
        assert count == 5 and total / 5 == pytest.approx(want, rel=1e-5)


def test_gradient_against_finite_differences():
    """Of all three losses at once, for one compilation: no two weighted errors cancel."""
    weights, pairs = {"dpo": 7.0, "ipo": 0.03, "ipo_mean": 0.3}, random_pairs(3)  # slopes of one size

    def total(params):
        return sum(w * losses.preference_loss(params, pairs, CFG, kind, 0.1)[0] for kind, w in weights.items())

    assert set(weights) == set(losses.LOSSES)
    numeric, exact = slope(total, params64())
    assert numeric == pytest.approx(exact, rel=1e-6)


def test_bad_requests_are_refused():
    pairs = random_pairs(2)
    for given, kind, beta, message in (
        (pairs, "slic", 0.1, "kind must be one of"),
        (pairs._replace(reference=None), "dpo", 0.1, "with_reference"),
        (pairs, "dpo", -0.1, "beta must be above 0"),
        (pairs, "ipo", 0.0, "beta must be above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            losses.preference_loss(params64(), given, CFG, kind, beta)


TOK = tokenizer()
TEXTS = ("7", "8 or 9", "", "nine nine nine", "no")
# prompt i: of the first i + 2 texts, every one against the next
FOUND = [
    preferences.Preference(f"{9 * 'and ' * i}{i} + 4 =", written(TOK, TEXTS[k]), written(TOK, TEXTS[k + 1]),
                           (i + k) % 4, (2, 1, 0, k % 3), (0, 0, 1, 2), 0.5)
    for i in range(4) for k in range(i + 1)
]  # fmt: skip


def test_loss_is_that_of_the_pairs():
    """The pairs by themselves are compared with hand-made numbers below."""
    model = random_reward_model(cfg=TEXT_CFG)
    batch = losses.prompt_batches(FOUND[::-1], TOK, 4)(0)  # the long ones first: rows get other numbers
    assert len(batch.labels) == 4 * 4 and batch.weights.sum() == len(FOUND) == 10  # each prompt has room for four pairs
    assert len(np.unique(batch.rows.tokens, axis=0)) == 2 + 3 + 4 + 5 < 2 * len(FOUND)
    found = reward_loss(model, batch, TEXT_CFG, grading_weight=0.3)
    each = [reward_loss(model, losses.pairs_of([one], TOK), TEXT_CFG, grading_weight=0.3) for one in FOUND]
    assert found == pytest.approx(np.sum(each, axis=0), rel=1e-5)  # labels in float32


def test_rows_are_as_long_as_a_multiple():
    """Whatever the longest of a round: no round compiles anew."""
    widths = [losses.prompt_batches(found, TOK, 1, multiple=96)(0).rows.tokens.shape[1] for found in (FOUND, FOUND[:1])]
    assert widths == [96, 96]


def test_an_epoch_has_every_prompt_once():
    feed = losses.prompt_batches(FOUND, TOK, 2, seed=3)
    for batches in ([feed(0), feed(1)], [feed(2), feed(3)]):
        labels = np.concatenate([b.labels[b.weights > 0] for b in batches])
        assert sorted(labels.tolist()) == sorted(np.float32(preferences.SOFT_LABELS[p.level]) for p in FOUND)
        lengths = sorted(b.rows.lengths.max() for b in batches)
        T = sorted(b.rows.tokens.shape[1] for b in batches)
        assert [t - 16 < n <= t for n, t in zip(lengths, T)] == [True, True] and T[0] < T[1]  # short ones together
    assert (feed(1).rows.tokens == losses.prompt_batches(FOUND, TOK, 2, seed=3)(1).rows.tokens).all()
    with pytest.raises(ValueError, match=r"4 prompts .* batch of 5"):
        losses.prompt_batches(FOUND, TOK, 5)


def test_pairs_hold_what_the_preferences_say():
    good, bad = written(TOK, "7"), written(TOK, "8 or 9")
    found = [preferences.Preference("3 + 4 =", good, bad, level, (2, 2, 2, 2), (0, 1, 0, 2), 0.7) for level in range(4)]
    batch = losses.pairs_of(found, TOK)
    assert batch.labels.tolist() == np.float32([0.95, 0.85, 0.75, 0.65]).tolist()
    assert batch.grades[:, 3].tolist() == [[2, 2, 2, 2], [0, 1, 0, 2]]
    assert batch.places.tolist() == [[0] * 4, [1] * 4]  # two responses, whatever the number of verdicts
    for row, response in enumerate((good, bad)):
        tokens = conversation(TOK, "3 + 4 =", response).tokens
        assert batch.rows.tokens[row, : batch.rows.lengths[row]].tolist() == tokens.tolist()
    feed = losses.pair_batches(batch, 2, seed=1)
    assert sorted(np.concatenate([feed(0).labels, feed(1).labels])) == sorted(batch.labels)  # an epoch


GOLDEN = Path(__file__).parents[1] / "golden"


def test_losses_equal_trl():
    """In float64, through two layers. TRL's "ipo" is our "ipo_mean": the paper's sum form is another number."""
    params, cfg = hugging_face.load(GOLDEN / "qwen3", dtype="float64")
    golden = load_file(GOLDEN / "trl" / "expected.safetensors")
    rows = (golden[name].reshape(-1, *golden[name].shape[2:]) for name in Padded._fields)  # [2, B, ..] -> [2 B, ..]
    pairs = models.two_sided([*rows], *(golden[name] for name in ("labels", "grades", "reference")))
    for kind in ("dpo", "ipo_mean"):
        for beta, want in zip((0.05, 0.5), golden[kind], strict=True):
            total, count = losses.preference_loss(params, pairs, cfg, kind, beta)
            assert total / count == pytest.approx(want, rel=1e-9)
    of_sums, _ = losses.preference_loss(params, pairs, cfg, "ipo", 0.5)
    assert of_sums / 5 != pytest.approx(golden["ipo_mean"][1], rel=0.1)
    model = models.float64(init_reward_model(params, cfg))._replace(preference=golden["head"])
    for b, want in enumerate(golden["reward"]):
        hard, _ = reward_loss(model, pairs.take([b]), cfg, soft=False, grading_weight=0)
        assert hard == pytest.approx(want, rel=1e-9)


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


def test_gradient_of_the_reward_model():
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

"""DPO and IPO against closed forms and finite differences; against TRL in test_trl_golden and tests/oracles."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afm_ref.post_training import losses, preferences
from afm_ref.post_training.responses import written
from afm_ref.post_training.reward_model import reward_loss, soft_label_loss
from afm_ref.post_training.rows import conversation
from afm_ref.transformer import init
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
    """The pairs by themselves are compared with hand-made numbers in test_reward_model."""
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

"""DPO and IPO against closed forms and finite differences; against TRL in test_trl_golden and tests/oracles."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afm_ref.post_training.pairs import with_reference
from afm_ref.post_training.policy import sequence_log_probs
from afm_ref.post_training.preference_losses import LOSSES, dpo, ipo, log_ratio_difference, log_sigmoid, preference_loss
from afm_ref.post_training.reward_model import soft_label_loss
from afm_ref.transformer import init
from tests.post_training.models import CFG, params64, random_pairs, slope

WEIGHTS = {"dpo": 7.0, "ipo": 0.03, "ipo_mean": 0.3}  # brings their slopes to one size


def test_log_sigmoid_does_not_overflow():
    x = np.array([-1000.0, -2.0, 0.0, 2.0, 1000.0])
    want = [-1000, -math.log1p(math.exp(2)), -math.log(2), -math.log1p(math.exp(-2)), 0]
    np.testing.assert_allclose(log_sigmoid(x), want, rtol=1e-14)
    slopes = jax.vmap(jax.grad(log_sigmoid))(jnp.asarray(x, np.float32))
    np.testing.assert_allclose(slopes, [1, 1 / (1 + math.exp(-2)), 0.5, 1 / (1 + math.exp(2)), 0], rtol=1e-6)


def test_the_first_step_has_its_true_slope():
    """Where the policy is still the reference h is exactly 0: minus half of beta, as torch and the formula have it."""
    for loss, want in ((lambda h: dpo(h, 0.3), -0.15), (lambda r: soft_label_loss(r, jnp.full(1, 0.85)), 0.5 - 0.85)):
        assert jax.grad(lambda x: loss(x).sum())(jnp.zeros(1))[0] == pytest.approx(want, rel=1e-6)  # noqa: B023


@pytest.mark.parametrize("strength", [0.05, 0.5, 3.0])
def test_minima_and_slopes(strength):
    h, step = np.linspace(-4, 4, 9), 1e-6
    slopes = {f: (f(h + step, strength) - f(h - step, strength)) / (2 * step) for f in (dpo, ipo)}
    np.testing.assert_allclose(slopes[dpo], -strength / (1 + np.exp(strength * h)), rtol=1e-6)
    np.testing.assert_allclose(slopes[ipo], 2 * (h - 1 / (2 * strength)), rtol=1e-6, atol=1e-7)
    assert ipo(np.array([1 / (2 * strength)]), strength) == 0


@pytest.mark.parametrize("margin", [0.3, 2.0])
def test_dpo_recovers_the_margin_behind_the_preferences(margin):
    """Preferences of probability sigmoid(r_1 - r_2): the mean loss is least at h = (r_1 - r_2) / beta."""
    beta, p = 0.2, 1 / (1 + math.exp(-margin))
    h = np.linspace(0, 20, 20_001)
    loss = p * dpo(h, beta) + (1 - p) * dpo(-h, beta)
    assert h[loss.argmin()] == pytest.approx(margin / beta, abs=1e-3)  # the grid's step


def test_reference_is_the_policy_at_the_start():
    params = init(CFG, 0)
    pairs = with_reference(random_pairs(5), params, CFG, batch_size=4)
    for kind, want in (("dpo", math.log(2)), ("ipo", 25.0), ("ipo_mean", 25.0)):  # 1 / (2 * 0.1) squared
        total, count = preference_loss(params, pairs, CFG, kind, 0.1)
        assert count == 5 and total / 5 == pytest.approx(want, rel=1e-5)


def test_differences_by_hand():
    params, pairs = params64(), random_pairs(3)
    log_probs = sequence_log_probs(params, pairs.rows, CFG)
    for per_token in (False, True):
        want = []
        for b in range(3):
            ratios = [log_probs[b + 3 * side] - pairs.reference[side, b] for side in (0, 1)]
            lengths = [int(pairs.response[side, b].sum()) if per_token else 1 for side in (0, 1)]
            want.append(ratios[0] / lengths[0] - ratios[1] / lengths[1])
        np.testing.assert_allclose(log_ratio_difference(params, pairs, CFG, per_token), want, rtol=1e-12)
    assert len({tuple(pairs.response[side].sum(-1)) for side in (0, 1)}) == 2  # lengths differ, so the forms do


def test_gradient_against_finite_differences():
    """Of all three losses at once, for one compilation: no two weighted errors cancel."""
    pairs = random_pairs(3)

    def total(params):
        return sum(weight * preference_loss(params, pairs, CFG, kind, 0.1)[0] for kind, weight in WEIGHTS.items())

    assert set(WEIGHTS) == set(LOSSES)
    numeric, exact = slope(total, params64())
    assert numeric == pytest.approx(exact, rel=1e-6)


def test_bad_requests_are_refused():
    params, pairs = params64(), random_pairs(2)
    for arguments, message in ((("slic", 0.1), "kind must be one of"), (("dpo", 0.0), "beta must be above 0")):
        with pytest.raises(ValueError, match=message):
            preference_loss(params, pairs, CFG, *arguments)
    with pytest.raises(ValueError, match="with_reference"):
        preference_loss(params, pairs._replace(reference=None), CFG)

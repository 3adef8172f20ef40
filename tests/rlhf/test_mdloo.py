"""MDLOO against its definition: every response is listed, and the objective differentiated as it stands."""

import itertools
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from afm_ref.interop import hugging_face
from afm_ref.post_training.losses import preference_loss
from afm_ref.post_training.rows import Padded, response_log_probs, sequence_log_probs, share, take
from afm_ref.rlhf import Experience, advantages, mdloo
from afm_ref.rlhf.train import ALGORITHMS
from tests.oracles.trl_rl_peer import BETA, EPSILON
from tests.post_training.models import two_sided
from tests.rlhf import models
from tests.rlhf.models import PRESENT, PREVIOUS, REFERENCE, REWARD, ROWS, SMALL, experience, gradient, weighted

GOLDEN = Path(__file__).parents[1] / "golden"
GAMMA = 0.7
LOG_K = sequence_log_probs(PREVIOUS, ROWS, SMALL)
PI_K = np.exp(LOG_K)  # of all 13 responses
ADVANTAGE = REWARD - PI_K @ REWARD


def psi(params):
    """Return E_{y~pi} A - gamma KL(pi || pi_old), summed over all responses: no sampling, no ratio."""
    log_probs = sequence_log_probs(params, ROWS, SMALL)
    xp = log_probs.__array_namespace__()
    return (xp.exp(log_probs) * (ADVANTAGE - GAMMA * (log_probs - LOG_K))).sum()


def error(got, want):
    return np.linalg.norm(got - want) / np.linalg.norm(want)


def test_gradient_is_exact_by_enumeration():
    """Of the loss that is trained, away from pi_old: by exact advantages, and by leave-one-out ones of all pairs."""
    pairs = np.array([*itertools.product(range(len(models.SAID)), repeat=2)])
    weights = np.repeat(PI_K[pairs].prod(axis=1), 2) / 2
    for A in (ADVANTAGE[pairs], advantages.leave_one_out(REWARD[pairs])):
        batch = experience(A.reshape(-1), numbers=pairs.reshape(-1))
        got = -gradient(weighted(mdloo.mdloo_loss, gamma=GAMMA), PRESENT, batch, weights)
        assert error(got, gradient(psi)) < 1e-12  # float64


def test_gradient_of_one_sample():
    """rho (A - gamma log rho), with nothing of mean 0 added; finite where rho underflows."""
    log_probs, old = np.array([-3.0, -1.0, -2.0, -900.0]), np.array([-2.0, -1.5, -2.0, -1.0])
    A = np.array([0.5, -1.0, 2.0, 1.0])
    with jax.enable_x64(True):
        got = jax.grad(lambda x: mdloo.mdloo(x, old, A, GAMMA).sum())(jax.numpy.asarray(log_probs))
    log_rho = log_probs - old
    np.testing.assert_allclose(got, np.exp(log_rho) * (A - GAMMA * log_rho), rtol=1e-13, atol=1e-15)
    assert mdloo.mdloo(log_probs, old, A, GAMMA)[-1] == -GAMMA  # an action given up costs its share of the divergence


def test_per_token_divergence_is_biased():
    """By more than a tenth here, 0.6 nats from pi_old; at pi_old both divergences are without slope, and both right."""
    expected = weighted(mdloo.mdloo_per_token_loss, gamma=GAMMA)
    away, at_home = (
        error(-gradient(expected, params, experience(ADVANTAGE), PI_K), gradient(psi, params))
        for params in (PRESENT, PREVIOUS)
    )
    assert away > 0.1 and at_home < 1e-12


RNG = np.random.default_rng(5)
D, B = SMALL.d_model, len(REWARD)
CRITIC = (REFERENCE, RNG.standard_normal(D), np.array(0.3))
TARGETS = RNG.standard_normal((2, B, ROWS.tokens.shape[1] - 1))  # PPO's advantages and returns
BATCH = experience(REWARD)
PPO_BATCH = experience(TARGETS[0], returns=TARGETS[1])


def test_clip_has_no_slope_where_it_should_not():
    """None where rho went more than epsilon the way that A wants; the full slope, rho A, everywhere else."""
    rho, A = (grid.reshape(-1) for grid in np.meshgrid([0.5, 0.79, 0.81, 1.0, 1.19, 1.21, 2.0], [-1.5, 2.0]))
    with jax.enable_x64(True):
        slopes = jax.grad(lambda x: mdloo.clipped(x, A, 0.2).sum())(jax.numpy.log(rho))
    gone = ((rho > 1.2) & (A > 0)) | ((rho < 0.8) & (A < 0))
    np.testing.assert_allclose(slopes, np.where(gone, 0.0, rho * A), rtol=1e-12)
    assert gone.sum() == 4


def test_divergences_are_kl():
    """Bregman's is its mean under q and K3 under p, share by share the same; neither is ever below 0."""
    p, q = RNG.dirichlet(np.ones(7), 2)
    shares, k3, kl = mdloo.bregman(np.log(p / q)), mdloo.k3(np.log(p / q)), p @ np.log(p / q)
    assert q @ shares == pytest.approx(kl, rel=1e-12) and p @ k3 == pytest.approx(kl, rel=1e-12)
    assert min(*shares, *k3) > 0 and mdloo.bregman(np.zeros(1)) == 0
    np.testing.assert_allclose(shares, p / q * k3, rtol=1e-9)


def test_all_gradients_agree_at_the_previous_iterate():
    """RLOO, MDLOO and REINFORCE first differ in the second step: at pi_old no ratio, clip or divergence is felt.

    So 0.3 of the one and 0.7 of the other less the third have no slope: in one compilation, and nothing cancels.
    """

    def difference(params, batch, cfg):
        parts = (0.3, mdloo.rloo_loss), (0.7, mdloo.mdloo_loss), (-1.0, mdloo.reinforce_loss)
        return sum(weight * loss(params, batch, cfg)[0] for weight, loss in parts), 1

    slopes = [gradient(weighted(difference), params, BATCH, np.ones(B)) for params in (PREVIOUS, PRESENT)]
    assert np.abs(slopes[0]).max() < 1e-12 * np.abs(slopes[1]).max()


def test_dpo_is_that_of_chapter_7():
    """Three prompts of four responses, as chapter 10's pairs; with equal rewards there is no slope, and log 2."""
    numbers, signs = np.arange(12), np.array([1, 0, -1, 0, 0, -1, 0, 1, 0, 0, 0, 0.0])
    total, count = mdloo.dpo_loss(PRESENT, experience(signs, numbers=numbers), SMALL, n=4, beta=0.3)
    which = np.array([[0, 7], [2, 5]])  # chosen, rejected
    rows, reference = take(ROWS, which.reshape(-1)), response_log_probs(REFERENCE, ROWS, SMALL).sum(-1)[which]
    pairs = two_sided(rows, np.ones(2), np.zeros((2, 2, 4), int), reference)
    want, _ = preference_loss(PRESENT, pairs, SMALL, "dpo", 0.3)
    assert count == 3 and total == pytest.approx(want + np.log(2), rel=1e-12)


def test_ppo_by_hand():
    model = mdloo.ActorCritic(PRESENT, *CRITIC)
    total, count = mdloo.ppo_loss(model, PPO_BATCH, SMALL, epsilon=0.3, value_weight=0.7)
    log_probs, predicted, want = response_log_probs(PRESENT, ROWS, SMALL), mdloo.values(model, ROWS, SMALL), 0.0
    for b, t in np.argwhere(ROWS.response[:, 1:]):
        rho, A = np.exp(log_probs[b, t] - PPO_BATCH.old[b, t]), TARGETS[0, b, t]
        want -= min(rho * A, min(max(rho, 0.7), 1.3) * A) - 0.7 * (predicted[b, t] - TARGETS[1, b, t]) ** 2
    assert count == ROWS.response.sum() and total == pytest.approx(want, rel=1e-12)
    start = mdloo.init_actor_critic(PRESENT, SMALL)
    assert start.policy is PRESENT and not mdloo.values(start, ROWS, SMALL).any()


def test_a_value_does_not_see_the_token_it_is_before():
    """Changing y_t changes the values after it alone."""
    model, changed = mdloo.ActorCritic(PRESENT, *CRITIC), ROWS._replace(tokens=ROWS.tokens.copy())
    t = 4  # the second token of a response of two
    changed.tokens[:, t] = (ROWS.tokens[:, t] + 1) % SMALL.vocab_size
    before, after = (mdloo.values(model, rows, SMALL) for rows in (ROWS, changed))
    assert (before[:, :t] == after[:, :t]).all() and (before[:, t] != after[:, t]).all()


@pytest.fixture(params=sorted(ALGORITHMS))
def learner(request):
    """Return (what is trained, the fields of the batch that are numbers of tokens, its batch, its loss)."""
    if request.param == "ppo":
        fields = ("old", "reference", "advantages", "returns")
        return mdloo.ActorCritic(PRESENT, *CRITIC), fields, PPO_BATCH, mdloo.ppo_loss
    loss = partial(mdloo.dpo_loss, n=B) if request.param == "dpo" else ALGORITHMS[request.param].loss
    return PRESENT, ("old", "reference"), BATCH, loss


def test_losses_are_the_same_over_shared_rows(learner):
    """Whether all responses hang on one prompt or each has its own copy of it, the value is the same in float64."""
    model, fields, batch, loss = learner
    start = len(models.PROMPT)
    rows = share([models.PROMPT], [[[*map(int, y)] for y in models.SAID]], start + 1, 2)
    each = {field: getattr(batch, field)[:, start - 1 : start + 1] for field in fields}
    (got, n), (want, count) = (loss(model, b, SMALL) for b in (batch._replace(rows=rows, **each), batch))
    assert n == count and got == pytest.approx(want, rel=1e-10)


def test_padding_and_prompt_leak_nowhere(learner):
    """Other tokens in the padding, other numbers outside the response, longer rows: the same loss, bit for bit."""
    model, fields, batch, loss = learner
    tokens = np.where(np.arange(6) < ROWS.lengths[:, None], ROWS.tokens, 2)
    # old and reference are 0 there, and are added up
    noise = {f: np.where(ROWS.response[:, 1:], getattr(batch, f), 1e6) for f in fields[2:]}
    dirty = batch._replace(rows=ROWS._replace(tokens=tokens.astype(np.int32)), **noise)
    assert (tokens != ROWS.tokens).any()
    assert [float(x) for x in loss(model, dirty, SMALL)] == [float(x) for x in loss(model, batch, SMALL)]


def test_losses_equal_trl():
    """RLOO's and GRPO's, which tests.golden.make stored, in float64; some ratios are clipped and some are not."""
    params, cfg = hugging_face.load(GOLDEN / "qwen3", dtype="float64")
    golden = load_file(GOLDEN / "trl_rl" / "expected.safetensors")
    rows, old, reference = Padded(*(golden[name] for name in Padded._fields)), golden["old"], golden["reference"]
    rewards = golden["rewards"]
    R = advantages.penalised_reward(rewards.reshape(-1), old.sum(-1), reference.sum(-1), BETA)
    A = advantages.leave_one_out(R.reshape(rewards.shape)).reshape(-1)
    np.testing.assert_allclose(A, golden["advantages"], rtol=1e-9)
    batch = Experience(rows, old, reference, A)
    for loss, options, name in ((mdloo.rloo_loss, (EPSILON,), "rloo"), (mdloo.grpo_loss, (EPSILON, BETA), "grpo")):
        total, count = loss(params, batch, cfg, *options)
        assert total / count == pytest.approx(golden[name].item(), rel=1e-9)
    unclipped, count = mdloo.rloo_loss(params, batch, cfg, 1e9)
    assert unclipped / count != pytest.approx(golden["rloo"].item(), rel=1e-2)

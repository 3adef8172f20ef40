"""The online loop with a tiny model: what is fixed when, what is recorded, resumed, compiled and refused."""

import dataclasses
import inspect
from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest

from afm_ref.data.tasks import Rendered, chat_tokens
from afm_ref.data.tokenizer import END
from afm_ref.post_training.committee import Situation
from afm_ref.post_training.members import Workshop
from afm_ref.post_training.responses import Response
from afm_ref.post_training.rows import pad, response_log_probs, sequence_log_probs, share
from afm_ref.rlhf import ALGORITHMS, Settings, advantages, mdloo, member, run, with_critic
from afm_ref.rlhf.rollout import OnPolicy, Rollout
from afm_ref.transformer import init
from tests.post_training.models import TEXT_CFG, tokenizer

TOK = tokenizer()
PROMPTS = ["2 + 3 =", "Where is the picnic?", "4 + 4 =", "Who?"]
SIZES = dict(max_new_tokens=12, row_length=32, batch_size=24)
SETTINGS = Settings(n=8, prompts=3, inner_steps=4, beta=0.02, gamma=0.1, **SIZES)
ITERATIONS, SEED = 3, 7
# Larger logits: a nearly uniform policy over 2048 tokens would never say the same one twice, and learn slowly.
START, OTHER = (params._replace(embed=3 * params.embed) for params in (init(TEXT_CFG, 0), init(TEXT_CFG, 1)))


def even(prompts, groups):
    """Return the share of even token ids."""
    return [[1 - np.mean(np.array(response.tokens) % 2) for response in group] for group in groups]


def odd(prompts, groups):
    return [[1 - share for share in group] for group in even(prompts, groups)]


def weight(policy):
    return {"weight": float(np.asarray(policy.embed)[0, 0])}


def rl(reward=even, **changes):
    settings = dict(settings=SETTINGS, seed=SEED, progress=False, watch={"odd": odd}, measure=weight, measure_every=2)
    settings |= changes
    return run(START, TEXT_CFG, TOK, PROMPTS, reward, optax.adam(0.01), ITERATIONS, **settings)


@pytest.fixture(scope="module")
def plain():
    """A run with MDLOO, and how many programs had been compiled at the start of each iteration."""
    events, at_start, collect = [], [], OnPolicy.collect
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: events.append(name))

    def noted(self, iteration, params):
        collect(self, iteration, params)
        at_start.append(sum("backend_compile" in name for name in events))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OnPolicy, "collect", noted)
        return SimpleNamespace(outcome=rl(), compiled=at_start)


def same(one, other):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def test_the_reward_rises(plain):
    """By two standard errors of a difference: means of 24 rewards in [0, 1], whose deviation is .5 at most."""
    _, rewards = plain.outcome.history.evaluation("reward")
    assert rewards[-1] - rewards[0] > 2 * 0.5 * (2 / 24) ** 0.5 and not same(plain.outcome.policy, START)


def test_nothing_is_compiled_after_the_first_iteration(plain):
    first, second, third = plain.compiled
    assert 0 < first < second == third  # between the first two: the step


def test_numbers_are_those_of_the_iterations(plain):
    """The policy starts as its own reference, leaves it, and the rates at which it does agree with one another."""
    history = plain.outcome.history
    steps, samples = history.evaluation("samples")
    assert steps.tolist() == [4, 8, 12] and samples.tolist() == [24, 48, 72] and len(history) == 12
    reference, previous, largest = (history.evaluation(n)[1] for n in ("kl_reference", "kl_previous", "ratio_max"))
    assert abs(reference[0]) < 1e-5 < reference[-1]  # one model twice: through the cache, and in one pass
    assert previous.min() > 0 and largest.min() > 1
    np.testing.assert_allclose(history.evaluation("odd")[1], 1 - history.evaluation("reward")[1], rtol=1e-5)  # f32
    length, ended = (history.evaluation(n)[1] for n in ("length", "ended"))
    assert 1 <= length.min() <= length.max() <= 12 and 0 <= ended.min() <= ended.max() <= 1
    steps, weights = history.evaluation("weight")  # at the start and after every second iteration
    assert steps.tolist() == [0, 8] and weights[0] == START.embed[0, 0] != weights[1]


def source(name="mdloo", reward=even, prompts=PROMPTS, **changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    return OnPolicy(TEXT_CFG, TOK, prompts, reward, OTHER, ALGORITHMS[name], settings, SEED)


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_experience_by_hand(name):
    """Old log-probabilities are the sampler's, reference ones the reference's; R and A follow, a prompt at a time."""
    batches, model = source(name, beta=0.3), START
    if name == "ppo":
        model = mdloo.init_actor_critic(START, TEXT_CFG)._replace(bias=np.float32(0.25))
    found = batches(0, model)
    heads = [chat_tokens(TOK, PROMPTS[i]).tokens for i in batches.numbers(0) for _ in range(8)]
    said = [y[real] for y, real in zip(found.rows.targets, found.rows.real)]
    rows = pad([Rendered(np.concatenate([x, y]), len(x)) for x, y in zip(heads, said, strict=True)])
    sampler = OTHER if name == "dpo" else START  # its responses are the reference's, whatever the policy
    for got, params in ((found.old, sampler), (found.reference, OTHER)):
        want = response_log_probs(params, rows, TEXT_CFG)[rows.real]
        np.testing.assert_allclose(got[found.rows.real], want, rtol=1e-4, atol=1e-5)  # f32
        assert not got[~found.rows.real].any()
    r = np.array([1 - np.mean(y % 2) for y in said])
    R = r - 0.3 * (found.old - found.reference).sum(-1)
    if name == "ppo":
        np.testing.assert_allclose(found.returns[:, 0], R, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.advantages, found.returns - 0.25, rtol=1e-4, atol=1e-5)
        return
    kinds = dict(reinforce="none", reinforce_mean="mean_baseline", grpo="standardised", dpo="best_against_worst")
    want = getattr(advantages, kinds.get(name, "leave_one_out"))((r if name in ("grpo", "dpo") else R).reshape(3, 8))
    np.testing.assert_allclose(found.advantages.reshape(3, 8), want, rtol=1e-3, atol=1e-5)


def test_numbers_stay_fixed_within_an_iteration():
    """Whatever the weights have become: only where an iteration begins are they looked at."""
    batches = source()
    first = batches(0, START)
    assert all(batches(step, OTHER) is first for step in (1, 2, 3))
    second = batches(4, OTHER)
    np.testing.assert_allclose(second.old, second.reference, rtol=1e-5, atol=1e-5)  # f32
    assert (first.old != first.reference).any() and not np.array_equal(first.rows.tokens, second.rows.tokens)
    moved = batches.finished(START)
    log_rho = sequence_log_probs(START, second.rows, TEXT_CFG) - second.old.sum(-1)
    assert moved["ratio_max"] == pytest.approx(np.exp(log_rho.max()), rel=1e-3)
    assert moved["kl_previous"] == pytest.approx(np.mean(np.exp(log_rho) * (log_rho - 1) + 1), rel=1e-3)


def on_policy(name, seed=SEED, **changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    return OnPolicy(TEXT_CFG, TOK, PROMPTS, even, OTHER, ALGORITHMS[name], settings, seed)


def test_parts_are_an_iteration_dealt_out():
    """Each response is in one part, with its own numbers: losses of the parts add up to that of all."""
    model = mdloo.init_actor_critic(START, TEXT_CFG)
    feed = on_policy("ppo", prompts=4, parts=2)
    one, two, again = (feed(step, model) for step in range(3))
    together = [np.concatenate(pair) for pair in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)]
    for found, wanted in zip(together, jax.tree.leaves(feed.experience), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert same(one, again) and one.rows.n == SETTINGS.n
    (a, m), (b, n), (whole, count) = (mdloo.ppo_loss(model, rows, TEXT_CFG) for rows in (one, two, feed.experience))
    assert m + n == count and float(a + b) == pytest.approx(float(whole), rel=1e-5)  # float32


def test_a_critic_learns_before_the_policy():
    """It halves the error on fresh responses at least: values start at 0, and returns are around .5."""
    feed = on_policy("ppo", seed=SEED + 1)
    learnt = with_critic(OTHER, TEXT_CFG, TOK, PROMPTS, even, optax.adam(0.01), 12, SETTINGS, progress=False)
    fresh = feed(0, learnt)
    first, last = (float(mdloo.value_loss(model, fresh, TEXT_CFG)[0])
                   for model in (mdloo.init_actor_critic(OTHER, TEXT_CFG), learnt))  # fmt: skip
    assert same(learnt.policy, OTHER) and last < first / 2
    outcome = run(learnt, TEXT_CFG, TOK, PROMPTS, even, optax.adam(0.01), 1, algorithm="ppo", settings=SETTINGS,
                  progress=False)  # fmt: skip
    assert not same(outcome.policy, OTHER)


def test_ctrl_c_goes_back_to_a_whole_iteration(plain, tmp_path, monkeypatch):
    """While the second is described, then within the third: the responses that were under way are lost."""
    keep = dict(checkpoint=tmp_path, checkpoint_every=SETTINGS.inner_steps)
    # finished is called at the start, too; the second call begins with the second iteration's four steps
    for where, stop, left in ("finished", 3, 4), ("__call__", 6, 8):
        act, calls = getattr(OnPolicy, where), []

        def stopped(source, *arguments, act=act, calls=calls, stop=stop):
            calls.append(arguments)
            if len(calls) == stop:
                raise KeyboardInterrupt
            return act(source, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(OnPolicy, where, stopped)
            with pytest.raises(KeyboardInterrupt):
                rl(**keep)
        assert max(int(path.stem) for path in tmp_path.glob("*.safetensors")) == left
    resumed = rl(**keep)
    assert same(resumed.policy, plain.outcome.policy)
    assert resumed.history.evaluations == plain.outcome.history.evaluations


def test_online_rl_joins_the_committee(plain):
    """A member learns from the situation's student, reward, prompts and seed, and from nothing else."""

    class Shop(Workshop):
        def score(self, reward, prompts, groups):
            return reward(prompts, groups)

    steps = []
    sizes = dict(sample_rows=24, row_length=32, max_new_tokens=12)
    shop = Shop(TEXT_CFG, TOK, {}, lambda n: steps.append(n) or optax.adam(0.01), **sizes)
    trainer = member(shop, ITERATIONS, "mdloo", dataclasses.replace(SETTINGS, row_length=None, batch_size=1))
    assert same(trainer(Situation(START, even, [], PROMPTS, 0, SEED)), plain.outcome.policy)
    assert steps == [ITERATIONS * SETTINGS.inner_steps]


def test_rows_have_one_length_that_holds_all():
    batches = source(row_length=None)
    length, longest = batches.prompt_length, max(len(chat_tokens(TOK, prompt).tokens) for prompt in PROMPTS)
    assert (length + 12) % 16 == 0 and longest <= length < longest + 16
    rows = batches(0, START).rows
    assert rows.prompts.shape == (3, length) and rows.said.shape == (3, 8, 12)
    assert source(row_length=48)(0, START).rows.prompts.shape == (3, 36)
    with pytest.raises(ValueError, match="row_length 16 does not hold 12 new tokens"):
        source(row_length=16)


def test_options_reach_the_losses():
    """Every option is a setting, and an argument of its loss that has a default."""
    for algorithm in ALGORITHMS.values():
        taken = list(inspect.signature(algorithm.loss).parameters)[3:]
        assert sorted(taken) == sorted(algorithm.options) and all(hasattr(SETTINGS, name) for name in taken)


def test_bad_requests_are_refused(monkeypatch):
    """Whatever was said: neither responses nor their log-probabilities are computed."""
    said = Response("7", (100, END))

    def sample(self, policy, iteration):
        n = self.settings.n
        rows = share([[3]] * 3, [[said.tokens] * n] * 3, 1, 2)
        return Rollout(PROMPTS[:3], [[said] * n] * 3, rows, np.zeros(rows.real.shape, np.float32))

    monkeypatch.setattr(OnPolicy, "sample", sample)
    monkeypatch.setattr(OnPolicy, "read", lambda self, function, params, rows: np.zeros(rows.real.shape, np.float32))
    for changes, message in (
        (dict(algorithm="ppo2"), "algorithm must be one of"),
        (dict(settings=dataclasses.replace(SETTINGS, n=1)), "at least 2"),
        (dict(settings=dataclasses.replace(SETTINGS, parts=2)), "2 equal parts: got 3"),
        (dict(reward=lambda p, g: [[np.nan] * 8] * 3), "finite numbers of shape"),
        (dict(reward=lambda p, g: [[1.0] * 3] * 3), "finite numbers of shape"),
    ):
        with pytest.raises(ValueError, match=message):
            rl(**changes)
    with pytest.raises(ValueError, match="needs prompts"):
        run(START, TEXT_CFG, TOK, [], even, optax.sgd(0.1), 1)
    for changes in (dict(n=0), dict(gamma=-1.0), dict(beta=float("nan")), dict(inner_steps=0)):
        with pytest.raises(ValueError, match="must be at least"):
            Settings(**changes)

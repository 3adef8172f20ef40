"""Recovery: the loss in closed form and by differences, and a training that moves the adapter and nothing else."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afm_ref import lora, losses, training
from afm_ref.containers import matrices
from afm_ref.lora.adapter import adapters
from afm_ref.pretraining import afm_optimizer, warmup_cosine
from afm_ref.quantization import quantize, recovery
from afm_ref.quantization.recovery import StudentAndTeacher
from afm_ref.transformer import Causal, forward
from tests.lora.models import CFG, base_params, float64, random_adapter, tokens
from tests.post_training.models import slope

ONE = dataclasses.replace(CFG, n_layers=1)


def batch():
    """Return two rows of two documents, the last two targets of the second row padding."""
    row = tokens(shape=(2, 9))
    weights = np.ones((2, 8), np.float32)
    weights[1, 6:] = 0
    documents = np.array([[0, 0, 0, 1, 1, 1, 1, 1], [2, 2, 2, 2, 2, 2, -1, -1]])
    return losses.Batch(row[:, :-1], row[:, 1:], weights, documents)


def test_divergence_and_its_gradient_in_closed_form():
    """Of two coins, and q - p for any logits; the reverse direction is another number."""
    p, q = np.array([0.8, 0.2]), np.array([0.5, 0.5])
    by_hand = 0.8 * np.log(1.6) + 0.2 * np.log(0.4)
    assert abs(by_hand - (0.5 * np.log(0.625) + 0.5 * np.log(2.5))) > 0.01
    with jax.enable_x64(True):
        assert recovery.kl_divergence(np.log(p) + 3.0, np.log(q) - 1.0) == pytest.approx(by_hand, rel=1e-12)
        teacher, student = (jnp.asarray(np.random.default_rng(s).normal(0, 3, (4, 11))) for s in (0, 1))
        gradients = jax.jit(jax.grad(lambda t, s: recovery.kl_divergence(t, s).sum(), (0, 1)))(teacher, student)
    p, q = (np.exp(z) / np.exp(z).sum(-1, keepdims=True) for z in map(np.asarray, (teacher, student)))
    np.testing.assert_allclose(gradients[1], q - p, atol=1e-14)
    assert not np.any(gradients[0])  # the teacher is a constant
    assert recovery.kl_divergence(np.zeros(2), np.array([1000.0, 0.0])) == pytest.approx(500 - np.log(2))


def test_the_loss_by_hand():
    """Position by position, from probabilities; a target of weight 0 (padding) is in neither sum nor count."""
    student, teacher = (jax.tree.map(np.float64, base_params(seed=s)) for s in (1, 2))
    one = batch()
    with jax.enable_x64(True):
        got = recovery.recovery_loss(StudentAndTeacher(student, teacher), one, CFG, 0.3)
    logits = [forward(params, one.tokens, CFG, None, Causal(one.documents)) for params in (student, teacher)]
    q, p = (np.exp(z) / np.exp(z).sum(-1, keepdims=True) for z in logits)
    total = 0.0
    for b, t in np.argwhere(one.weights):
        total -= 0.7 * np.log(q[b, t, one.targets[b, t]])
        total += 0.3 * sum(p[b, t, v] * np.log(p[b, t, v] / q[b, t, v]) for v in range(CFG.vocab_size))
    assert got[0] == pytest.approx(total, rel=1e-12)
    assert got[1] == 14


def test_gradients_by_finite_differences():
    """Through the model over palettes, along a random direction of all A and B."""
    with jax.enable_x64(True):
        teacher = float64(base_params(ONE))
        student = random_adapter(quantize(teacher, 2), rank=2)
        weights, frozen = training.split(StudentAndTeacher(student, teacher), recovery.adapters_of)
        value = lambda w: recovery.recovery_loss(training.merge(w, frozen), batch(), ONE, 0.7)[0]  # noqa: E731
        numeric, predicted = slope(value, float64(weights), step=1e-5)
    assert predicted == pytest.approx(numeric, rel=1e-5)


def test_recovery_trains_the_adapter_alone():
    """Codes, tables and the teacher bit for bit as before, no gradient for them, and a loss that falls."""
    teacher = base_params(ONE)
    base = quantize(teacher, 2)
    before = [np.array(leaf) for leaf in jax.tree.leaves((base, teacher))]
    optimizer = afm_optimizer(0.03, warmup_cosine(0, 12))
    settings = dict(rank=2, weight=1.0, progress=False)
    result = recovery.recover(base, teacher, ONE, lambda step: batch(), optimizer, 12, **settings)
    after = jax.tree.leaves((lora.detach(result.params), teacher))
    assert [m.dtype for m in before] == [np.asarray(m).dtype for m in after]
    assert all(np.asarray(new).tobytes() == old.tobytes() for new, old in zip(after, before, strict=True))
    assert len(jax.tree.leaves(result.optimizer_state.m)) == 2 * len(adapters(result.params)) == 14
    assert result.history.loss[-1] < 0.7 * result.history.loss[0]


def test_residual_start_is_the_nearest_of_its_rank():
    """By Eckart and Young: the error left is the tail of the singular values; at full rank nothing is left."""
    params = base_params(ONE)
    base = quantize(params, 2)
    optimizer = afm_optimizer(0.01, warmup_cosine(0, 2))
    originals, plain = (matrices(p) for p in (params, base))
    for rank in (3, 12):
        settings = dict(rank=rank, start="residual", progress=False)
        untrained = recovery.recover(base, params, ONE, lambda step: batch(), optimizer, 0, **settings)
        for key, w in adapters(jax.tree.map(np.asarray, untrained.params)).items():
            lost = originals[key] - plain[key].dense(np.float64)
            tail = np.linalg.svd(lost, compute_uv=False)[rank:]
            left = originals[key] - plain[key].dense(np.float64) - w.scale * (w.b @ w.a)
            assert np.linalg.norm(left) == pytest.approx(np.sqrt((tail**2).sum()), rel=1e-4, abs=1e-5)
            assert (w.rank, w.scale) == (rank, 16 / rank) and w.base.codes.tobytes() == plain[key].codes.tobytes()


def test_bad_input():
    teacher, optimizer = base_params(ONE), afm_optimizer(0.01, warmup_cosine(0, 2))
    base, narrow = quantize(teacher, 4), base_params(dataclasses.replace(ONE, d_ff=12))
    for wrong, settings, why in (
        (teacher, dict(start="random"), "start must be 'zero' or 'residual'"),
        (lora.attach(teacher), {}, "teacher has adapters"),
        (teacher, dict(weight=1.5), r"0 to 1; got 1\.5"),
        (narrow, dict(start="residual"), "no original of shape"),
    ):
        with pytest.raises(ValueError, match=why):
            recovery.recover(base, wrong, ONE, lambda step: batch(), optimizer, 1, **settings)

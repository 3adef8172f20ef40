"""Distillation and the z-loss: from probabilities, their gradients by differences, the teacher a constant."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afm_ref.losses import next_token
from afm_ref.pretraining import distillation as distil
from afm_ref.pretraining import losses
from afm_ref.training.step import QUICK
from afm_ref.transformer import Causal, forward
from tests.pretraining.small_models import CFG, batch, params64

TEACHER_CFG = dataclasses.replace(CFG, d_ff=20, n_layers=1)


def gradient(function, *arguments):
    """Return the gradient with respect to the first argument, in float64."""
    with jax.enable_x64(True):
        return np.asarray(jax.jit(jax.grad(function), compiler_options=QUICK)(*jax.tree.map(jnp.asarray, arguments)))


def probabilities(params, one, cfg=CFG):
    z = np.asarray(forward(params, one.tokens, cfg, None, Causal(one.documents)))
    return np.exp(z) / np.exp(z).sum(-1, keepdims=True)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_the_loss_is_the_cross_entropy_with_the_mixed_target(share):
    """The cross-entropy with the target written out over all V tokens; padding is in neither sum nor count."""
    params, one = params64(), batch()
    teacher = np.random.default_rng(5).integers(0, CFG.vocab_size, (2, 6), dtype=np.int32)
    taught = distil.Taught(one, teacher)
    p, eye = probabilities(params, one), np.eye(CFG.vocab_size)
    q = share * eye[teacher] + (1 - share) * eye[one.targets]
    total, count = distil.mixed_target(params, taught, CFG, share)
    assert total == pytest.approx(-(one.weights[..., None] * q * np.log(p)).sum(), rel=1e-12)
    assert count == one.weights.sum() == 10
    usual, _ = distil.mixed_target(params, taught, CFG)
    assert (usual == total) == (share == 0.9)
    kept = one.weights > 0
    other = distil.Taught(one._replace(targets=np.where(kept, one.targets, 0)), np.where(kept, teacher, 0))
    assert distil.mixed_target(params, other, CFG, share)[0] == pytest.approx(total, rel=1e-14)
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="share is the teacher's part"):
            distil.mixed_target(params, taught, CFG, bad)


def test_the_gradient_by_finite_differences_and_none_through_the_teacher():
    """A model that teaches itself learns what it would from its own tokens written down."""
    params, one = params64(), batch()

    def loss(gain, params, teacher):
        params = params._replace(final_norm=gain)
        tokens = distil.top_tokens(params, one, CFG) if teacher is None else teacher
        return distil.mixed_target(params, distil.Taught(one, tokens), CFG)[0]

    gain, tokens = params.final_norm, np.asarray(distil.top_tokens(params, one, CFG))
    told = gradient(loss, gain, params, tokens)
    for i, bump in enumerate(1e-6 * np.eye(CFG.d_model)):
        up, down = (loss(gain + d, params, tokens) for d in (bump, -bump))
        assert told[i] == pytest.approx((up - down) / 2e-6, abs=1e-7)
    np.testing.assert_allclose(gradient(loss, gain, params, None), told, atol=1e-14)
    assert np.abs(told).min() > 1e-3


def test_top_tokens_equal_the_argmax_of_all_logits():
    """A uniform teacher, whose logits are all equal, names token 0, the lowest of the equals."""
    teacher, one = params64(3, TEACHER_CFG), batch()
    got = distil.top_tokens(teacher, one, TEACHER_CFG)
    assert got.shape == one.tokens.shape and np.issubdtype(got.dtype, np.integer)
    assert np.array_equal(got, probabilities(teacher, one, TEACHER_CFG).argmax(-1)) and len(np.unique(got)) > 2
    uniform = teacher._replace(embed=teacher.embed * 0)
    assert not np.asarray(distil.top_tokens(uniform, one, TEACHER_CFG)).any()


def test_another_vocabulary_is_refused():
    """One of another size in test_pretrain_command."""
    a, b = SimpleNamespace(token_bytes=[b"a", b"b"]), SimpleNamespace(token_bytes=[b"b", b"a"])
    distil.check_vocabularies(CFG, CFG, a, a)
    distil.check_vocabularies(CFG, CFG, a, None)
    for other in (b, SimpleNamespace()):  # someone else's: what its tokens mean is not known
        with pytest.raises(ValueError, match="of two different tokenizers"):
            distil.check_vocabularies(CFG, CFG, a, other)


def test_z_loss_equals_its_definition():
    params, one = params64(), batch()
    log_zs = np.log(np.exp(forward(params, one.tokens, CFG, None, Causal(one.documents))).sum(axis=-1))
    log_p = np.log(np.take_along_axis(probabilities(params, one), one.targets[..., None], -1)[..., 0])
    total, count = losses.next_token_z(params, one, CFG, 0.3)
    assert (total, count) == pytest.approx(((one.weights * (0.3 * log_zs**2 - log_p)).sum(), 10), rel=1e-12)
    for power in (1, 2):
        wanted = (one.weights * log_zs**power).sum(), 10
        assert losses.log_z(params, one, CFG, power) == pytest.approx(wanted, rel=1e-12)
    np.testing.assert_allclose(losses.next_token_z(params, one, CFG, 0.0), next_token(params, one, CFG))
    for weight in (-1e-6, float("nan")):
        with pytest.raises(ValueError, match="z_weight"):
            losses.next_token_z(params, one, CFG, weight)


def test_gradient_of_the_z_loss_by_finite_differences():
    """Through the whole model, in a random direction of the embedding; a large weight, so that the z part counts."""
    params = params64()
    direction = np.random.default_rng(1).standard_normal(params.embed.shape)

    def at(step):
        return losses.next_token_z(params._replace(embed=params.embed + step * direction), batch(), CFG, 1.0)[0]

    assert float(gradient(at, 0.0)) == pytest.approx((at(1e-5) - at(-1e-5)) / 2e-5, rel=1e-6)

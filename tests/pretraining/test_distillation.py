"""Distillation: the loss from probabilities, its gradient by differences, the teacher a constant."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from afm_ref.losses import Batch
from afm_ref.pretraining import distillation as distil
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


def taught_batch():
    return distil.Taught(batch(), np.random.default_rng(5).integers(0, CFG.vocab_size, (2, 6), dtype=np.int32))


def loss_of_probabilities(probs, teacher, true):
    """Return the loss a token of a student that gives the three tokens these probabilities, whatever it has read."""
    cfg = dataclasses.replace(CFG, n_layers=1, vocab_size=3, norm_eps=1e-12, tie_embeddings=False)
    flat = jax.tree.map(np.zeros_like, params64(0, cfg))  # every layer adds 0
    unembed = np.outer(np.log(probs), np.ones(8)) / 8
    flat = flat._replace(unembed=unembed, final_norm=np.ones(8), embed=np.ones((3, 8)))
    tokens = np.zeros((1, 2), np.int32)
    one = distil.Taught(Batch(tokens, tokens + true, np.ones((1, 2))), tokens + teacher)
    total, count = distil.mixed_target(flat, one, cfg)
    assert count == 2
    return total / count


def test_the_loss_by_hand():
    """Three tokens of probability 1/2, 1/4, 1/4: the teacher's is the second, the true one the first or the second."""
    assert loss_of_probabilities([0.5, 0.25, 0.25], 1, 0) == pytest.approx((0.9 * 2 + 0.1 * 1) * np.log(2))  # bits
    assert loss_of_probabilities([0.5, 0.25, 0.25], 1, 1) == pytest.approx(2 * np.log(2))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_it_is_the_cross_entropy_with_the_mixed_target(share):
    """The target written out over all V tokens; a target of weight 0 (padding) is in neither sum nor count."""
    params, taught = params64(), taught_batch()
    one, teacher = taught
    p, eye = probabilities(params, one), np.eye(CFG.vocab_size)
    q = share * eye[teacher] + (1 - share) * eye[one.targets]
    total, count = distil.mixed_target(params, taught, CFG, share)
    assert total == pytest.approx(-(one.weights[..., None] * q * np.log(p)).sum(), rel=1e-12)
    assert count == one.weights.sum() == 10
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

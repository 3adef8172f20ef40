"""The z-loss against its definition in NumPy, and its gradient against finite differences."""

import jax
import numpy as np
import pytest

from afm_ref.config import AFMConfig
from afm_ref.losses import Batch, next_token
from afm_ref.pretraining import losses
from afm_ref.training.step import QUICK
from afm_ref.transformer import forward, init

CFG = AFMConfig(d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, d_ff=8, vocab_size=11)
PARAMS = jax.tree.map(np.float64, init(CFG, 0))
RNG = np.random.default_rng(1)
BATCH = Batch(RNG.integers(0, 11, (2, 5)), RNG.integers(0, 11, (2, 5)), np.array([[1, 1, 0, 1, 1], [1, 0, 1, 1, 0.0]]))


def test_equals_its_definition():
    z = forward(PARAMS, BATCH.tokens, CFG)
    log_zs = np.log(np.exp(z).sum(axis=-1))
    p = np.take_along_axis(np.exp(z), BATCH.targets[..., None], -1)[..., 0] / np.exp(log_zs)
    total, count = losses.next_token_z(PARAMS, BATCH, CFG, 0.3)
    np.testing.assert_allclose(total, (BATCH.weights * (0.3 * log_zs**2 - np.log(p))).sum(), rtol=1e-12)
    assert count == 7
    for power in (1, 2):
        found = losses.log_z(PARAMS, BATCH, CFG, power)
        np.testing.assert_allclose(found, ((BATCH.weights * log_zs**power).sum(), 7), rtol=1e-12)
    np.testing.assert_allclose(losses.next_token_z(PARAMS, BATCH, CFG, 0.0), next_token(PARAMS, BATCH, CFG))
    for weight in (-1e-6, float("nan")):
        with pytest.raises(ValueError, match="z_weight"):
            losses.next_token_z(PARAMS, BATCH, CFG, weight)


def test_gradient_of_the_weights_by_finite_differences():
    """Through the whole model, in a random direction of the embedding; a large weight, so that the z part counts."""
    direction = RNG.standard_normal(PARAMS.embed.shape)

    def at(step):
        embed = PARAMS.embed + step * direction
        return losses.next_token_z(PARAMS._replace(embed=embed), BATCH, CFG, 1.0)[0]

    with jax.enable_x64(True):
        slope = float(jax.jit(jax.grad(at), compiler_options=QUICK)(0.0))
    assert slope == pytest.approx((at(1e-5) - at(-1e-5)) / 2e-5, rel=1e-6)

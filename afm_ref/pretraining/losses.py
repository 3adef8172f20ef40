"""Losses of pre-training beside `losses.next_token`: the z-loss, which keeps the logits'
normaliser near 1.
"""

from .._typing import Array, Float, Int
from ..config import AFMConfig
from ..losses import Batch, token_log_probs, weighted
from ..ops import wide
from ..transformer import Causal, forward
from ..weights import Params

Z_WEIGHT = 1e-6  # AXLearn honeycrisp's


def next_token_z(params: Params, batch: Batch, cfg: AFMConfig, z_weight: float = Z_WEIGHT):
    """Return (sum, count) of the next token's cross-entropy and z_weight times the squared
    log-normaliser, in nats.

        sum = sum_t w_t ( -log p(y_t) + z_weight (log Z_t)^2 ),   log Z_t = log sum_v exp(z_tv),   count = sum_t w_t

    The cross-entropy alone does not change when a constant is added to all logits of a
    token, so log Z may drift; its square pulls it to 0. With respect to the logits it adds
    2 z_weight log Z p. Raises ValueError for z_weight < 0.

    Source: Chowdhery et al. 2022 (PaLM) section 5 [standard]; the weight 1e-6 from AXLearn
        honeycrisp [inferred].
    Test: tests/pretraining/test_losses.py::test_gradient_of_the_z_loss_by_finite_differences,
        tests/pretraining/test_losses.py::test_z_loss_equals_its_definition
    """
    if not z_weight >= 0:
        raise ValueError(f"z_weight is {z_weight}: a penalty needs at least 0")
    logits, log_probs = _logits(params, batch, cfg)
    penalty = z_weight * log_normaliser(logits, batch.targets, log_probs) ** 2
    return weighted(penalty - log_probs, batch.weights)


def log_normaliser(
    logits: Float[Array, "*batch V"],
    targets: Int[Array, "*batch"],
    log_probs: Float[Array, "*batch"],
) -> Float[Array, "*batch"]:
    """Return log Z of logits whose targets' log-probabilities are known: no second sum over
    the vocabulary.

        log Z = z_y - log p(y)

    Source: textbook [standard].
    Test: tests/pretraining/test_losses.py::test_z_loss_equals_its_definition
    """
    xp = logits.__array_namespace__()
    return xp.take_along_axis(wide(logits), targets[..., None], axis=-1)[..., 0] - log_probs


def log_z(params: Params, batch: Batch, cfg: AFMConfig, power: int = 1):
    """Return (sum, count) of (log Z)^power over the weighted targets: a loss for
    `evaluation.total_loss`.
    """
    logits, log_probs = _logits(params, batch, cfg)
    return weighted(
        log_normaliser(logits, batch.targets, log_probs) ** power, batch.weights
    )


def _logits(params, batch, cfg):
    logits = forward(params, batch.tokens, cfg, attend=Causal(batch.documents))
    return logits, token_log_probs(logits, batch.targets)

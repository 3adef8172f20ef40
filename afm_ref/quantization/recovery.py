"""Recovery: an adapter that gives a quantized model back what its palettes took, taught by
the model before them.

    result = recover(quantize(params, 2), params, cfg, batches, optimizer, steps=100)
    result.params                    # palettes bit for bit as before, with a trained adapter beside each

Feature adapters are then trained from there on by `training.fit` with
`select=lora.trainable`.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from .. import lora, training
from .._typing import Array, Float
from ..config import AFMConfig
from ..containers import map_matrices, matrices, ungrouped
from ..lora.adapter import LoRA, adapters, checked_scale
from ..lora.extraction import factors
from ..losses import Batch, token_log_probs, weighted
from ..ops import stop_gradient, wide
from ..transformer import Causal, forward
from ..weights import Params


class StudentAndTeacher(NamedTuple):
    """The model that learns, with adapters, and the one it learns from: a tree of which the
    adapters are trained.
    """

    student: Params
    teacher: Params


def recover(
    quantized: Params,
    teacher: Params,
    cfg: AFMConfig,
    batches: Callable,
    optimizer,
    steps: int,
    *,
    rank: int = 16,
    alpha: float = 16.0,
    weight: float = 0.5,
    start: str = "zero",
    seed: int = 0,
    **settings,
) -> training.FitResult:
    """Return the quantized params with an adapter beside every matrix, trained to make up
    for the quantization.

    batches(step) -> Batch of pre-training text. weight: see `recovery_loss`. start: "zero"
    draws A and sets B = 0: training begins at the quantized model; "residual" begins
    nearer, see `from_residual`. settings: those of `training.fit`. Palettes and teacher are
    frozen.

    Stated: the frozen base, about 10B tokens (0.15% of the base's training), ranks 8, 16
    and 32. Not stated: the loss, alpha, and whether the 16-bit model teaches.

    Source: TR24 section 5 (accuracy-recovery adapters) [confirmed]; distillation as the
        loss [ours].
    Test: tests/quantization/test_recovery.py::test_recovery_trains_the_adapter_alone
    """
    if start not in ("zero", "residual"):
        raise ValueError(f"start must be 'zero' or 'residual', got {start!r}")
    if not 0 <= weight <= 1:
        raise ValueError(
            f"weight is the teacher's share of the loss, 0 to 1; got {weight!r}"
        )
    if adapters(teacher):
        raise ValueError(
            "the teacher has adapters, which would be trained as well: merge or detach them first"
        )
    if start == "zero":
        student = lora.attach(quantized, rank=rank, alpha=alpha, seed=seed)
    else:
        student = from_residual(quantized, teacher, rank, alpha)
    pair = StudentAndTeacher(student, teacher)
    loss = partial(recovery_loss, cfg=cfg, weight=weight)
    result = training.fit(
        pair, loss, batches, optimizer, steps, select=adapters_of, **settings
    )
    return result._replace(params=result.params.student)


def adapters_of(pair: StudentAndTeacher) -> StudentAndTeacher:
    """Return the tree with the student's A and B and None elsewhere: the `select` for
    training.fit.
    """
    return StudentAndTeacher(lora.trainable(pair.student), None)


def recovery_loss(
    pair: StudentAndTeacher, batch: Batch, cfg: AFMConfig, weight: float = 0.5
):
    """Return (sum, count) of the next-token loss mixed with the divergence from the
    teacher, in nats.

        sum = sum_t w_t ((1 - weight) (-log q_t(y_t)) + weight KL(p_t || q_t))
        count = sum_t w_t

    p_t and q_t: the teacher's and the student's distribution of the token after position t.
    weight 0 is `losses.next_token`; at 1 the student learns from the teacher alone.

    Source: Hinton et al. 2015, at temperature 1 [standard]; that recovery distils, and the
        mix [ours].
    Test: tests/quantization/test_recovery.py::test_the_loss_by_hand,
        tests/quantization/test_recovery.py::test_gradients_by_finite_differences
    """
    attend = Causal(batch.documents)
    student, teacher = (forward(params, batch.tokens, cfg, None, attend) for params in pair)
    nats = -(1 - weight) * token_log_probs(student, batch.targets) + weight * kl_divergence(
        teacher, student
    )
    return weighted(nats, batch.weights)


def kl_divergence(
    teacher: Float[Array, "... V"], student: Float[Array, "... V"]
) -> Float[Array, "..."]:
    """Return the forward Kullback-Leibler divergence of the whole distributions that two
    sets of logits give, in nats.

        KL(p || q) = sum_v p_v (log p_v - log q_v),   p, q = softmax(teacher), softmax(student)
        dKL / d student = q - p

    The teacher is a constant.

    Source: Kullback and Leibler 1951 [standard].
    Test: tests/quantization/test_recovery.py::test_divergence_and_its_gradient_in_closed_form
    """
    log_p = jax.nn.log_softmax(wide(stop_gradient(teacher)))
    log_q = jax.nn.log_softmax(wide(student))
    return (jax.numpy.exp(log_p) * (log_p - log_q)).sum(axis=-1)


def from_residual(
    quantized: Params, params: Params, rank: int = 16, alpha: float = 16.0
) -> Params:
    """Return the quantized params with adapters that hold the leading singular vectors of
    what quantization took.

        W - Q = U S V^T,   B = U_R (S_R / scale)^1/2,   A = (S_R / scale)^1/2 V_R^T
        scale = alpha / rank

    so that Q + scale B A is the nearest to W that an adapter of rank R can reach.

    Source: Li et al. 2023 (LoftQ), one round of it [standard].
    Test: tests/quantization/test_recovery.py::test_residual_start_is_the_nearest_of_its_rank
    """
    scale = checked_scale(rank, alpha)
    originals = matrices(ungrouped(params))

    def beside(name, w, numbers):
        original = originals.get((name, numbers[0]))
        if original is None or original.shape != w.shape:
            raise ValueError(
                f"{name} of layer {numbers[0]} has no original of shape {w.shape} among these params"
            )
        lost = np.asarray(original, np.float64) - np.asarray(
            w.dense(np.float64) if hasattr(w, "dense") else w
        )
        a, b = (m.astype(np.float32) for m in factors(lost / scale, rank))
        return LoRA(w, a, b, scale)

    return map_matrices(ungrouped(quantized), beside)

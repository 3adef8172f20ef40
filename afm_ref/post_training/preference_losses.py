"""DPO and IPO: losses on pairs of responses, without a reward model."""

from collections.abc import Callable

from .._typing import Array, Float
from ..config import AFMConfig
from ..ops import wide
from ..weights import Params
from .pairs import Pairs
from .policy import response_lengths, sequence_log_probs


def log_sigmoid(x):
    """Return log(1 / (1 + exp(-x))) = -log(exp(0) + exp(-x)) without overflow, with its true slope everywhere.

    Written with |x| it would have JAX's slope 1 instead of 1/2 at x = 0, where every pair is before the first step.
    """
    xp, x = x.__array_namespace__(), wide(x)
    return -xp.logaddexp(xp.zeros_like(x), -x)


def dpo(h: Float[Array, " B"], beta: float) -> Float[Array, " B"]:
    """Return DPO's loss of each pair, from the difference h of its log-ratios.

        -log sigmoid(beta h),   h = log(pi(y_c|x) / ref(y_c|x)) - log(pi(y_r|x) / ref(y_r|x))

    Source: TR24 section 4 names DPO [confirmed]; Rafailov et al. 2023 equation 7 [standard].
    Test: tests/post_training/test_trl_golden.py::test_losses_equal_trl, tests/oracles/test_trl.py::test_dpo_and_ipo
    """
    return -log_sigmoid(beta * wide(h))


def ipo(h: Float[Array, " B"], tau: float) -> Float[Array, " B"]:
    """Return IPO's loss of each pair. Unlike DPO's it has its minimum at a finite difference, h = 1 / (2 tau).

        (h - 1 / (2 tau))^2

    Source: TR24 section 4 names IPO [confirmed]; Azar et al. 2023 equation 17 [standard].
    Test: tests/post_training/test_preference_losses.py::test_minima_and_slopes
    """
    return (wide(h) - 1 / (2 * tau)) ** 2


# name -> (loss of h, whether each log-ratio is divided by its response's length first)
LOSSES: dict[str, tuple[Callable, bool]] = {"dpo": (dpo, False), "ipo": (ipo, False), "ipo_mean": (ipo, True)}


def log_ratio_difference(params: Params, pairs: Pairs, cfg: AFMConfig, per_token: bool = False):
    """Return h of each pair, [B], in nats: the log-ratio of the chosen response less that of the rejected one.

    per_token divides each log-ratio by the number of tokens of its response. Raises ValueError for pairs without
    reference log-probabilities.

    Source: Rafailov et al. 2023 [standard]; per token as TRL has it for IPO [standard].
    Test: tests/post_training/test_trl_golden.py::test_losses_equal_trl
    """
    if pairs.reference is None:
        raise ValueError("these pairs have no reference log-probabilities: pass them through `with_reference` first")
    rows = pairs.rows
    ratios = sequence_log_probs(params, rows, cfg).reshape(2, -1) - pairs.reference
    if per_token:
        ratios = ratios / response_lengths(rows).reshape(2, -1)
    return ratios[0] - ratios[1]


def preference_loss(params: Params, pairs: Pairs, cfg: AFMConfig, kind: str = "dpo", beta: float = 0.1):
    """Return (sum, count) over pairs of "dpo", "ipo" (the paper's sums) or "ipo_mean" (TRL's means); beta is IPO's tau.

    The two forms of IPO are different losses: with sums 1 / (2 tau) is the distance of whole responses, with means that
    of a token, so tau must be larger by about the length for a like strength. TRL reports that the authors of IPO
    confirmed the mean form for the paper's results.

    Source: TR24 section 4 names DPO and IPO [confirmed]; Azar et al. 2023, TRL [standard].
    Test: tests/post_training/test_trl_golden.py::test_losses_equal_trl, tests/oracles/test_trl.py::test_dpo_and_ipo
    """
    if kind not in LOSSES:
        raise ValueError(f"kind must be one of {sorted(LOSSES)}, got {kind!r}")
    if not beta > 0:
        raise ValueError(f"beta must be above 0, got {beta}: at 0 the loss does not depend on the policy")
    loss, per_token = LOSSES[kind]
    each = loss(log_ratio_difference(params, pairs, cfg, per_token), beta)
    return each.sum(), each.shape[0]

"""MDLOO, mirror descent with leave-one-out advantages: what Apple chose over PPO.

    sample     y_1 .. y_K ~ pi_k(.|x)                            K responses to each prompt
    reward     R_i = r(x, y_i) - beta log(pi_k(y_i|x) / pi_ref(y_i|x))
    advantage  A_i = R_i - mean of R_j over the other K - 1       computed once, then fixed
    step       pi_k+1 = argmax_pi  E_{y~pi} A(x, y) - gamma KL(pi || pi_k)      some steps of an optimizer

Two divergences: beta's, to the fixed reference, is part of the reward; gamma's, to the previous iterate, is how far one
step may go. The first two lines are in `iterate`, the third in `advantages`, the fourth is here.
"""

from .._typing import Array, Float
from ..config import AFMConfig
from ..ops import wide
from ..post_training.policy import response_log_probs, sequence_log_probs
from ..weights import Params
from .experience import Experience


def divergence(log_rho: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Return rho log rho - rho + 1 >= 0: the share of one sample from q in KL(p || q), with rho = p / q.

        E_q[rho log rho - rho + 1] = KL(p || q),   as E_q[rho] = 1

    It is the Bregman divergence of x log x, the one that makes mirror descent on probabilities multiplicative. Its
    slope in log p is rho log rho: none at p = q, whereas that of rho log rho alone is 1, noise of mean 0.

    Source: Bregman divergence of the negative entropy [standard]; as the estimate of MDLOO's divergence [ours].
    Test: tests/rlhf/test_mdloo.py::test_divergence_is_kl
    """
    xp, log_rho = log_rho.__array_namespace__(), wide(log_rho)
    rho = xp.exp(log_rho)
    return rho * log_rho - rho + 1


def mdloo(
    log_probs: Float[Array, " B"], old_log_probs: Float[Array, " B"], advantages: Float[Array, " B"], gamma: float
) -> Float[Array, " B"]:
    """Return each response's share of the objective; ascend the mean over responses sampled from pi_k.

        rho = pi(y|x) / pi_k(y|x)
        Psi = E_{y~pi} A - gamma KL(pi || pi_k) = E_{y~pi_k}[rho A - gamma (rho log rho - rho + 1)]
        grad Psi = E_{y~pi_k}[rho (A - gamma log rho) grad log pi(y|x)]

    log_probs: of whole responses under pi, in nats; old_log_probs: under pi_k. The value and its gradient are both
    unbiased for every pi, near pi_k or not, also with leave-one-out advantages. Without `- rho + 1` the gradient would
    carry A - gamma - gamma log rho: E[rho grad log pi] = 0, so this is a baseline of gamma, and a bad one: A is centred
    already. All three terms stay finite where rho underflows.

    Source: TR24 section 4 (leave-one-out advantages, trust region to the previous iterate as in MDPO) [confirmed]; how
    the divergence is estimated is not stated: this estimate [ours].
    Test: tests/rlhf/test_mdloo.py::test_gradient_is_exact_by_enumeration
    """
    log_rho = wide(log_probs) - wide(old_log_probs)
    xp = log_rho.__array_namespace__()
    return xp.exp(log_rho) * advantages - gamma * divergence(log_rho)


def mdloo_per_token(
    log_probs: Float[Array, "B T"], old_log_probs: Float[Array, "B T"], advantages: Float[Array, " B"], gamma: float
) -> Float[Array, " B"]:
    """Return the same with the divergence taken token by token: the usual way, and a bias.

        rho A - gamma sum_t (rho_t log rho_t - rho_t + 1),   rho_t = pi(y_t|x, y_<t) / pi_k(y_t|x, y_<t)

    Each term is right for its prefix, but the prefixes come from pi_k where KL(pi || pi_k) has those of pi. So it is
    the wrong objective as soon as pi has left pi_k; at pi_k itself both gradients agree.

    Source: usual per-token penalties, for comparison [ours].
    Test: tests/rlhf/test_mdloo.py::test_per_token_divergence_is_biased
    """
    log_rho = wide(log_probs) - wide(old_log_probs)
    xp = log_rho.__array_namespace__()
    return xp.exp(log_rho.sum(-1)) * advantages - gamma * divergence(log_rho).sum(-1)


def mdloo_loss(params: Params, batch: Experience, cfg: AFMConfig, gamma: float = 1.0):
    """Return (sum, count) over responses of the negative objective `mdloo`.

    Source: TR24 section 4 (MDLOO) [confirmed]; gamma is not stated [ours].
    Test: tests/rlhf/test_mdloo.py::test_gradient_is_exact_by_enumeration
    """
    log_probs = sequence_log_probs(params, batch.rows, cfg)
    each = mdloo(log_probs, wide(batch.old).sum(-1), batch.advantages, gamma)
    return -each.sum(), each.shape[0]


def mdloo_per_token_loss(params: Params, batch: Experience, cfg: AFMConfig, gamma: float = 1.0):
    """Return (sum, count) over responses of the negative `mdloo_per_token`.

    Source: for comparison [ours].
    Test: tests/rlhf/test_mdloo.py::test_per_token_divergence_is_biased
    """
    log_probs = response_log_probs(params, batch.rows, cfg)
    each = mdloo_per_token(log_probs, batch.old, batch.advantages, gamma)
    return -each.sum(), each.shape[0]

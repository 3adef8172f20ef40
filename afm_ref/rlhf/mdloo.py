"""MDLOO, mirror descent with leave-one-out advantages, and what it is compared with.

    sample     y_1 .. y_n ~ pi_old(.|x)                            n responses to each prompt
    reward     R_i = r(x, y_i) - beta log(pi_old(y_i|x) / pi_ref(y_i|x))
    advantage  A_i = R_i - mean of R_j over the other n - 1       computed once, then fixed
    step       pi_new = argmax_pi  E_{y~pi} A(x, y) - gamma KL(pi || pi_old)   by some steps

Two divergences: beta's, to the fixed reference, is part of the reward; gamma's, to the
previous iterate, is how far one step may go. The first two lines are in `rollout`, the
third in `advantages`, the fourth is here; below it what REINFORCE, RLOO, PPO, GRPO and DPO
do instead.
"""

from typing import Any, NamedTuple

import numpy as np

from .._typing import Array, Float
from ..config import AFMConfig
from ..ops import wide
from ..post_training import losses as of_pairs
from ..post_training.rows import Padded, Shared, response_log_probs, sequence_log_probs
from ..weights import Params


class Experience(NamedTuple):
    """Responses of pi_old with numbers that stay fixed while steps are taken; B = P n.

    [B, T] as rows.targets: a number for each token, 0 outside the response.
    """

    rows: Shared | Padded
    old: Any  # [B, T]: log-probabilities under pi_old, the previous iterate, who said them
    reference: Any  # [B, T]: under the fixed reference
    advantages: Any  # [B]; of PPO [B, T]
    returns: Any = None  # [B, T]: what PPO's critic is to predict


def bregman(log_rho: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Return rho log rho - rho + 1 >= 0: a sample of q's share in KL(p || q), rho = p / q.

        E_q[rho log rho - rho + 1] = KL(p || q),   as E_q[rho] = 1

    The Bregman divergence of x log x makes mirror descent on probabilities multiplicative.
    Its slope in log p, rho log rho, is 0 at p = q; that of rho log rho alone is 1, noise of
    mean 0.

    Source: Bregman divergence of the negative entropy [standard].
    Test: tests/rlhf/test_mdloo.py::test_divergences_are_kl
    """
    xp, log_rho = log_rho.__array_namespace__(), wide(log_rho)
    rho = xp.exp(log_rho)
    return rho * log_rho - rho + 1


def mdloo(
    log_probs: Float[Array, " B"],
    old_log_probs: Float[Array, " B"],
    advantages: Float[Array, " B"],
    gamma: float,
) -> Float[Array, " B"]:
    """Return each response's share of the objective; ascend the mean over samples of pi_old.

        rho = pi(y|x) / pi_old(y|x)
        Psi = E_{y~pi} A - gamma KL(pi || pi_old)
            = E_{y~pi_old}[rho A - gamma (rho log rho - rho + 1)]
        grad Psi = E_{y~pi_old}[rho (A - gamma log rho) grad log pi(y|x)]

    log_probs, old_log_probs: of whole responses under pi and pi_old, in nats. Value and
    gradient are unbiased for every pi, also with leave-one-out advantages. Without
    `- rho + 1` the gradient would carry A - gamma - gamma log rho: a baseline of gamma,
    though A is centred.

    Source: TR24 section 4 (leave-one-out advantages, trust region to the previous iterate
        as in MDPO) [confirmed]; how the divergence is estimated is not stated: this
        estimate [ours].
    Test: tests/rlhf/test_mdloo.py::test_gradient_is_exact_by_enumeration
    """
    log_rho = wide(log_probs) - wide(old_log_probs)
    xp = log_rho.__array_namespace__()
    return xp.exp(log_rho) * advantages - gamma * bregman(log_rho)


def mdloo_per_token(
    log_probs: Float[Array, "B T"],
    old_log_probs: Float[Array, "B T"],
    advantages: Float[Array, " B"],
    gamma: float,
) -> Float[Array, " B"]:
    """Return the same with the divergence taken token by token: the usual way, and a bias.

        rho A - gamma sum_t (rho_t log rho_t - rho_t + 1)
        rho_t = pi(y_t|x, y_<t) / pi_old(y_t|x, y_<t)

    Each term is right for its prefix, but the prefixes come from pi_old where KL(pi || pi_old)
    has those of pi. So it is the wrong objective as soon as pi has left pi_old.
    """
    log_rho = wide(log_probs) - wide(old_log_probs)
    xp = log_rho.__array_namespace__()
    return xp.exp(log_rho.sum(-1)) * advantages - gamma * bregman(log_rho).sum(-1)


def mdloo_loss(params: Params, batch: Experience, cfg: AFMConfig, gamma: float = 1.0):
    """Return (sum, count) over responses of the negative objective `mdloo`.

    Source: TR24 section 4 (MDLOO) [confirmed].
    Test: tests/rlhf/test_mdloo.py::test_gradient_is_exact_by_enumeration
    """
    log_probs = sequence_log_probs(params, batch.rows, cfg)
    each = mdloo(log_probs, wide(batch.old).sum(-1), batch.advantages, gamma)
    return _descended(each)


def mdloo_per_token_loss(
    params: Params, batch: Experience, cfg: AFMConfig, gamma: float = 1.0
):
    """Return (sum, count) over responses of the negative `mdloo_per_token`."""
    log_probs = response_log_probs(params, batch.rows, cfg)
    return _descended(mdloo_per_token(log_probs, batch.old, batch.advantages, gamma))


def clipped(
    log_rho: Float[Array, "*B"], advantages: Float[Array, "*#B"], epsilon: float
) -> Float[Array, "*B"]:
    """Return PPO's clipped objective of each action.

        min(rho A, clip(rho, 1 - epsilon, 1 + epsilon) A)

    No slope where rho has gone more than epsilon the way that A wants, else the full slope.

    Source: Schulman et al. 2017 equation 7 [standard].
    Test: tests/rlhf/test_mdloo.py::test_clip_has_no_slope_where_it_should_not
    """
    xp = log_rho.__array_namespace__()
    rho = xp.exp(wide(log_rho))
    return xp.minimum(rho * advantages, xp.clip(rho, 1 - epsilon, 1 + epsilon) * advantages)


def k3(log_ratio: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Return 1/rho - 1 + log rho >= 0: one sample of p's share in KL(p || q), rho = p / q.

    GRPO's divergence to the reference. `bregman`, for samples from q, is rho times it.

    Source: Schulman 2020 (k3); Shao et al. 2024 equation 4 [standard].
    Test: tests/rlhf/test_mdloo.py::test_divergences_are_kl
    """
    xp, log_ratio = log_ratio.__array_namespace__(), wide(log_ratio)
    return xp.exp(-log_ratio) - 1 + log_ratio


def reinforce_loss(params: Params, batch: Experience, cfg: AFMConfig):
    """Return (sum, count) over responses of - A log pi(y|x), whose value means nothing.

    Source: Williams 1992 [standard].
    Test: tests/rlhf/test_mdloo.py::test_all_gradients_agree_at_the_previous_iterate
    """
    return _descended(batch.advantages * sequence_log_probs(params, batch.rows, cfg))


def rloo_loss(params: Params, batch: Experience, cfg: AFMConfig, epsilon: float = 0.2):
    """Return (sum, count) of RLOO's loss: clipped, a whole response as one action.

    Source: Ahmadian et al. 2024; clipped as TRL has it [standard].
    Test: tests/rlhf/test_mdloo.py::test_losses_equal_trl,
        tests/oracles/test_trl_rl.py::test_rloo
    """
    log_rho = sequence_log_probs(params, batch.rows, cfg) - wide(batch.old).sum(-1)
    return _descended(clipped(log_rho, batch.advantages, epsilon))


def dpo_loss(
    params: Params, batch: Experience, cfg: AFMConfig, n: int = 4, beta: float = 0.1
):
    """Return (sum, count) over prompts of DPO's loss, the best response against the worst.

        -log sigmoid(beta (log(pi(y_best|x) / pi_ref(y_best|x))
                           - log(pi(y_worst|x) / pi_ref(y_worst|x))))

    batch.advantages: of `advantages.best_against_worst`; equal rewards add log 2 and no
    slope.

    Source: Rafailov et al. 2023 equation 7 [standard].
    Test: tests/rlhf/test_mdloo.py::test_dpo_is_that_of_chapter_7
    """
    log_ratios = sequence_log_probs(params, batch.rows, cfg) - wide(batch.reference).sum(-1)
    h = (batch.advantages * log_ratios).reshape(-1, n).sum(-1)
    return _descended(-of_pairs.dpo(h, beta))


def grpo_loss(
    params: Params,
    batch: Experience,
    cfg: AFMConfig,
    epsilon: float = 0.2,
    beta: float = 0.04,
):
    """Return (sum, count) of GRPO's loss: of each response the mean over its tokens.

        - 1/|y| sum_t (min(rho_t A, clip(rho_t) A) - beta k3_t),   k3 to the reference

    Source: Shao et al. 2024 (DeepSeekMath) equation 3 [standard].
    Test: tests/rlhf/test_mdloo.py::test_losses_equal_trl,
        tests/oracles/test_trl_rl.py::test_grpo
    """
    log_probs = response_log_probs(params, batch.rows, cfg)
    gain = clipped(log_probs - batch.old, batch.advantages[:, None], epsilon)
    each = gain - beta * k3(log_probs - batch.reference)
    each, real = _within(batch.rows, each)
    return _descended(each.sum(-1) / real.sum(-1))


class ActorCritic(NamedTuple):
    """What PPO trains: the policy, and a second model with a head that predicts returns."""

    policy: Params
    critic: Params
    head: Any  # [D]
    bias: Any  # []


def init_actor_critic(policy: Params, cfg: AFMConfig) -> ActorCritic:
    """Return a policy with a critic on a copy of its weights; every value starts at 0.

    Source: Ziegler et al. 2019 [standard].
    Test: tests/rlhf/test_mdloo.py::test_ppo_by_hand
    """
    return ActorCritic(
        policy, policy, np.zeros(cfg.d_model, np.float32), np.zeros((), np.float32)
    )


def policy_of(params) -> Params:
    """Return the policy alone, without the critic of PPO."""
    return params.policy if isinstance(params, ActorCritic) else params


def values(
    model: ActorCritic, rows: Padded | Shared, cfg: AFMConfig
) -> Float[Array, "B T"]:
    """Return the critic's value V(x, y_<t) before each of rows.targets.

    Source: textbook [standard].
    Test: tests/rlhf/test_mdloo.py::test_ppo_by_hand
    """
    return wide(rows.states(model.critic, cfg)) @ wide(model.head) + model.bias


def ppo_loss(
    model: ActorCritic,
    batch: Experience,
    cfg: AFMConfig,
    epsilon: float = 0.2,
    value_weight: float = 0.5,
):
    """Return (sum, count) over tokens of PPO's loss, each token an action.

        - min(rho_t A_t, clip(rho_t) A_t) + value_weight (V_t - G_t)^2
        A_t = G_t - V_t under pi_old

    batch.advantages and batch.returns are [B, T]; A_t is GAE's for lambda = gamma = 1.
    Advantages are not standardised, values are not clipped, and there is no entropy bonus.

    Source: Schulman et al. 2017; Ouyang et al. 2022 [standard].
    Test: tests/rlhf/test_mdloo.py::test_ppo_by_hand
    """
    log_rho = response_log_probs(model.policy, batch.rows, cfg) - batch.old
    gain, real = _within(batch.rows, clipped(log_rho, batch.advantages, epsilon))
    return value_weight * value_loss(model, batch, cfg)[0] - gain.sum(), real.sum()


def value_loss(model: ActorCritic, batch: Experience, cfg: AFMConfig):
    """Return (sum, count) over tokens of the critic's squared error (V_t - G_t)^2.

    Source: Schulman et al. 2017 equation 9 [standard].
    Test: tests/rlhf/test_mdloo.py::test_ppo_by_hand
    """
    error = (values(model, batch.rows, cfg) - batch.returns) ** 2
    error, real = _within(batch.rows, error)
    return error.sum(), real.sum()


def _descended(each):
    """Return (sum, count) of the loss that falls as the mean of an objective [B] rises."""
    return -each.sum(), each.shape[0]


def _within(rows, each):
    """Return numbers of tokens [B, T], 0 outside the responses, and which are inside."""
    xp = each.__array_namespace__()
    real = xp.asarray(rows.real)
    return xp.where(real, each, 0.0), real

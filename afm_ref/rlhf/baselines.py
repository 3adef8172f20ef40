"""What MDLOO is compared with: REINFORCE, RLOO, PPO with a critic, GRPO, DPO."""

from typing import Any, NamedTuple

import numpy as np

from .._typing import Array, Float
from ..config import AFMConfig
from ..ops import wide
from ..post_training import preference_losses
from ..post_training.policy import response_log_probs, sequence_log_probs
from ..post_training.responses import Padded
from ..post_training.shared import Shared
from ..weights import Params
from .experience import Experience


def clipped(log_rho: Float[Array, "*B"], advantages: Float[Array, "*#B"], epsilon: float) -> Float[Array, "*B"]:
    """Return PPO's clipped objective of each action.

        min(rho A, clip(rho, 1 - epsilon, 1 + epsilon) A)

    No slope where rho has already gone more than epsilon the way that A wants; where it went the other way the full
    slope, to bring it back.

    Source: Schulman et al. 2017 equation 7 [standard].
    Test: tests/rlhf/test_baselines.py::test_clip_has_no_slope_where_it_should_not
    """
    xp = log_rho.__array_namespace__()
    rho = xp.exp(wide(log_rho))
    return xp.minimum(rho * advantages, xp.clip(rho, 1 - epsilon, 1 + epsilon) * advantages)


def k3(log_ratio: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Return 1/rho - 1 + log rho >= 0: the share of one sample from p in KL(p || q), with rho = p / q.

    GRPO's estimate of the divergence to the reference. `mdloo.divergence`, for samples from q, is rho times it.

    Source: Schulman 2020 (k3); Shao et al. 2024 equation 4 [standard].
    Test: tests/rlhf/test_baselines.py::test_k3_is_kl
    """
    xp, log_ratio = log_ratio.__array_namespace__(), wide(log_ratio)
    return xp.exp(-log_ratio) - 1 + log_ratio


def reinforce_loss(params: Params, batch: Experience, cfg: AFMConfig):
    """Return (sum, count) over responses of - A log pi(y|x): the gradient is right at pi_k, the value means nothing.

    Source: Williams 1992 [standard].
    Test: tests/rlhf/test_baselines.py::test_all_gradients_agree_at_the_previous_iterate
    """
    each = batch.advantages * sequence_log_probs(params, batch.rows, cfg)
    return -each.sum(), each.shape[0]


def rloo_loss(params: Params, batch: Experience, cfg: AFMConfig, epsilon: float = 0.2):
    """Return (sum, count) over responses of RLOO's loss: the clipped objective with a whole response as one action.

    At pi_k the gradient is REINFORCE's with leave-one-out advantages.

    Source: Ahmadian et al. 2024; clipped as TRL has it [standard].
    Test: tests/rlhf/test_trl_rl_golden.py::test_losses_equal_trl, tests/oracles/test_trl_rl.py::test_rloo
    """
    log_rho = sequence_log_probs(params, batch.rows, cfg) - wide(batch.old).sum(-1)
    each = clipped(log_rho, batch.advantages, epsilon)
    return -each.sum(), each.shape[0]


def dpo_loss(params: Params, batch: Experience, cfg: AFMConfig, K: int = 4, beta: float = 0.1):
    """Return (sum, count) over prompts of DPO's loss of the best response against the worst.

        -log sigmoid(beta (log(pi(y_best|x) / pi_ref(y_best|x)) - log(pi(y_worst|x) / pi_ref(y_worst|x))))

    batch.advantages: those of `advantages.best_against_worst`. A prompt of equal rewards adds log 2 and no slope.

    Source: Rafailov et al. 2023 equation 7 [standard]; the pair from rewards [ours].
    Test: tests/rlhf/test_baselines.py::test_dpo_is_that_of_chapter_7
    """
    log_ratios = sequence_log_probs(params, batch.rows, cfg) - wide(batch.reference).sum(-1)
    h = (batch.advantages * log_ratios).reshape(-1, K).sum(-1)
    each = preference_losses.dpo(h, beta)
    return each.sum(), each.shape[0]


def grpo_loss(params: Params, batch: Experience, cfg: AFMConfig, epsilon: float = 0.2, beta: float = 0.04):
    """Return (sum, count) over responses of GRPO's loss: each response's mean over its tokens.

        - 1/|y| sum_t (min(rho_t A, clip(rho_t) A) - beta k3_t),   k3 of pi against the reference

    A token's weight falls with the length of its response: a bias that Dr. GRPO takes out.

    Source: Shao et al. 2024 (DeepSeekMath) equation 3 [standard].
    Test: tests/rlhf/test_trl_rl_golden.py::test_losses_equal_trl, tests/oracles/test_trl_rl.py::test_grpo
    """
    log_probs = response_log_probs(params, batch.rows, cfg)
    gain = clipped(log_probs - batch.old, batch.advantages[:, None], epsilon)
    each = gain - beta * k3(log_probs - batch.reference)
    xp = each.__array_namespace__()
    real = xp.asarray(batch.rows.real)
    means = xp.where(real, each, 0.0).sum(-1) / real.sum(-1)
    return -means.sum(), means.shape[0]


class ActorCritic(NamedTuple):
    """What PPO trains: the policy, and a second model with a linear head that predicts its return."""

    policy: Params
    critic: Params
    head: Any  # [D]
    bias: Any  # []


def init_actor_critic(policy: Params, cfg: AFMConfig) -> ActorCritic:
    """Return a policy with a critic on a copy of its weights; every value starts at 0.

    Source: Ziegler et al. 2019 [standard]; a copy, and the start at 0 [ours].
    Test: tests/rlhf/test_baselines.py::test_ppo_by_hand
    """
    return ActorCritic(policy, policy, np.zeros(cfg.d_model, np.float32), np.zeros((), np.float32))


def values(model: ActorCritic, rows: Padded | Shared, cfg: AFMConfig) -> Float[Array, "B T"]:
    """Return the critic's value V(x, y_<t) before each token, an entry for each of rows.targets.

    Source: textbook [standard].
    Test: tests/rlhf/test_baselines.py::test_ppo_by_hand
    """
    return wide(rows.states(model.critic, cfg)) @ wide(model.head) + model.bias


def ppo_loss(model: ActorCritic, batch: Experience, cfg: AFMConfig, epsilon: float = 0.2, value_weight: float = 0.5):
    """Return (sum, count) over tokens of PPO's loss, each token an action.

        - min(rho_t A_t, clip(rho_t) A_t) + value_weight (V_t - G_t)^2,   A_t = G_t - V_t under pi_k

    batch.advantages and batch.returns are [B, T] here. A_t is GAE's for lambda = gamma = 1. Advantages are not
    standardised, values are not clipped, and there is no entropy bonus.

    Source: Schulman et al. 2017; Ouyang et al. 2022 [standard].
    Test: tests/rlhf/test_baselines.py::test_ppo_by_hand
    """
    log_rho = response_log_probs(model.policy, batch.rows, cfg) - batch.old
    error = (values(model, batch.rows, cfg) - batch.returns) ** 2
    each = clipped(log_rho, batch.advantages, epsilon) - value_weight * error
    xp = each.__array_namespace__()
    real = xp.asarray(batch.rows.real)
    return -xp.where(real, each, 0.0).sum(), real.sum()

"""RLHF: MDLOO, mirror descent with leave-one-out advantages, and what it is compared with.

trained = rlhf.run(policy, cfg, tokenizer, prompts, reward, optax.adam(1e-4), iterations=20)
members = {"mdloo": rlhf.member(workshop, iterations=10)}  # for post_training.committee
"""

from . import advantages, bandit, mdloo, rollout, train
from .mdloo import Experience
from .rollout import Settings
from .train import ALGORITHMS, Trained, member, run, with_critic

__all__ = [
    "ALGORITHMS",
    "Experience",
    "Settings",
    "Trained",
    "advantages",
    "bandit",
    "mdloo",
    "member",
    "rollout",
    "run",
    "train",
    "with_critic",
]

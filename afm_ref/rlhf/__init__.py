"""RLHF: MDLOO, mirror descent with leave-one-out advantages, and what it is compared with.

outcome = iterate.run(policy, cfg, tokenizer, prompts, reward, optax.adam(1e-4), iterations=20, algorithm="mdloo")
members = {"mdloo": iterate.member(workshop, iterations=10)}        # online RL in post_training.committee
"""

from . import advantages, bandit, baselines, iterate, mdloo, measures
from .experience import Experience
from .iterate import ALGORITHMS, Outcome, Settings, member, run

__all__ = ["ALGORITHMS", "Experience", "Outcome", "Settings", "advantages", "bandit", "baselines", "iterate", "mdloo"]
__all__ += ["measures", "member", "run"]

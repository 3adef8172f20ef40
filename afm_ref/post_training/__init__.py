"""Post-training: hybrid data, fine-tuning, preferences, reward model, teaching committee.

examples    = sft.examples_of(hybrid.demonstrations(), tokenizer)
policy      = sft.fine_tune(params, cfg, tokenizer, examples, optimizer, steps).params
groups      = responses.sample(policy, cfg, tokenizer, prompts, n=4, max_new_tokens=48)
preferences = preferences.collect(records, groups)                  # simulated annotators
batches     = losses.prompt_batches(preferences, tokenizer, 6)
loss        = partial(reward_loss, cfg=cfg)
model       = training.fit(init_reward_model(policy, cfg), loss, batches, ...).params
pairs       = losses.with_reference(losses.pairs_of(preferences, tokenizer), policy, cfg)
rounds      = committee.run(members, policy, model, tools, prompts)
"""

from . import (
    committee,
    hybrid,
    losses,
    members,
    mixed_quality,
    preferences,
    responses,
    reward_model,
    rows,
    sft,
)
from .losses import preference_loss
from .preferences import qualities, utility
from .reward_model import RewardModel, init_reward_model, reward_loss
from .rows import sequence_log_probs

__all__ = [
    "RewardModel",
    "committee",
    "hybrid",
    "init_reward_model",
    "losses",
    "members",
    "mixed_quality",
    "preference_loss",
    "preferences",
    "qualities",
    "responses",
    "reward_loss",
    "reward_model",
    "rows",
    "sequence_log_probs",
    "sft",
    "utility",
]

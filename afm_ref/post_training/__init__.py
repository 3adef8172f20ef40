"""Post-training: hybrid data, fine-tuning, preferences, the reward model and the teaching committee.

examples    = sft.examples_of(hybrid.demonstrations(), tokenizer)
policy      = sft.fine_tune(params, cfg, tokenizer, examples, optimizer, steps).params
groups      = responses.sample(policy, cfg, tokenizer, prompts, n=4, max_new_tokens=48)
preferences = preferences.collect(records, groups)                  # simulated annotators
batches     = comparisons.comparison_batches(preferences, tokenizer, batch_size=6)
model       = training.fit(init_reward_model(policy, cfg), partial(reward_loss, cfg=cfg), batches, ...).params
pairs       = pairs.with_reference(pairs.pairs_of(preferences, tokenizer), policy, cfg)     # for preference_loss
rounds      = committee.run(members, policy, model, tools, prompts)
"""

from . import (
    best_of_n,
    committee,
    comparisons,
    hybrid,
    measures,
    members,
    pairs,
    preference_losses,
    preferences,
    responses,
    reward_model,
    sft,
    shared,
)
from .policy import sequence_log_probs
from .preference_losses import preference_loss
from .reward_model import RewardModel, init_reward_model, reward_loss
from .utility import qualities, utility

__all__ = [
    "RewardModel",
    "best_of_n",
    "committee",
    "comparisons",
    "hybrid",
    "init_reward_model",
    "measures",
    "members",
    "pairs",
]
__all__ += ["preference_loss", "preference_losses", "preferences", "qualities", "responses", "reward_loss"]
__all__ += ["reward_model", "sequence_log_probs", "sft", "shared", "utility"]

"""The tasks, the lengths of rows, and the optimizers of all that is trained on the bench."""

import optax

from ..pretraining import afm_optimizer, warmup_cosine

TASKS = {
    "summarise": 2,
    "answer": 2,
}  # and their difficulty: one above the instruct model's for summaries
PROMPT_TOKENS, NEW_TOKENS = 80, 24
ROW = PROMPT_TOKENS + NEW_TOKENS
SAMPLE_ROWS = 256


def warmup(steps: int) -> int:
    """Return how many of the steps warm up: a tenth, at least one, and none where there is
    but one.
    """
    return min(max(1, steps // 10), steps - 1)


def afm(rate, steps):
    """Return Apple's pre-training optimizer, for supervised steps."""
    return afm_optimizer(rate, warmup_cosine(warmup(steps), steps), weight_decay=1e-5)


def adam(rate, steps):
    """Return AdamW with a tenth of warm-up and a cosine to 0, for rewards, preferences and
    online RL.
    """
    schedule = optax.warmup_cosine_decay_schedule(0, rate, warmup(steps), steps)
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.95, weight_decay=0.01)
    )

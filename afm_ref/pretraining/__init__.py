"""Pre-training: Apple's optimizer and its schedule."""

from .optimizer import afm_optimizer, mup_scales, tiny_optimizer, warmup_cosine

__all__ = ["afm_optimizer", "mup_scales", "tiny_optimizer", "warmup_cosine"]

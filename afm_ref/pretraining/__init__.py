"""Pre-training: Apple's optimizer and its schedule, the three stages, pruning and
distillation, what a run costs.

optimizer = afm_optimizer(0.01, warmup_cosine(5000, 375_509), update_scale=mup_scales(cfg))
result = stages.run(params, cfg, stages.tiny_stages(mixtures), rows)                # core, continued, lengthening
learnt = pruning.learn_masks(masked, cfg, ...)
student, student_cfg = pruning.slice_ffn(learnt.params, cfg, k)
loss = partial(distillation.mixed_target, cfg=student_cfg)      # nine tenths of the target are the teacher's
"""

from .mup import mup_scales
from .optimizer import afm_optimizer, tiny_optimizer, warmup_cosine

__all__ = ["afm_optimizer", "mup_scales", "tiny_optimizer", "warmup_cosine"]

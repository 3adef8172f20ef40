"""The exercises of all chapters: what is asked, and how an answer is judged.

A chapter registers its exercises in a module of its own here. A checker compares the
student's function with values that are computed in that module in another way than the
solution does, never with the student's own numbers.
"""

from . import (  # noqa: F401 - each registers its exercises
    at_scale,
    data,
    distillation,
    lora,
    optimizer,
    parallelism,
    post_training,
    quantization,
    rlhf,
    stages,
    start_here,
    transformer,
    whole_road,
)
from .registry import EXERCISES, Exercise, Verdict, attempt, grade

__all__ = ["EXERCISES", "Exercise", "Verdict", "attempt", "grade"]

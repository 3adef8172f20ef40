"""What makes no sense is not drawn: the figures of all chapters say why."""

from pkgutil import resolve_name

import numpy as np
import pytest

from afm_ref.config import AFM_TINY
from afm_ref.curation.report import Report
from afm_ref.parallelism.simulator import ring_collectives
from afm_ref.quantization import weight_counts

COSTS = {key: {2: 0.01, 4: 0.001} for key in weight_counts(AFM_TINY)}
CURVE = {"steps": [0, 10, 20], "accuracy": [0.1, 0.2, 0.3]}
BASE = {"0_base": (0.4, 0.35, 0.47)}
BY_JUDGE = {"one": BASE | {"1_sft": (0.6, 0.5, 0.65)}, "other": BASE}
TRACE = ring_collectives.all_reduce([np.zeros(3)] * 3)


def test_what_makes_no_sense_is_refused():
    for draw, given, told in (
        ("data.funnel", (Report(),), "no steps"),
        ("data.s_curve", (17, 8), "do not fit into 128"),
        (
            "distillation.accuracies",
            ({"new": [CURVE, CURVE | {"steps": [0, 9, 20]}]}, 0.3),
            "new: seeds were measured at",
        ),
        ("distillation.paired", ({"a": [0.1]},), "at least 2"),
        ("stages.batch_of_mixture", (0.5, (0.0,), {"code": [[2.0, 1.0]]}), "list of 1 numbers"),
        ("parallelism_drawing.ring_step", (None, TRACE, 5), "step 5 is not between 0 and 4"),
        ("parallelism.mesh_figure", (64, 1, 1, 1, 1, 8), "cannot be cut"),
        ("at_scale.landscape", ("v5p", 64, 128, 512, 1), "fsdp 512 x model 1 does not divide 64 chips"),
        ("at_scale.landscape", ("v5p", 512, 64, 1, 1), "batch of 64 sequences cannot be cut"),
        ("lora.cut_to_rank", (np.eye(4), 5), r"rank must be 0..4"),
        ("lora.low_rank_sum", (4, 9, 5), r"rank must be 1..4"),
        ("lora.adapters_over_base", (["a", "b"], 2), r"active must be 0..1"),
        ("quantization.talaria", (COSTS, AFM_TINY, 2.0, {("wq", 0): 4}), r"average of 2\.0 bits is impossible"),
        ("post_training.verdicts", (0.0,), "noise must be above 0"),
        ("post_training.verdicts", (0.1, 0.0, 0.0, 1.5), "noise must be above 0"),
        ("rlhf.surrogates", (0.0, 0.2), "gamma must be above 0"),
        ("rlhf.surrogates", (1.0, -1.0), "epsilon must be above 0"),
        ("rlhf.course_of_run", ([],), "no evaluation has samples and"),
        ("rlhf.course_of_run", ([{"step": 0}],), "no evaluation has samples and"),
        ("rlhf.course_of_run", ([{"samples": 1, "reward": 1.0}],), "no evaluation has samples and"),
        ("rlhf.mirror_descent", (0.0, 0.4), "beta"),
        ("rlhf.mirror_descent", (0.2, 0.4, 1), "n"),
        ("whole_road.utility_by_step", (BY_JUDGE,), "the same steps for each judge"),
    ):
        with pytest.raises(ValueError, match=told):
            resolve_name(f"afm_ref.teaching.chapters.{draw}")(*given)

"""RLOO and GRPO against TRL's numbers for the same weights and responses (made by `python -m tests.golden.make`)."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from afm_ref.interop import hugging_face
from afm_ref.post_training.rows import Padded
from afm_ref.rlhf import Experience, advantages
from afm_ref.rlhf.mdloo import grpo_loss, rloo_loss
from tests.rlhf.golden import BETA, EPSILON

GOLDEN = Path(__file__).parents[1] / "golden"


def test_losses_equal_trl():
    """In float64, through two layers; some ratios are clipped and some are not."""
    params, cfg = hugging_face.load(GOLDEN / "qwen3", dtype="float64")
    golden = load_file(GOLDEN / "trl_rl" / "expected.safetensors")
    rows, old, reference = Padded(*(golden[name] for name in Padded._fields)), golden["old"], golden["reference"]
    rewards = golden["rewards"]
    R = advantages.penalised_reward(rewards.reshape(-1), old.sum(-1), reference.sum(-1), BETA)
    A = advantages.leave_one_out(R.reshape(rewards.shape)).reshape(-1)
    np.testing.assert_allclose(A, golden["advantages"], rtol=1e-9)
    batch = Experience(rows, old, reference, A)
    for loss, options, name in ((rloo_loss, (EPSILON,), "rloo"), (grpo_loss, (EPSILON, BETA), "grpo")):
        total, count = loss(params, batch, cfg, *options)
        assert total / count == pytest.approx(golden[name].item(), rel=1e-9)
    unclipped, count = rloo_loss(params, batch, cfg, 1e9)
    assert unclipped / count != pytest.approx(golden["rloo"].item(), rel=1e-2)

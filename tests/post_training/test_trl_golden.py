"""Our losses against TRL's for the same weights and pairs (made by `python -m tests.golden.make`)."""

from pathlib import Path

import pytest
from safetensors.numpy import load_file

from afm_ref.interop import hugging_face
from afm_ref.post_training.losses import preference_loss
from afm_ref.post_training.reward_model import init_reward_model, reward_loss
from afm_ref.post_training.rows import Padded
from tests.post_training.models import float64, two_sided

GOLDEN = Path(__file__).parents[1] / "golden"


def test_losses_equal_trl():
    """In float64, through two layers. TRL's "ipo" is our "ipo_mean": the paper's sum form is another number."""
    params, cfg = hugging_face.load(GOLDEN / "qwen3", dtype="float64")
    golden = load_file(GOLDEN / "trl" / "expected.safetensors")
    rows = (golden[name].reshape(-1, *golden[name].shape[2:]) for name in Padded._fields)  # [2, B, ..] -> [2 B, ..]
    pairs = two_sided([*rows], *(golden[name] for name in ("labels", "grades", "reference")))
    for kind in ("dpo", "ipo_mean"):
        for beta, want in zip((0.05, 0.5), golden[kind], strict=True):
            total, count = preference_loss(params, pairs, cfg, kind, beta)
            assert total / count == pytest.approx(want, rel=1e-9)
    assert preference_loss(params, pairs, cfg, "ipo", 0.5)[0] / 5 != pytest.approx(golden["ipo_mean"][1], rel=0.1)
    model = float64(init_reward_model(params, cfg))._replace(preference=golden["head"])
    for b, want in enumerate(golden["reward"]):
        hard, _ = reward_loss(model, pairs.take([b]), cfg, soft=False, grading_weight=0)
        assert hard == pytest.approx(want, rel=1e-9)

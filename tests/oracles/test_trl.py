"""Losses on pairs and the reward model against TRL's trainers, on transformers' Qwen3 in float64."""

import numpy as np
import pytest

from afm_ref.interop import hugging_face
from afm_ref.post_training import reward_model
from afm_ref.post_training.losses import preference_loss
from afm_ref.post_training.rows import sequence_log_probs
from tests.interop.models import QWEN3, random_params
from tests.oracles import peers, trl_peer
from tests.post_training.models import float64, random_pairs


def both(tmp_path, seed):
    """Return (transformers' random Qwen3 in float64, our params)."""
    hugging_face.save(tmp_path, random_params(QWEN3, seed), QWEN3)
    return peers.read(tmp_path).double().eval(), float64(hugging_face.load(tmp_path)[0])


@pytest.mark.parametrize("beta", [0.03, 0.4])
@pytest.mark.parametrize("kind", trl_peer.DPO_KINDS)
def test_dpo_and_ipo(trl, tmp_path, kind, beta):
    """The reference is another model, so log-probabilities, masks and lengths are compared along with the loss."""
    pairs = random_pairs(5, cfg=QWEN3)
    with peers.exact_torch():
        (model, params), (reference, reference_params) = both(tmp_path / "a", 0), both(tmp_path / "b", 1)
        theirs = trl_peer.dpo_loss(kind, beta, model, pairs.rows, reference)
        fixed = trl_peer.dpo_loss(kind, beta, model, pairs.rows, pairs.reference.reshape(2, -1))
    log_probs = sequence_log_probs(reference_params, pairs.rows, QWEN3)
    for own, want in ((log_probs, theirs), (pairs.reference, fixed)):
        total, count = preference_loss(params, pairs._replace(reference=own), QWEN3, kind, beta)
        assert total / count == pytest.approx(want, rel=1e-9)  # float64 through two layers


def test_reward_model(trl, tmp_path):
    """Their classifier finds the last token that is not padding by itself. A soft label is a mix of both orders."""
    pairs = random_pairs(5, cfg=QWEN3)
    head = np.random.default_rng(3).standard_normal(QWEN3.d_model)
    swapped = pairs._replace(places=pairs.places[::-1])
    with peers.exact_torch():
        model, params = both(tmp_path, 0)
        classifier = trl_peer.classifier(model, head)
        each = [[trl_peer.reward_loss(classifier, p.take([b]).rows) for b in range(5)] for p in (pairs, swapped)]
        whole = trl_peer.reward_loss(classifier, pairs.rows)
    ours = float64(reward_model.init_reward_model(params, QWEN3))._replace(preference=head)
    hard, count = reward_model.reward_loss(ours, pairs, QWEN3, soft=False, grading_weight=0)
    assert hard / count == pytest.approx(whole, rel=1e-9)
    soft, _ = reward_model.reward_loss(ours, pairs, QWEN3, grading_weight=0)
    assert soft == pytest.approx(pairs.labels @ each[0] + (1 - pairs.labels) @ each[1], rel=1e-9)

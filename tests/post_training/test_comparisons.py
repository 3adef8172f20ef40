"""Comparisons of a prompt in shared rows: the same loss as the pairs one by one, for fewer rows."""

import numpy as np
import pytest

from afm_ref.post_training import pairs, preferences
from afm_ref.post_training.comparisons import comparison_batches
from afm_ref.post_training.responses import written
from afm_ref.post_training.reward_model import init_reward_model, reward_loss
from afm_ref.transformer import init
from tests.post_training.models import TEXT_CFG, tokenizer

TOK = tokenizer()
TEXTS = ("7", "8 or 9", "", "nine nine nine", "no")
# prompt i: of the first i + 2 texts, every one against the next
FOUND = [
    preferences.Preference(f"{9 * 'and ' * i}{i} + 4 =", written(TOK, TEXTS[k]), written(TOK, TEXTS[k + 1]),
                           (i + k) % 4, (2, 1, 0, k % 3), (0, 0, 1, 2), 0.5)
    for i in range(4) for k in range(i + 1)
]  # fmt: skip


@pytest.mark.parametrize("soft", [True, False])
def test_loss_is_that_of_the_pairs(soft):
    """The pairs by themselves are compared with hand-made numbers in test_reward_model."""
    rng = np.random.default_rng(0)
    model = init_reward_model(init(TEXT_CFG, 0), TEXT_CFG)
    model = model._replace(
        preference=rng.standard_normal(TEXT_CFG.d_model), w_out=rng.standard_normal(model.w_out.shape)
    )
    batch = comparison_batches(FOUND, TOK, batch_size=4)(0)
    assert len(batch.labels) == 4 * 4 and batch.weights.sum() == len(FOUND) == 10  # each prompt has room for four pairs
    assert len(np.unique(batch.rows.tokens, axis=0)) == 2 + 3 + 4 + 5 < 2 * len(FOUND)
    found = reward_loss(model, batch, TEXT_CFG, soft, 0.3)
    want = reward_loss(model, pairs.pairs_of(FOUND, TOK), TEXT_CFG, soft, 0.3)
    assert found[1] == want[1] and found[0] == pytest.approx(want[0], rel=1e-5)  # float32


def test_an_epoch_has_every_prompt_once():
    feed = comparison_batches(FOUND, TOK, batch_size=2, seed=3)
    for epoch in (0, 1):
        batches = [feed(2 * epoch), feed(2 * epoch + 1)]
        labels = np.concatenate([b.labels[b.weights > 0] for b in batches])
        assert sorted(labels.tolist()) == sorted(np.float32(preferences.SOFT_LABELS[p.level]) for p in FOUND)
        lengths = sorted(b.rows.lengths.max() for b in batches)
        T = sorted(b.rows.tokens.shape[1] for b in batches)
        assert [t - 16 < n <= t for n, t in zip(lengths, T)] == [True, True] and T[0] < T[1]  # short ones together
    assert (feed(1).rows.tokens == comparison_batches(FOUND, TOK, 2, seed=3)(1).rows.tokens).all()
    with pytest.raises(ValueError, match=r"4 prompts .* batch of 5"):
        comparison_batches(FOUND, TOK, batch_size=5)

"""Greedy tokens against transformers' own generate."""

import numpy as np
import pytest

from afm_ref.generation import generate
from afm_ref.interop import hugging_face
from tests.oracles import peers

FIELDS = dict(
    hidden_size=24, intermediate_size=40, num_hidden_layers=3, vocab_size=61, num_attention_heads=6,
    num_key_value_heads=2, head_dim=10, rms_norm_eps=1e-6, tie_word_embeddings=False,
    rope_parameters={"rope_type": "default", "rope_theta": 5e5},
    bos_token_id=None, eos_token_id=None, pad_token_id=0,
)  # fmt: skip
NEW = 24


def their_greedy(model, prompts):
    """Return (tokens [B, NEW], the smallest lead of a winner over the runner-up) from transformers' generate."""
    import torch

    T = max(map(len, prompts))
    ids = torch.tensor([[0] * (T - len(p)) + p for p in prompts])  # padded on the left, as it wants
    mask = torch.tensor([[0] * (T - len(p)) + [1] * len(p) for p in prompts])
    with torch.no_grad():
        out = model.generate(
            ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False,
            return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip
    top = torch.stack(out.logits).topk(2, dim=-1).values
    return out.sequences[:, T:].numpy(), float((top[..., 0] - top[..., 1]).min())


@pytest.mark.parametrize("kind, seed", [("qwen3", 0), ("llama", 0)])
def test_greedy_equals_transformers(transformers, tmp_path, kind, seed):
    fields = FIELDS
    model = peers.random_model(kind, seed=seed, **fields)
    model.save_pretrained(tmp_path)
    params, cfg = hugging_face.load(tmp_path)
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(1, cfg.vocab_size, n).tolist() for n in (9, 3, 17)]
    theirs, lead = their_greedy(model, prompts)
    assert lead > 1e-3, "choose another seed: two float32 programs may not agree on the winner"
    assert len({tuple(row) for row in theirs}) == 3 and len(set(theirs.ravel())) > 10
    np.testing.assert_array_equal(np.stack(generate(params, cfg, prompts, NEW)), theirs)
    alone, _ = their_greedy(model, prompts[:1])
    np.testing.assert_array_equal(np.stack(generate(params, cfg, prompts[:1], NEW)), alone)

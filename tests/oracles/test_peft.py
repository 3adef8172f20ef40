"""Adapters against PEFT: what its save_pretrained writes we read to equal logits, what we save it reads."""

import warnings

import numpy as np
import pytest

from afm_ref import lora
from afm_ref.interop import hugging_face
from afm_ref.interop import peft as ours
from afm_ref.lora.adapter import adapters
from afm_ref.transformer import forward
from tests.interop.models import LLAMA, QWEN3, assert_close, float32_unit, logits_float64, random_params, random_tokens
from tests.lora.models import float64, random_adapter
from tests.oracles import peers

THEIRS = ".is_gradient_checkpointing. is deprecated"  # by transformers, of PEFT
pytestmark = pytest.mark.filterwarnings(f"ignore:{THEIRS}:FutureWarning")
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def adapted(peft, folder, cfg, **settings):
    """Return (PEFT's model with random A and B, in float64, our base params) on one base; both saved in folder."""
    params = random_params(cfg)
    hugging_face.save(folder / "base", params, cfg)
    model = peers.read(folder / "base")
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **settings))
    peers.randomise(model, "lora_", seed=3)
    model.save_pretrained(folder / "adapter")
    return model.double().eval(), params


CASES = [
    dict(r=4, lora_alpha=6, target_modules=ALL),
    dict(r=5, lora_alpha=3, target_modules=ALL, use_rslora=True),
    dict(r=1, lora_alpha=2, target_modules=["q_proj", "down_proj"]),
    dict(r=3, lora_alpha=3, target_modules=["v_proj"], layers_to_transform=[1]),
    dict(r=2, lora_alpha=8, target_modules="all-linear", lora_dropout=0.5, init_lora_weights="gaussian"),
]


@pytest.mark.parametrize("settings", CASES, ids=lambda s: f"r{s['r']}")
@pytest.mark.parametrize("cfg", [QWEN3, LLAMA], ids=["qwen3", "llama"])
def test_logits_equal_peft(peft, tmp_path, cfg, settings):
    with peers.exact_torch():
        model, base = adapted(peft, tmp_path, cfg, **settings)
        tokens = random_tokens(cfg)
        theirs = peers.torch_logits(model, tokens)
    params = ours.load(tmp_path / "adapter", base)
    unit = float32_unit(base, tokens, cfg)
    assert_close(forward(float64(params), tokens, cfg), theirs, unit, "float64")
    merged = lora.merge(float64(params))
    assert_close(forward(merged, tokens, cfg), theirs, unit, "float64")
    assert np.abs(logits_float64(base, tokens, cfg) - theirs).max() > 1e-2  # the adapter does something


@pytest.mark.parametrize("layers, targets", [(None, lora.TARGETS), ([1], ("wq", "w_up")), ([0, 1], ("wo",))])
@pytest.mark.parametrize("rank, alpha", [(4, 6), (3, 5 * 3**0.5)])
def test_peft_reads_what_we_save(peft, tmp_path, layers, targets, rank, alpha):
    base, tokens = random_params(QWEN3), random_tokens(QWEN3)
    params = random_adapter(base, targets=targets, rank=rank, alpha=alpha, layers=layers)
    hugging_face.save(tmp_path / "base", base, QWEN3)
    ours.save(tmp_path / "adapter", params)
    with peers.exact_torch(), warnings.catch_warnings():
        warnings.simplefilter("error")  # PEFT warns of keys it misses
        warnings.filterwarnings("ignore", THEIRS, FutureWarning)
        model = peft.PeftModel.from_pretrained(peers.read(tmp_path / "base"), tmp_path / "adapter")
        theirs = peers.torch_logits(model.double().eval(), tokens)
    count = sum("lora_" in name for name, _ in model.named_parameters())
    assert count == 2 * len(adapters(params))
    assert_close(forward(float64(params), tokens, QWEN3), theirs, float32_unit(base, tokens, QWEN3), "float64")


REFUSED = dict(use_dora=True, lora_bias=True, bias="lora_only", init_lora_weights="pissa", trainable_token_indices=[1])
REFUSED |= dict(rank_pattern={"q_proj": 2}, alpha_pattern={"q_proj": 2}, modules_to_save=["lm_head"])


@pytest.mark.parametrize("field", REFUSED)
def test_what_changes_the_maths_is_refused_by_name(peft, tmp_path, field):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, base = adapted(peft, tmp_path, QWEN3, r=4, target_modules=["q_proj"], **{field: REFUSED[field]})
    with pytest.raises(ValueError, match=field):
        ours.load(tmp_path / "adapter", base)

"""config.json: what is read, which defaults hold, and what is refused by name."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref.config import AFM_ON_DEVICE, AFM_TINY, AFMConfig
from afm_ref.interop import config_json
from tests.interop.files import config_fields
from tests.interop.models import LLAMA, QWEN3

# The fields of a published file (Qwen3-0.6B's), in the form of transformers 4.
QWEN3_SMALLEST = {
    "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 151643,
    "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024, "initializer_range": 0.02,
    "intermediate_size": 3072, "max_position_embeddings": 40960, "max_window_layers": 28, "model_type": "qwen3",
    "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-06,
    "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": True,
    "torch_dtype": "bfloat16", "transformers_version": "4.51.0", "use_cache": True, "use_sliding_window": False,
    "vocab_size": 151936,
}  # fmt: skip


def test_a_published_qwen3_config():
    assert config_json.from_fields(QWEN3_SMALLEST) == AFMConfig(
        d_model=1024, n_layers=28, n_heads=16, n_kv_heads=8, head_dim=128, d_ff=3072, vocab_size=151936,
        rope_theta=1e6, norm_eps=1e-6, qk_norm="before_rope", rope_layout="half_split", tie_embeddings=True,
    )  # fmt: skip


# The fields of a published file (SmolLM2-135M-Instruct's), with keys of two exporters.
SMOLLM2 = {
    "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 1,
    "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 576, "initializer_range": 0.041666666666666664,
    "intermediate_size": 1536, "is_llama_config": True, "max_position_embeddings": 8192, "mlp_bias": False,
    "model_type": "llama", "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3,
    "pad_token_id": 2, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_interleaved": False, "rope_scaling": None,
    "rope_theta": 100000, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    "transformers.js_config": {"dtype": "q4", "kv_cache_dtype": {"q4f16": "float16", "fp16": "float16"}},
    "transformers_version": "4.42.3", "use_cache": True, "vocab_size": 49152,
}  # fmt: skip


def test_a_published_llama_config():
    assert config_json.from_fields(SMOLLM2) == AFMConfig(
        d_model=576, n_layers=30, n_heads=9, n_kv_heads=3, head_dim=64, d_ff=1536, vocab_size=49152,
        rope_theta=1e5, norm_eps=1e-5, qk_norm=None, rope_layout="half_split", tie_embeddings=True,
    )  # fmt: skip


# (a value that says what AFMConfig is anyway, a value that says something else)
SAYS = {
    "activation": ("swiglu", "gelu"),
    "add_cross_attention": (False, True),
    "alibi": (False, True),
    "embedding_multiplier": (1.0, 12.0),
    "hidden_activation": ("silu", "gelu"),
    "logits_scaling": (1.0, 8.0),
    "mlp_only_layers": ([], [0]),
    "qkv_bias": (False, True),
    "residual_multiplier": (1.0, 0.22),
    "rotary_pct": (1.0, 0.25),
    "use_bias": (False, True),
    "is_causal": (True, False),
    "is_encoder_decoder": (False, True),
    "is_llama_config": (True, False),
    "partial_rotary_factor": (1.0, 0.25),
    "per_layer_config": ({}, {"0": {"hidden_act": "gelu"}}),
    "qk_layer_norms": (False, True),
    "rope_interleaved": (False, True),
    "rope_scaling": ({"type": "linear", "factor": 1.0}, {"type": "linear", "factor": 2.0}),
    "use_bidirectional_attention": (False, True),
    "use_sliding_window": (False, True),
}


@pytest.mark.parametrize("kind", [LLAMA, QWEN3], ids=["llama", "qwen3"])
@pytest.mark.parametrize("key", sorted(SAYS))
def test_the_value_of_a_key_decides_and_not_its_name(kind, key):
    neutral, other = SAYS[key]
    assert config_json.from_fields(config_fields(kind) | {key: neutral}) == kind
    with pytest.raises(ValueError, match=key):
        config_json.from_fields(config_fields(kind) | {key: other})


def test_layer_types_are_a_list():
    with pytest.raises(ValueError, match="layer_types must be a list, got 5"):
        config_json.from_fields(config_fields(QWEN3) | {"layer_types": 5})


SAYS_NOTHING = {
    "_flash_attn_2_enabled": True, "max_sequence_length": 2048, "model_max_length": 2048, "is_decoder": True,
    "chunk_size_feed_forward": 4, "tf_legacy_loss": True, "tie_encoder_decoder": True, "gradient_checkpointing": True,
    "unsloth_fixed": True, "unsloth_version": "2025.1", "neftune_noise_alpha": 5.0, "_attn_implementation": "sdpa",
    "base_model_tp_plan": {"layers.*.mlp.up_proj": "colwise"}, "sep_token_id": 3, "repetition_penalty": 1.5,
    "no_repeat_ngram_size": 3, "suppress_tokens": [4], "begin_suppress_tokens": [5], "bad_words_ids": [[6]],
    "attn_pdrop": 0.1, "embd_pdrop": 0.1, "hidden_dropout": 0.1, "resid_pdrop": 0.1, "unk_token_id": 3,
    "forced_eos_token_id": 2, "min_length": 5, "num_beams": 4, "typical_p": 0.9, "prefix": "x", "output_scores": True,
}  # fmt: skip


@pytest.mark.parametrize("key", sorted(SAYS_NOTHING))
def test_keys_that_leave_the_logits_alone_are_passed_over(key):
    assert config_json.from_fields(config_fields(LLAMA) | {key: SAYS_NOTHING[key]}) == LLAMA


@pytest.mark.parametrize("kind", [LLAMA, QWEN3], ids=["llama", "qwen3"])
def test_a_key_that_is_null_is_not_set(kind):
    unset = ("num_experts", "auto_map", "final_logit_softcapping", "a_key_of_tomorrow", "quantization_config",
             "rope_scaling", "rope_interleaved", "layer_types", "sliding_window", "head_dim_v")  # fmt: skip
    assert config_json.from_fields(config_fields(kind) | dict.fromkeys(unset)) == kind
    rope = {"rope_theta": kind.rope_theta, "rope_type": "default", "factor": None, "beta_fast": None}
    assert config_json.from_fields(config_fields(kind) | {"rope_parameters": rope}) == kind


@pytest.mark.parametrize("kind", [LLAMA, QWEN3], ids=["llama", "qwen3"])
def test_key_heads_that_are_null_are_as_many_as_query_heads(kind):
    cfg = config_json.from_fields(config_fields(kind) | {"num_key_value_heads": None})
    assert cfg == dataclasses.replace(kind, n_kv_heads=kind.n_heads)


def test_defaults_of_missing_keys_are_those_of_transformers():
    optional = ("head_dim", "num_key_value_heads", "rms_norm_eps", "rope_theta", "tie_word_embeddings")
    fields = {k: v for k, v in config_fields(LLAMA).items() if k not in optional}
    cfg = config_json.from_fields(fields)
    assert (cfg.head_dim, cfg.n_kv_heads) == (LLAMA.d_model // LLAMA.n_heads, LLAMA.n_heads)
    assert (cfg.norm_eps, cfg.rope_theta, cfg.tie_embeddings) == (1e-6, 1e4, False)
    del fields["model_type"]
    assert config_json.from_fields(fields | {"model_type": "qwen3", "num_key_value_heads": 2}).head_dim == 128


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_theta": 123.0},
        {"rope_theta": 123, "rope_scaling": None},
        {"rope_theta": 123, "rope_scaling": {"type": "default"}},
        {"rope_parameters": {"rope_theta": 123.0, "rope_type": "default"}},
        {"rope_parameters": {"rope_theta": 123.0}, "rope_theta": 123.0},
        {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 1.0}, "rope_theta": 123.0},
    ],
)
def test_old_and_new_names_of_the_rope_base(rope):
    fields = config_fields(QWEN3)
    del fields["rope_theta"]
    assert config_json.from_fields(fields | rope).rope_theta == 123.0


REFUSED = {
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0},
    "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0},
    "partial_rotary_factor": 0.5,
    "use_sliding_window": True,
    "sliding_window": 4096,  # for Llama, which has no switch for it
    "layer_types": ["full_attention", "sliding_attention"],
    "attention_bias": True,
    "mlp_bias": True,
    "hidden_act": "gelu",
    "model_type": "mixtral",
    "quantization_config": {"quant_method": "gptq", "bits": 4},
    "quantization": {"group_size": 64, "bits": 4},
    "num_experts": 64,
    "num_local_experts": 8,
    "final_logit_softcapping": 30.0,
    "attention_multiplier": 0.5,
    "pruned_heads": {"0": [1]},
    "auto_map": {"AutoModelForCausalLM": "modeling.MyModel"},
}


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_what_cannot_be_expressed_is_refused_by_name(key):
    with pytest.raises(ValueError, match=key):
        config_json.from_fields(config_fields(LLAMA) | {key: REFUSED[key]})


@pytest.mark.parametrize("rope", [{"rope_type": "linear", "factor": 2.0}, {"type": "dynamic"}, {"factor": 2.0}, 3])
@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_every_scaled_rope_is_refused(key, rope):
    with pytest.raises(ValueError, match=key):
        config_json.from_fields(config_fields(QWEN3) | {key: rope})


def test_a_part_of_rope_is_refused():
    rope = {"rope_parameters": {"rope_theta": QWEN3.rope_theta, "partial_rotary_factor": 0.25}}
    with pytest.raises(ValueError, match="partial_rotary_factor"):
        config_json.from_fields(config_fields(QWEN3) | rope)


def test_two_different_rope_bases_are_refused():
    with pytest.raises(ValueError, match="given twice"):
        config_json.from_fields(config_fields(QWEN3) | {"rope_parameters": {"rope_theta": 7.0}})


def test_rope_scaling_without_a_base_has_the_usual_one():
    """transformers takes it in place of rope_parameters, whose base is then unheard."""
    fields = config_fields(LLAMA) | {"rope_theta": None, "rope_scaling": {"type": "linear", "factor": 1.0}}
    assert config_json.from_fields(fields).rope_theta == 1e4
    assert config_json.from_fields(fields | {"rope_parameters": {"rope_theta": 1e4}}).rope_theta == 1e4
    with pytest.raises(ValueError, match="given twice"):
        config_json.from_fields(fields | {"rope_parameters": {"rope_theta": 5e5}})


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"])
@pytest.mark.parametrize("value", [None, 0, -1, 2.0, "12", True, [3]])
def test_a_dimension_must_be_a_positive_integer(key, value):
    with pytest.raises(ValueError, match=key):
        config_json.from_fields(config_fields(QWEN3) | {key: value})


def test_head_dim_that_does_not_follow_from_the_width_must_be_given():
    fields = config_fields(dataclasses.replace(LLAMA, d_model=13)) | {"head_dim": None}
    with pytest.raises(ValueError, match="head_dim"):
        config_json.from_fields(fields)


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("", "not readable JSON"),
        ('{"model_type": "qwen3", ', "not readable JSON"),
        ("[1, 2]", "must hold a JSON object"),
        ('{"model_type": "qwen3", "model_type": "llama"}', "keys given twice"),
        ("[" * 100_000, "not readable JSON"),
        ('{"hidden_size": 1}', "model_type"),
        ('{"model_type": ["qwen3"]}', "model_type"),
        ('{"model_type": "afm_ref", "d_model": 3}', "missing AFMConfig fields"),
    ],
)
def test_a_broken_file_is_named(tmp_path, text, complaint):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=complaint) as caught:
        config_json.read(path)
    assert str(path) in str(caught.value)


def test_our_own_format_refuses_unknown_fields_and_absurd_depth(tmp_path):
    path, fields = tmp_path / "config.json", {"model_type": "afm_ref"} | AFM_TINY.to_dict()
    path.write_text(json.dumps(fields | {"n_experts": 4}))
    with pytest.raises(ValueError, match="n_experts"):
        config_json.read(path)
    path.write_text(json.dumps(fields | {"n_layers": 10**9}))
    with pytest.raises(ValueError, match="layers"):
        config_json.read(path)


CONFIGS = st.builds(
    lambda K, G, **more: AFMConfig(n_heads=K * G, n_kv_heads=K, **more),
    K=st.integers(1, 4),
    G=st.integers(1, 4),
    d_model=st.integers(1, 64),
    n_layers=st.integers(1, 40),
    head_dim=st.integers(1, 32).map(lambda half: 2 * half),
    d_ff=st.integers(1, 64),
    vocab_size=st.integers(1, 10**6),
    rope_theta=st.floats(1.01, 1e8),
    norm_eps=st.floats(1e-12, 1e-2),
    qk_norm=st.sampled_from(["after_rope", "before_rope", None]),
    rope_layout=st.sampled_from(["interleaved", "half_split"]),
    tie_embeddings=st.booleans(),
)


@settings(max_examples=50)
@given(cfg=CONFIGS)
def test_every_config_survives_the_file(cfg):
    fields = json.loads(json.dumps(config_json.to_fields(cfg, "float32", {"bos_token_id": None})))
    assert config_json.from_fields(fields) == cfg
    assert fields["model_type"] == "afm_ref" or cfg.rope_layout == "half_split"


def test_formats_are_chosen_by_what_they_can_say():
    assert config_json.model_type(AFM_ON_DEVICE) == config_json.model_type(AFM_TINY) == "afm_ref"
    assert config_json.model_type(QWEN3) == "qwen3"
    assert config_json.model_type(LLAMA) == "llama"
    assert config_json.model_type(dataclasses.replace(LLAMA, d_model=13)) == "afm_ref"  # transformers refuses it


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "config.json"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


ANY_KEY = st.sampled_from(sorted(config_json.READ | set(config_json.NEUTRAL) | {"layer_types", "model_type"}))


def gives_a_config_or_a_value_error(path, key, value):
    path.write_text(json.dumps(config_fields(QWEN3) | {key: value}))
    try:
        cfg, complaint = config_json.read(path), None
    except ValueError as error:
        cfg, complaint = None, str(error)
    assert isinstance(cfg, AFMConfig) or str(path) in complaint


@settings(max_examples=50)
@given(key=ANY_KEY, value=JSON)
def test_any_value_anywhere_gives_a_config_or_a_value_error(fuzzed, key, value):
    gives_a_config_or_a_value_error(fuzzed, key, value)


@pytest.mark.slow  # the same, more often
@settings(max_examples=300)
@given(key=ANY_KEY, value=JSON)
def test_many_values_anywhere_give_a_config_or_a_value_error(fuzzed, key, value):
    gives_a_config_or_a_value_error(fuzzed, key, value)

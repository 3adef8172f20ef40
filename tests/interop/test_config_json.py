"""config.json and generation_config.json: what is read, which defaults hold, and what is refused by name."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref.config import AFM_ON_DEVICE, AFM_TINY, AFMConfig
from afm_ref.generation import LogitRules
from afm_ref.interop import config_json
from afm_ref.interop.generation_config import Decoding, read
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


def test_a_published_config():
    assert config_json.from_fields(QWEN3_SMALLEST) == AFMConfig(
        d_model=1024, n_layers=28, n_heads=16, n_kv_heads=8, head_dim=128, d_ff=3072, vocab_size=151936,
        rope_theta=1e6, norm_eps=1e-6, qk_norm="before_rope", rope_layout="half_split", tie_embeddings=True,
    )  # fmt: skip


# (a value that says what AFMConfig is anyway, a value that says something else)
SAYS = dict.fromkeys(["embedding_multiplier", "logits_scaling", "partial_rotary_factor", "rotary_pct"], (1.0, 0.25))
SAYS |= dict.fromkeys(["add_cross_attention", "alibi", "attention_bias", "is_encoder_decoder", "mlp_bias", "qkv_bias",
                       "qk_layer_norms", "rope_interleaved", "use_bias", "use_bidirectional_attention",
                       "use_sliding_window"], (False, True))  # fmt: skip
SAYS |= dict(activation=("swiglu", "gelu"), hidden_activation=("silu", "gelu"), residual_multiplier=(1.0, 0.22))
SAYS |= dict(is_causal=(True, False), is_llama_config=(True, False), mlp_only_layers=([], [0]))
SAYS |= dict(per_layer_config=({}, {"0": {"hidden_act": "gelu"}}), pruned_heads=({}, {"0": [1]}))
SAYS |= dict(rope_scaling=({"type": "linear", "factor": 1.0}, {"type": "linear", "factor": 2.0}))


def changed(cfg, **fields):
    """Return what is read of the fields of a config with others."""
    return config_json.from_fields(config_fields(cfg) | fields)


@pytest.mark.parametrize("key", sorted(SAYS))
def test_the_value_of_a_key_decides_and_not_its_name(key):
    neutral, other = SAYS[key]
    for kind in (LLAMA, QWEN3):
        assert changed(kind, **{key: neutral}) == kind
        with pytest.raises(ValueError, match=key):
            changed(kind, **{key: other})


SAYS_NOTHING = {
    "_flash_attn_2_enabled": True, "max_sequence_length": 2048, "model_max_length": 2048, "is_decoder": True,
    "chunk_size_feed_forward": 4, "tf_legacy_loss": True, "tie_encoder_decoder": True, "gradient_checkpointing": True,
    "unsloth_fixed": True, "unsloth_version": "2025.1", "neftune_noise_alpha": 5.0, "_attn_implementation": "sdpa",
    "base_model_tp_plan": {"layers.*.mlp.up_proj": "colwise"}, "sep_token_id": 3, "repetition_penalty": 1.5,
    "no_repeat_ngram_size": 3, "suppress_tokens": [4], "begin_suppress_tokens": [5], "bad_words_ids": [[6]],
    "attn_pdrop": 0.1, "embd_pdrop": 0.1, "hidden_dropout": 0.1, "resid_pdrop": 0.1, "unk_token_id": 3,
    "forced_eos_token_id": 2, "min_length": 5, "num_beams": 4, "typical_p": 0.9, "prefix": "x", "output_scores": True,
    "pad_token_id": 2, "pretraining_tp": 1, "transformers.js_config": {"dtype": "q4"},
}  # fmt: skip


@pytest.mark.parametrize("kind", [LLAMA, QWEN3], ids=["llama", "qwen3"])
def test_what_leaves_the_logits_alone_and_what_is_null_is_passed_over(kind):
    assert changed(kind, **SAYS_NOTHING) == kind
    unset = ("num_experts", "auto_map", "final_logit_softcapping", "a_key_of_tomorrow", "quantization_config",
             "rope_scaling", "rope_interleaved", "layer_types", "sliding_window", "head_dim_v")  # fmt: skip
    assert changed(kind, **dict.fromkeys(unset)) == kind
    rope = {"rope_theta": kind.rope_theta, "rope_type": "default", "factor": None, "beta_fast": None}
    assert changed(kind, rope_parameters=rope) == kind
    assert changed(kind, num_key_value_heads=None) == dataclasses.replace(kind, n_kv_heads=kind.n_heads)


def test_defaults_of_missing_keys_are_those_of_transformers():
    optional = ("head_dim", "num_key_value_heads", "rms_norm_eps", "rope_theta", "tie_word_embeddings")
    fields = {k: v for k, v in config_fields(LLAMA).items() if k not in optional}
    usual = dict(head_dim=LLAMA.d_model // LLAMA.n_heads, n_kv_heads=LLAMA.n_heads, norm_eps=1e-6, rope_theta=1e4)
    assert config_json.from_fields(fields) == dataclasses.replace(LLAMA, **usual, tie_embeddings=False)
    assert config_json.from_fields(fields | {"model_type": "qwen3", "num_key_value_heads": 2}).head_dim == 128


def test_old_and_new_names_of_the_rope_base():
    for rope in (
        {"rope_theta": 123},
        {"rope_theta": 123.0, "rope_scaling": {"type": "default"}},
        {"rope_parameters": {"rope_theta": 123.0, "rope_type": "default"}, "rope_theta": None},
        {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 1.0}, "rope_theta": 123.0},
    ):
        assert changed(QWEN3, **rope).rope_theta == 123.0


# Llama has no switch for sliding windows.
REFUSED = dict(sliding_window=4096, layer_types=["full_attention", "sliding_attention"], hidden_act="gelu")
REFUSED |= dict(model_type="mixtral", quantization_config={"bits": 4}, quantization={"bits": 4}, num_experts=64)
REFUSED |= dict(attention_multiplier=0.5, auto_map={"AutoModel": "x.Y"}, tie_word_embeddings="yes", rms_norm_eps="1e-6")


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_what_cannot_be_expressed_is_refused_by_name(key):
    with pytest.raises(ValueError, match=key):
        changed(LLAMA, **{key: REFUSED[key]})


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_every_scaled_rope_is_refused(key):
    scaled = [{"rope_type": "linear", "factor": 2.0}, {"type": "dynamic"}, {"factor": 2.0}]
    for rope in (*scaled, {"partial_rotary_factor": 0.25}, {"beta_fast": 1}, 3):
        with pytest.raises(ValueError, match=key):
            changed(QWEN3, **{key: rope})


def test_rope_scaling_without_a_base_has_the_usual_one():
    """transformers takes it in place of rope_parameters, whose base is then unheard."""
    fields = {"rope_theta": None, "rope_scaling": {"type": "linear", "factor": 1.0}}
    assert changed(LLAMA, **fields).rope_theta == 1e4
    assert changed(LLAMA, **fields, rope_parameters={"rope_theta": 1e4}).rope_theta == 1e4
    for other in (fields, {}):
        with pytest.raises(ValueError, match="given twice"):
            changed(LLAMA, **other, rope_parameters={"rope_theta": 7.0})


def test_a_dimension_must_be_a_positive_integer():
    dimensions = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    bad = [({key: value}, key) for key in dimensions for value in (None, 0, -1, 2.0, "12", True, [3])]
    bad += [
        ({"hidden_size": 13, "head_dim": None}, "head_dim is missing"),
        ({"layer_types": 5}, "must be a list, got 5"),
    ]
    for fields, complaint in bad:
        with pytest.raises(ValueError, match=complaint):
            changed(LLAMA, **fields)


def test_a_broken_file_is_named(tmp_path):
    for text, complaint in (
        ("", "not readable JSON"),
        ("\udcff\udcfe{", "UTF-8"),
        ("[1, 2]", "must hold a JSON object"),
        ('{"model_type": "qwen3", "model_type": "llama"}', "keys given twice"),
        ("[" * 100_000, "not readable JSON"),
        ('{"hidden_size": 1}', "model_type"),
        ('{"model_type": ["qwen3"]}', "model_type"),
        ('{"model_type": "afm_ref", "d_model": 3}', "missing AFMConfig fields"),
        ('{"model_type": "afm_ref", "n_experts": 4}', "n_experts"),
        (json.dumps(AFM_TINY.to_dict() | {"model_type": "afm_ref", "n_layers": 10**9}), "no model has more than 4096"),
    ):
        path = tmp_path / "config.json"
        path.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(ValueError, match=complaint) as caught:
            config_json.read(path)
        assert str(path) in str(caught.value)


def test_formats_are_chosen_by_what_they_can_say():
    odd = dataclasses.replace(LLAMA, d_model=13)  # transformers refuses it
    found = [config_json.model_type(cfg) for cfg in (AFM_ON_DEVICE, AFM_TINY, odd, QWEN3, LLAMA)]
    assert found == ["afm_ref"] * 3 + ["qwen3", "llama"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ANY_KEY = st.sampled_from(sorted(config_json.READ | set(config_json.NEUTRAL) | {"layer_types", "model_type"}))


@settings(max_examples=100)
@given(key=ANY_KEY, value=JSON)
def test_any_value_anywhere_gives_a_config_or_a_value_error(tmp_path_factory, key, value):
    path = tmp_path_factory.getbasetemp() / "config.json"
    path.write_text(json.dumps(config_fields(QWEN3) | {key: value}))
    try:
        assert isinstance(config_json.read(path), AFMConfig)
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017


def write(folder, generation=None, **config):
    """Write config.json, and generation_config.json if given; return the folder."""
    (folder / "config.json").write_text(json.dumps({"vocab_size": 100} | config))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


def test_what_real_folders_say_is_read(tmp_path):
    """But for rows that the model has not, which are never said."""
    settings = {
        "_from_model_config": True, "bos_token_id": 1, "do_sample": True, "eos_token_id": [45, 43], "max_new_tokens": 7,
        "pad_token_id": 43, "repetition_penalty": 1.05, "temperature": 0.7, "top_k": 20, "top_p": 0.8,
        "transformers_version": "4.37.0", "min_p": None, "num_beams": 1, "suppress_tokens": [3],
    }  # fmt: skip
    assert read(write(tmp_path)) == read(write(tmp_path, {})) == Decoding() == Decoding((), LogitRules(), None, None)
    assert read(write(tmp_path, settings)) == ((43, 45), LogitRules(1.05, suppress_tokens=(3,)), 7, None)
    settings = {"eos_token_id": [99, 100, -1], "suppress_tokens": [100]}
    assert read(write(tmp_path, settings)) == Decoding(stop=(99,))


def test_config_json_counts_only_alone(tmp_path):
    assert read(write(tmp_path, eos_token_id=[9, 8])).stop == (8, 9)
    assert read(write(tmp_path, eos_token_id=9, repetition_penalty=2.0)).rules.repetition_penalty == 2.0
    assert read(write(tmp_path, {"eos_token_id": 7}, eos_token_id=9)).stop == (7,)
    assert read(write(tmp_path, {"temperature": 0.5}, eos_token_id=9)) == Decoding()


def test_what_would_change_tokens_is_refused_by_name(tmp_path):
    for key, value in (
        ("no_repeat_ngram_size", 3), ("encoder_repetition_penalty", 1.1), ("bad_words_ids", [[5]]),
        ("forced_bos_token_id", 1), ("forced_eos_token_id", 0), ("sequence_bias", [[[5], 1.0]]),
        ("exponential_decay_length_penalty", [5, 1.1]), ("num_beams", 2), ("num_beam_groups", 2),
        ("guidance_scale", 1.5), ("penalty_alpha", 0.6), ("dola_layers", "high"), ("stop_strings", ["x"]),
        ("watermarking_config", {}), ("token_healing", True), ("max_time", 1.0), ("num_return_sequences", 2),
        ("encoder_no_repeat_ngram_size", 2), ("cache_implementation", "quantized"), ("is_assistant", True),
        ("assistant_ensemble_weight", 0.5), ("force_words_ids", [[1]]), ("a_penalty_of_tomorrow", 1.5),
        ("eos_token_id", "</s>"), ("eos_token_id", [1, None]), ("eos_token_id", True), ("suppress_tokens", [1.5]),
        ("repetition_penalty", 0), ("repetition_penalty", "1"), ("min_new_tokens", -1), ("min_length", 2.5),
        ("max_new_tokens", "9"), ("max_length", -2),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=rf"generation_config\.json: {key}"):
            read(write(tmp_path, {key: value}))

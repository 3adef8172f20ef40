"""config.json: from Hugging Face's fields to AFMConfig and back, refusing by name what
AFMConfig cannot say.

Three model types are known. "qwen3" normalises queries and keys before RoPE, "llama" not at
all, and both pair the halves of a head. "afm_ref" is our own, for every AFMConfig that
neither can express (Apple's norm after RoPE and pairs of neighbours, for one): its
config.json holds the fields of AFMConfig under their own names.
"""

import json
import math
from pathlib import Path

from afm_ref.config import AFMConfig
from afm_ref.disk.text_files import naming, read_json

from . import folder_config
from .folder_config import FolderConfig, Source, names

PALETTIZED = "afm_ref_palettized"  # the folders of interop.palettized
QK_NORM = {"qwen3": "before_rope", "llama": None}
ARCHITECTURES = {
    "qwen3": "Qwen3ForCausalLM",
    "llama": "LlamaForCausalLM",
    "afm_ref": "AFMForCausalLM",
    PALETTIZED: "AFMForCausalLM",
}
DEFAULT_THETA = 10_000.0  # what transformers takes where a file names none
DEFAULT_EPS = 1e-6
SIZES = {  # AFMConfig's fields, and Hugging Face's names of them
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "d_ff": "intermediate_size",
    "vocab_size": "vocab_size",
}
MOST_LAYERS = 4096  # a broken number shall not make us list billions of missing tensors

# Read into AFMConfig.
READ = names("""
    head_dim hidden_size intermediate_size num_attention_heads num_hidden_layers
    num_key_value_heads rms_norm_eps rope_parameters rope_scaling rope_theta
    tie_word_embeddings vocab_size
""")
ROPE = names("""
    factor original_max_position_embeddings partial_rotary_factor rope_theta rope_type type
""")
OF_WINDOWS = names("layer_types sliding_window")
# Written of the tensors as they are, never kept.
OURS = names("architectures dtype model_type torch_dtype")
# Says nothing about the logits of a forward pass: bookkeeping, initialisation, training,
# how it is run, exports ...
HARMLESS = OURS | names("""
    _attn_implementation _attn_implementation_autoset _attn_implementation_internal
    _commit_hash _flash_attn_2_enabled _from_model_config _name_or_path _output_attentions
    attention_dropout attn_implementation attn_pdrop base_model_ep_plan base_model_fsdp_plan
    base_model_pp_plan base_model_tp_plan bos_token_id cache_implementation
    chunk_size_feed_forward decoder_start_token_id embd_pdrop eos_token_id finetuning_task
    gradient_checkpointing hidden_dropout id2label initializer_range is_composition
    is_decoder keys_to_ignore_at_inference label2id max_position_embeddings
    max_sequence_length max_window_layers model_max_length name_or_path neftune_noise_alpha
    num_labels output_attentions output_hidden_states pad_token_id pretraining_tp
    problem_type resid_pdrop return_dict sep_token_id task_specific_params tf_legacy_loss
    tie_encoder_decoder tie_last_hidden_states tokenizer_class torchscript
    transformers.js_config transformers_version unk_token_id unsloth_fixed unsloth_version
    use_bfloat16 use_cache use_reentrant_checkpointing use_return_dict xla_device
""")
# ... and what old files say of generation, which changes the choice of tokens after the
# logits.
HARMLESS |= names("""
    bad_words_ids begin_suppress_tokens diversity_penalty do_sample early_stopping
    encoder_no_repeat_ngram_size encoder_repetition_penalty epsilon_cutoff eta_cutoff
    exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id length_penalty
    max_length max_new_tokens min_length min_new_tokens min_p no_repeat_ngram_size
    num_beam_groups num_beams num_return_sequences output_scores prefix
    remove_invalid_values repetition_penalty return_dict_in_generate suppress_tokens
    temperature top_k top_p typical_p
""")
# Changes the maths at any other value. None always stands for "not set".
NEUTRAL = {
    "activation": ("silu", "swiglu"),
    "cross_attention_hidden_size": (),
    "hidden_act": "silu",
    "hidden_activation": "silu",
    "is_causal": True,
    "is_llama_config": True,
    "mlp_only_layers": [],
    "per_layer_config": {},
    "pruned_heads": {},
    "quantization": (),
    "quantization_config": (),
    "rope_interleaved": False,
}
OFF = names("""
    add_cross_attention alibi attention_bias is_encoder_decoder mlp_bias qk_layer_norms
    qkv_bias use_bias use_bidirectional_attention use_sliding_window
""")
FACTORS = names("""
    embedding_multiplier logits_scaling partial_rotary_factor residual_multiplier rotary_pct
""")
NEUTRAL |= dict.fromkeys(OFF, False) | dict.fromkeys(FACTORS, 1.0)


def read(path: Path) -> FolderConfig:
    """Return the config that the file at path describes, and what else its folder says.

    ValueError names what is wrong and the file.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: a model folder holds config.json beside model.safetensors"
        )
    fields = read_json(path)
    with naming(path, TypeError, OverflowError):
        cfg = from_fields(fields)
        if cfg.n_layers > MOST_LAYERS:
            raise ValueError(f"{cfg.n_layers} layers; no model has more than {MOST_LAYERS}")
    kept = {
        key: value
        for key, value in fields.items()
        if key in HARMLESS - OURS or key in NEUTRAL
    }
    source = Source.read(path.parent, fields["model_type"], cfg.vocab_size, kept)
    return FolderConfig(**cfg.to_dict(), source=source)


def from_fields(fields: dict) -> AFMConfig:
    """Return the AFMConfig that a config.json's fields describe.

    Every key must be one that is read, one known to leave the logits alone, one that would
    change them but stands at its neutral value, or null. All others are refused by name:
    rope_scaling, sliding windows, biases, quantization, experts.

    Source: transformers' Qwen3Config and LlamaConfig for names and defaults [standard].
    Test: tests/interop/test_config_json.py::test_what_cannot_be_expressed_is_refused_by_name
    """
    kind = fields.get("model_type")
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        raise ValueError(
            f"model_type {kind!r} is not supported; known are {sorted(ARCHITECTURES)}"
        )
    _refuse_other_maths(fields)
    if kind not in QK_NORM:
        return AFMConfig.from_dict(
            {k: v for k, v in fields.items() if k not in HARMLESS | set(NEUTRAL)}
        )
    given = _given(fields)
    sizes = {field: integer(given, key) for field, key in SIZES.items()}
    # null is as many as query heads; a Qwen3 that does not name it at all is refused
    named = kind == "llama" or "num_key_value_heads" in fields
    tied = given.get("tie_word_embeddings", False)
    if type(tied) is not bool:
        raise ValueError(f"tie_word_embeddings must be true or false, got {tied!r}")
    return AFMConfig(
        **sizes,
        n_kv_heads=integer(
            given, "num_key_value_heads", sizes["n_heads"] if named else None
        ),
        head_dim=_head_dim(given, kind, sizes),
        rope_theta=_rope_theta(given),
        norm_eps=_number(given, "rms_norm_eps", DEFAULT_EPS),
        qk_norm=QK_NORM[kind],
        rope_layout="half_split",
        tie_embeddings=tied,
    )


def _given(fields):
    """Return the fields that are not null, which stands for "not set"."""
    return {key: value for key, value in fields.items() if value is not None}


def _refuse_other_maths(fields):
    own = fields["model_type"] not in QK_NORM  # AFMConfig knows its own fields
    folder_config.refuse_other_keys(
        fields, fields if own else READ | HARMLESS | OF_WINDOWS, NEUTRAL
    )
    if own:
        return
    kinds = fields.get("layer_types") or []
    if not isinstance(kinds, list):
        raise ValueError(f"layer_types must be a list, got {kinds!r}")
    for kind in kinds:
        if kind != "full_attention":
            raise ValueError(
                f"layer_types with {kind!r} is not supported: every layer attends to all earlier tokens"
            )
    # Qwen3 has a switch for it
    if fields["model_type"] != "qwen3" and fields.get("sliding_window") is not None:
        raise ValueError(
            f"sliding_window = {fields['sliding_window']!r} is not supported: attention is over all tokens"
        )


def _rope_theta(fields):
    """Return the base, from rope_parameters (transformers 5), rope_scaling or rope_theta
    (4); they must agree.
    """
    named = {}
    for key in ("rope_parameters", "rope_scaling"):
        rope = fields.get(key, {})
        if not isinstance(rope, dict):
            raise ValueError(f"{key} must be an object, got {rope!r}")
        rope = _given(rope)
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default" and not (kind == "linear" and rope.get("factor") == 1.0):
            raise ValueError(
                f"{key} with rope_type {kind!r} is not supported: only plain RoPE ('default') is"
            )
        # of the channels, and of positions
        for name in ("partial_rotary_factor", "factor"):
            if rope.get(name, 1.0) != 1.0:
                raise ValueError(
                    f"{key} with {name} {rope[name]!r} is not supported, only 1.0 is"
                )
        if unknown := sorted(set(rope) - ROPE):
            raise ValueError(
                f"{key} has unknown keys {unknown}; known are rope_type 'default' and rope_theta"
            )
        if "rope_theta" in rope:
            named[key] = _number(rope, "rope_theta")
    if "rope_theta" in fields:
        named["rope_theta"] = _number(fields, "rope_theta")
    if fields.get("rope_scaling") and not named.keys() & {"rope_scaling", "rope_theta"}:
        # transformers reads it in place of rope_parameters
        named["rope_scaling"] = DEFAULT_THETA
    if len(set(named.values())) > 1:
        raise ValueError(f"the RoPE base is given twice and differs: {named}")
    return next(iter(named.values()), DEFAULT_THETA)


def _head_dim(fields, kind, sizes):
    default = 128  # transformers' of Qwen3, whatever hidden_size is
    if kind == "llama":
        D, N = sizes["d_model"], sizes["n_heads"]
        if "head_dim" not in fields and D % N:
            raise ValueError(
                f"head_dim is missing, and hidden_size {D} is no multiple of num_attention_heads {N}"
            )
        default = D // N
    return integer(fields, "head_dim", default)


def integer(fields: dict, key: str, default: int | None = None) -> int:
    """Return the positive integer that a key holds; ValueError names it for anything else."""
    value = fields.get(key, default)
    if type(value) is not int or value < 1:
        raise ValueError(f"{key} must be a positive integer, got {value!r}")
    return value


def _number(fields, key, default=None):
    value = fields.get(key, default)
    if type(value) not in (int, float) or not abs(value) < math.inf:
        raise ValueError(f"{key} must be a finite number, got {value!r}")
    return float(value)


def model_type(cfg: AFMConfig) -> str:
    """Return the most widely readable format that can express cfg: "qwen3", "llama", or our
    own "afm_ref".
    """
    if cfg.rope_layout == "half_split":
        if cfg.qk_norm == "before_rope":
            return "qwen3"
        # transformers insists on it for Llama
        if cfg.qk_norm is None and cfg.d_model % cfg.n_heads == 0:
            return "llama"
    return "afm_ref"


def to_fields(cfg: AFMConfig, dtype: str, kept: dict) -> dict:
    """Return the fields of a config.json for cfg, with weights of that dtype: what
    transformers 4 and 5 both read.

    kept: `folder_config.written`'s; what is the model's own goes before them.
    """
    kind = model_type(cfg)
    own = {"architectures": [ARCHITECTURES[kind]], "model_type": kind, "dtype": dtype}
    if kind == "afm_ref":
        return kept | own | cfg.to_dict()
    # Our models have no longest context; readers of this format want one.
    usual = {"attention_dropout": 0.0, "max_position_embeddings": 4096, "use_cache": True}
    return (
        usual
        | kept
        | own
        | {key: getattr(cfg, field) for field, key in SIZES.items()}
        | {
            "attention_bias": False,
            "head_dim": cfg.head_dim,
            "hidden_act": "silu",
            "num_key_value_heads": cfg.n_kv_heads,
            "rms_norm_eps": float(cfg.norm_eps),
            "rope_parameters": {
                "rope_theta": float(cfg.rope_theta),
                "rope_type": "default",
            },
            "rope_theta": float(cfg.rope_theta),
            "tie_word_embeddings": cfg.tie_embeddings,
            "torch_dtype": dtype,
        }
        | ({"mlp_bias": False} if kind == "llama" else {"use_sliding_window": False})
    )


def text(fields: dict) -> str:
    """Return the text of a file of such fields."""
    return json.dumps(fields, indent=2, sort_keys=True) + "\n"

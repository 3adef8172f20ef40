"""config.json: from Hugging Face's fields to AFMConfig and back, refusing by name what AFMConfig cannot say.

Three model types are known. "qwen3" normalises queries and keys before RoPE, "llama" not at all, and both pair the
halves of a head. "afm_ref" is our own, for every AFMConfig that neither can express (Apple's norm after RoPE and
pairs of neighbours, for one): its config.json holds the fields of AFMConfig under their own names.
"""

import dataclasses
import json
import math
from pathlib import Path

from afm_ref.config import AFMConfig

PALETTIZED = "afm_ref_palettized"  # the folders of interop.palettized
QK_NORM = {"qwen3": "before_rope", "llama": None}
ARCHITECTURES = {"qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM", "afm_ref": "AFMForCausalLM"}
DEFAULT_THETA = 10_000.0  # what transformers takes where a file names none
DEFAULT_EPS = 1e-6
MOST_LAYERS = 4096  # a broken number shall not make us list billions of missing tensors

# fmt: off
# Read into AFMConfig.
READ = frozenset([
    "head_dim", "hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "num_key_value_heads",
    "rms_norm_eps", "rope_parameters", "rope_scaling", "rope_theta", "tie_word_embeddings", "vocab_size",
])
# Says nothing about the logits of a forward pass: bookkeeping, initialisation, dropout in training, generation.
HARMLESS = frozenset([
    "_attn_implementation", "_attn_implementation_autoset", "_commit_hash", "_name_or_path", "architectures",
    "attention_dropout", "attn_implementation", "bos_token_id", "do_sample", "dtype", "eos_token_id",
    "finetuning_task", "id2label", "initializer_range", "label2id", "max_length", "max_position_embeddings",
    "max_window_layers", "model_type", "num_labels", "output_attentions", "output_hidden_states", "pad_token_id",
    "pretraining_tp", "problem_type", "return_dict", "task_specific_params", "temperature", "tokenizer_class", "top_k",
    "top_p", "torch_dtype", "torchscript", "transformers_version", "unsloth_fixed", "unsloth_version", "use_bfloat16",
    "use_cache",
])
OWN_BOOKKEEPING = frozenset(["architectures", "bos_token_id", "dtype", "eos_token_id", "model_type", "pad_token_id"])
# fmt: on
# Changes the maths at any other value. None always stands for "not set".
NEUTRAL = {
    "add_cross_attention": (False,),
    "attention_bias": (False,),
    "cross_attention_hidden_size": (),
    "hidden_act": ("silu",),
    "is_encoder_decoder": (False,),
    "mlp_bias": (False,),
    "partial_rotary_factor": (1.0,),
    "pruned_heads": ({},),
    "quantization": (),
    "quantization_config": (),
    "use_sliding_window": (False,),
}


def read(path: Path) -> AFMConfig:
    """Return the config that the file at path describes; ValueError names what is wrong and the file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: a model folder holds config.json beside model.safetensors")
    try:
        cfg = from_fields(read_json(path))
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from None
    if cfg.n_layers > MOST_LAYERS:
        raise ValueError(f"{path}: {cfg.n_layers} layers; no model has more than {MOST_LAYERS}")
    return cfg


def read_json(path: Path) -> dict:
    """Return the JSON object in a file; a key given twice, NaN, or anything but an object raises ValueError."""
    try:
        value = json.loads(path.read_bytes().decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not readable JSON ({error}): download or write it again") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(value).__name__}")
    return value


def _no_duplicates(pairs):
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"keys given twice: {twice}")
    return dict(pairs)


def from_fields(fields: dict) -> AFMConfig:
    """Return the AFMConfig that a config.json's fields describe.

    Every key must be one that is read, one known to leave the logits alone, or one that would change them but stands
    at its neutral value. All others are refused by name: rope_scaling, sliding windows, biases, quantization, experts.

    Source: transformers' Qwen3Config and LlamaConfig for names and defaults [standard]; the refusals [ours].
    Test: tests/interop/test_config_json.py::test_what_cannot_be_expressed_is_refused_by_name
    """
    kind = fields.get("model_type")
    if kind == "afm_ref":
        return AFMConfig.from_dict({k: v for k, v in fields.items() if k not in OWN_BOOKKEEPING})
    if kind == PALETTIZED:
        raise ValueError(
            "a palettized model is loaded by afm_ref.interop.palettized.load(folder), and run by "
            "python -m afm_ref generate --model FOLDER"
        )
    if not isinstance(kind, str) or kind not in QK_NORM:
        raise ValueError(f"model_type {kind!r} is not supported; known are {sorted(ARCHITECTURES)}")
    _refuse_other_maths(fields)
    N = _integer(fields, "num_attention_heads")
    return AFMConfig(
        d_model=_integer(fields, "hidden_size"),
        n_layers=_integer(fields, "num_hidden_layers"),
        n_heads=N,
        n_kv_heads=_integer(fields, "num_key_value_heads", default=N if kind == "llama" else None),
        head_dim=_head_dim(fields, kind),
        d_ff=_integer(fields, "intermediate_size"),
        vocab_size=_integer(fields, "vocab_size"),
        rope_theta=_rope_theta(fields),
        norm_eps=_number(fields, "rms_norm_eps", DEFAULT_EPS),
        qk_norm=QK_NORM[kind],
        rope_layout="half_split",
        tie_embeddings=_boolean(fields, "tie_word_embeddings", False),
    )


def _refuse_other_maths(fields):
    for key, allowed in NEUTRAL.items():
        value = fields.get(key)
        if value is not None and value not in allowed:
            raise ValueError(f"{key} = {value!r} is not supported; AFMConfig can only express {[*allowed, None]}")
    windowed = [kind for kind in fields.get("layer_types") or [] if kind != "full_attention"]
    if windowed:
        raise ValueError(
            f"layer_types with {windowed[0]!r} is not supported: every layer attends to all earlier tokens"
        )
    if fields["model_type"] != "qwen3" and fields.get("sliding_window") is not None:  # Qwen3 has a switch for it
        raise ValueError(
            f"sliding_window = {fields['sliding_window']!r} is not supported: attention is over all tokens"
        )
    unknown = sorted(set(fields) - READ - HARMLESS - set(NEUTRAL) - {"layer_types", "sliding_window"})
    if unknown:
        raise ValueError(
            f"unknown keys {unknown}, any of which could change the maths: remove from the file those that do not"
        )


def _rope_theta(fields):
    """Return the base, from rope_parameters (transformers 5), rope_scaling or rope_theta (4); they must agree."""
    thetas = {}
    for key in ("rope_parameters", "rope_scaling"):
        rope = fields.get(key)
        if rope is None:
            continue
        if not isinstance(rope, dict):
            raise ValueError(f"{key} must be an object, got {rope!r}")
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default":
            raise ValueError(f"{key} with rope_type {kind!r} is not supported: only plain RoPE ('default') is")
        if rope.get("partial_rotary_factor", 1.0) not in (1.0, None):
            raise ValueError(f"{key} with partial_rotary_factor {rope['partial_rotary_factor']!r} is not supported")
        unknown = sorted(set(rope) - {"rope_type", "type", "rope_theta", "partial_rotary_factor"})
        if unknown:
            raise ValueError(f"{key} has unknown keys {unknown}; known are rope_type 'default' and rope_theta")
        thetas[key] = _number(rope, "rope_theta", None)
    thetas["rope_theta"] = _number(fields, "rope_theta", None)
    named = {key: theta for key, theta in thetas.items() if theta is not None}
    if len(set(named.values())) > 1:
        raise ValueError(f"the RoPE base is given twice and differs: {named}")
    return next(iter(named.values()), DEFAULT_THETA)


def _head_dim(fields, kind):
    if kind == "qwen3":
        return _integer(fields, "head_dim", default=128)  # transformers' default, whatever hidden_size is
    D, N = _integer(fields, "hidden_size"), _integer(fields, "num_attention_heads")
    if fields.get("head_dim") is None and D % N:
        raise ValueError(f"head_dim is missing, and hidden_size {D} is no multiple of num_attention_heads {N}")
    return _integer(fields, "head_dim", default=D // N)


def _integer(fields, key, default=None):
    value = fields.get(key)
    value = default if value is None else value
    if type(value) is not int or value < 1:
        raise ValueError(f"{key} must be a positive integer, got {value!r}")
    return value


def _number(fields, key, default):
    value = fields.get(key)
    if value is None:
        return default
    if type(value) not in (int, float) or not abs(value) < math.inf:
        raise ValueError(f"{key} must be a finite number, got {value!r}")
    return float(value)


def _boolean(fields, key, default):
    value = fields.get(key)
    value = default if value is None else value
    if type(value) is not bool:
        raise ValueError(f"{key} must be true or false, got {value!r}")
    return value


def model_type(cfg: AFMConfig) -> str:
    """Return the most widely readable format that can express cfg: "qwen3", "llama", or our own "afm_ref"."""
    if cfg.rope_layout == "half_split":
        if cfg.qk_norm == "before_rope":
            return "qwen3"
        if cfg.qk_norm is None and cfg.d_model % cfg.n_heads == 0:  # transformers insists on it for Llama
            return "llama"
    return "afm_ref"


def to_fields(cfg: AFMConfig, dtype: str, token_ids: dict) -> dict:
    """Return the fields of a config.json for cfg, with weights of that dtype: what transformers 4 and 5 both read."""
    kind = model_type(cfg)
    shared = {"architectures": [ARCHITECTURES[kind]], "model_type": kind, "dtype": dtype, **token_ids}
    if kind == "afm_ref":
        return shared | dataclasses.asdict(cfg)
    return (
        shared
        | {
            "attention_bias": False,
            "attention_dropout": 0.0,
            "head_dim": cfg.head_dim,
            "hidden_act": "silu",
            "hidden_size": cfg.d_model,
            "intermediate_size": cfg.d_ff,
            "max_position_embeddings": 4096,  # our models have no limit; readers of this format want one
            "num_attention_heads": cfg.n_heads,
            "num_hidden_layers": cfg.n_layers,
            "num_key_value_heads": cfg.n_kv_heads,
            "rms_norm_eps": float(cfg.norm_eps),
            "rope_parameters": {"rope_theta": float(cfg.rope_theta), "rope_type": "default"},
            "rope_theta": float(cfg.rope_theta),
            "tie_word_embeddings": cfg.tie_embeddings,
            "torch_dtype": dtype,
            "use_cache": True,
            "vocab_size": cfg.vocab_size,
        }
        | ({"mlp_bias": False} if kind == "llama" else {"use_sliding_window": False})
    )

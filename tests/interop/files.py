"""Model folders written by hand, byte by byte, so that reading is not tested with our own writing."""

import json
import struct

import numpy as np

from afm_ref.config import AFMConfig

BYTES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I32": "<i4", "I64": "<i8", "U8": "|u1"}


def safetensors_bytes(tensors, metadata=None) -> bytes:
    """Return a safetensors file of {name: (dtype, array)}; BF16 takes the upper halves of float32s, rounded to zero."""
    header, data = {} if metadata is None else {"__metadata__": metadata}, b""
    for name, (kind, array) in tensors.items():
        if kind == "BF16":
            raw = (np.asarray(array, "<f4").view("<u4") >> 16).astype("<u2").tobytes()
        else:
            raw = np.asarray(array).astype(BYTES[kind]).tobytes()
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def config_fields(cfg: AFMConfig, **more) -> dict:
    """Return a minimal config.json, as transformers 4 writes it, of a Qwen3 or Llama."""
    kind = {"before_rope": "qwen3", None: "llama"}[cfg.qk_norm]
    return {
        "model_type": kind,
        "hidden_size": cfg.d_model,
        "num_hidden_layers": cfg.n_layers,
        "num_attention_heads": cfg.n_heads,
        "num_key_value_heads": cfg.n_kv_heads,
        "head_dim": cfg.head_dim,
        "intermediate_size": cfg.d_ff,
        "vocab_size": cfg.vocab_size,
        "rope_theta": cfg.rope_theta,
        "rms_norm_eps": cfg.norm_eps,
        "tie_word_embeddings": cfg.tie_embeddings,
    } | more


NAMES = {
    "attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "wq": "self_attn.q_proj", "wk": "self_attn.k_proj", "wv": "self_attn.v_proj", "wo": "self_attn.o_proj",
    "q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm",
    "w_gate": "mlp.gate_proj", "w_up": "mlp.up_proj", "w_down": "mlp.down_proj",
}  # fmt: skip


def named_tensors(params) -> dict:
    """Return {Hugging Face's name: array}, written out here once more."""
    found = {"model.embed_tokens": params.embed, "model.norm": params.final_norm, "lm_head": params.unembed}
    for i, layer in enumerate(params.layers):
        found |= {f"model.layers.{i}.{name}": getattr(layer, field) for field, name in NAMES.items()}
    return {f"{name}.weight": w for name, w in found.items() if w is not None}


def write_folder(folder, cfg, tensors, shards=None, **more):
    """Write config.json and the tensors (F32 arrays, or (dtype, array)), in one file or {shard: [tensor names]}."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_fields(cfg, **more)))
    typed = {name: value if isinstance(value, tuple) else ("F32", value) for name, value in tensors.items()}
    if shards is None:
        (folder / "model.safetensors").write_bytes(safetensors_bytes(typed, {"format": "pt"}))
        return
    for shard, names in shards.items():
        (folder / shard).write_bytes(safetensors_bytes({name: typed[name] for name in names}))
    weight_map = {name: shard for shard, names in shards.items() for name in names}
    write_index(folder, weight_map)


def halves(tensors) -> dict[str, list[str]]:
    """Return {shard: names of its tensors} of two shards."""
    names = sorted(tensors)
    return {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}


def write_index(folder, weight_map):
    """Write model.safetensors.index.json."""
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))

"""Model folders in the formats of Hugging Face: config.json, safetensors files,
tokenizer.json.

params, cfg = load(folder)         # a Qwen3 or Llama download, or what save wrote
save(folder, params, cfg)          # transformers reads it back where it knows such a model
"""

import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from afm_ref.config import AFMConfig, matrix_shapes
from afm_ref.containers import ungroup
from afm_ref.data import tokenizer as own_tokenizer
from afm_ref.disk import atomic, tensor_files
from afm_ref.disk.text_files import naming, read_json, read_text
from afm_ref.weights import Layer, Params

from . import config_json, folder_config, foreign_tokenizer

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PALETTIZED = "palettized.safetensors"
# beside a new model.safetensors they would be taken for it, or lost
OTHER_MODELS = (INDEX, PALETTIZED)
# A table of RoPE's frequencies that old Llama files carry; transformers ignores it and so
# do we.
IGNORED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")
EMBED = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
UNEMBED = "lm_head.weight"
LAYER_NAMES = {
    "attention_norm": "input_layernorm",
    "wq": "self_attn.q_proj",
    "wk": "self_attn.k_proj",
    "wv": "self_attn.v_proj",
    "wo": "self_attn.o_proj",
    "q_norm": "self_attn.q_norm",
    "k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "w_gate": "mlp.gate_proj",
    "w_up": "mlp.up_proj",
    "w_down": "mlp.down_proj",
}


def layer_tensor(index: int, field: str) -> str:
    """Return the name in the file of one of a layer's weights."""
    return f"model.layers.{index}.{LAYER_NAMES[field]}.weight"


def tensor_shapes(cfg: AFMConfig) -> dict[str, tuple]:
    """Return {name: shape} of every tensor in the file of such a model; a tied output head
    is not in it.

    Source: transformers' Qwen3ForCausalLM and LlamaForCausalLM state dicts [standard].
    Test: tests/oracles/test_hugging_face.py::test_logits_equal_transformers_in_float64
    """
    D = cfg.d_model
    layer = {"attention_norm": (D,), "ffn_norm": (D,)} | matrix_shapes(cfg)
    if cfg.qk_norm:
        layer |= {"q_norm": (cfg.head_dim,), "k_norm": (cfg.head_dim,)}
    shapes = {EMBED: (cfg.vocab_size, D), FINAL_NORM: (D,)}
    if not cfg.tie_embeddings:
        shapes[UNEMBED] = shapes[EMBED]
    return shapes | {
        layer_tensor(i, field): shape
        for i in range(cfg.n_layers)
        for field, shape in layer.items()
    }


def load(folder: str | Path, dtype="float32") -> tuple[Params, AFMConfig]:
    """Return (params, cfg) from a folder in Qwen3's, Llama's or our own format, weights as
    NumPy arrays.

    The files may hold float64, float32, float16 or bfloat16; they arrive as `dtype`. Reads
    model.safetensors, or the shards of model.safetensors.index.json. Raises
    FileNotFoundError without a folder or its files, and ValueError that names the file and
    the key or tensor for everything that cannot be used as it is. The config carries what
    else the folder says, such as the id that ends a text and the chat template; `save`
    writes it again.

    Source: the safetensors format; transformers' file names and keys [standard].
    Test: tests/interop/test_golden.py::test_logits_equal_golden
    """
    folder = existing(folder)
    cfg = config_json.read(folder / "config.json")
    if cfg.source.model_type == config_json.PALETTIZED:
        raise ValueError(
            f"{folder / 'config.json'}: a palettized model is loaded by afm_ref.interop.palettized.load(folder), and "
            "run by python -m afm_ref generate --model FOLDER"
        )
    tensors = tensor_files.values(locate(folder, cfg), dtype)
    if cfg.tie_embeddings:
        check_tied(folder, tensors)
        tensors.pop(UNEMBED, None)
    return assembled(tensors.get, cfg), cfg


def save(
    folder: str | Path, params: Params, cfg: AFMConfig, dtype=None, tokenizer=None
) -> None:
    """Write a folder that `load` reads back bit for bit, and transformers too if it knows
    such a model.

    The format follows from cfg. qk_norm "before_rope" with rope_layout "half_split" is
    written as Qwen3, None with "half_split" as Llama; everything else as model_type
    "afm_ref", the same tensors beside AFMConfig's own fields. (An interleaved model without
    qk-norm becomes a Llama with `rope_layout.permute_rope_layout`.)

    dtype: float64, float32, float16 or bfloat16; by default each tensor keeps its own.
    tokenizer: anything with `.save(path)` and `.vocab_size`. A config that `load` returned
    brings the tokenizer of its folder along, its token ids, chat template and settings of
    generation, which stay behind if another tokenizer is given. Layers may be stacked;
    weights that are no plain arrays raise ValueError, as do wrong shapes, NaN, and values
    that overflow the dtype. Nothing in the folder changes unless all could be written.

    Source: transformers' file names and keys [standard].
    Test: tests/oracles/test_hugging_face.py::test_transformers_reads_what_we_save
    """
    atomic.write_together(folder, contents(Path(folder), params, cfg, dtype, tokenizer))


def contents(
    folder: Path, params: Params, cfg: AFMConfig, dtype=None, tokenizer=None
) -> dict:
    """Return what `save` writes, as `atomic.write_together` takes it, after refusing what
    it refuses.
    """
    check_target(folder, OTHER_MODELS)
    tensors = {
        name: _checked(name, w, shape, dtype)
        for name, (w, shape) in named(params, cfg).items()
    }
    kept, files = folder_config.written(folder, cfg, tokenizer)
    fields = config_json.to_fields(cfg, tensors[EMBED].dtype.name, kept)
    weights = partial(tensor_files.write, tensors=tensors, about=tensor_files.PYTORCH)
    return {SINGLE: weights} | files | {"config.json": config_json.text(fields)}


def check_target(folder: Path, others: Collection[str]) -> None:
    """Raise ValueError if the folder is a file, or holds one of the files of other models."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: give the name of a folder")
    for name in others:
        if (folder / name).exists():
            raise ValueError(
                f"{folder} holds another model, {name}: choose another folder or remove that one"
            )


def load_tokenizer(folder: str | Path):
    """Return the tokenizer of a model folder: afm_ref's own, or a ForeignTokenizer around
    any other tokenizer.json.
    """
    path = existing(folder) / "tokenizer.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: only tokenizer.json is read, not tokenizer.model or vocab.json"
        )
    text = read_text(path)
    with naming(path):
        try:
            return own_tokenizer.Tokenizer(text)
        except ValueError:
            settings = foreign_tokenizer.read_settings(folder)
            return foreign_tokenizer.ForeignTokenizer(text, settings)


def existing(folder: str | Path) -> Path:
    """Return the path of a folder; FileNotFoundError if it is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is not a folder; nothing is downloaded here: give a local model folder"
        )
    return folder


def locate(folder: Path, cfg: AFMConfig) -> dict[str, tuple]:
    """Return {tensor name: (file, dtype, shape)} of a model, all checked that can be
    without reading values.
    """
    where = {
        name: place
        for name, place in _located(folder).items()
        if not IGNORED.fullmatch(name)
    }
    shapes = tensor_shapes(cfg)
    tensor_files.check(where, shapes, {UNEMBED: shapes[EMBED]}, folder)
    return where


def check_tied(folder: Path, tensors: Mapping) -> None:
    """Raise ValueError if a head beside the embedding, which is to be the same, is another."""
    if UNEMBED in tensors and not np.array_equal(tensors[UNEMBED], tensors[EMBED]):
        raise ValueError(
            f"{folder}: config.json ties the embeddings, but {UNEMBED} differs from {EMBED}; if the head is its own, "
            "set tie_word_embeddings to false"
        )


def _located(folder):
    """Return {tensor name: (file, dtype, shape)} over all files of the folder."""
    single = folder / SINGLE
    index = folder / INDEX
    if single.is_file():  # as in transformers, it goes before an index
        return tensor_files.locate(single)
    if not index.is_file():
        raise FileNotFoundError(
            f"{folder} holds neither {SINGLE} nor {INDEX}: is it a model folder?"
        )
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{index} has no weight_map from tensor names to files")
    for name in weight_map.values():  # nothing may lead out of the folder
        if not re.fullmatch(r"[\w-][\w.-]*\.safetensors", str(name)):
            raise ValueError(
                f"{index} names the file {name!r}; a shard must be a plain *.safetensors name in the same folder"
            )
    found = {}
    for shard in sorted(set(weight_map.values())):
        if not (folder / shard).is_file():
            raise ValueError(
                f"{index} names {shard}, which is not in the folder: download it too"
            )
        for name, place in tensor_files.locate(folder / shard).items():
            if name in found:
                raise ValueError(
                    f"{name} is in {found[name][0].name} and in {shard}: which one is meant?"
                )
            if weight_map.get(name, shard) != shard:
                raise ValueError(
                    f"{index} says that {name} is in {weight_map[name]}, but it is in {shard}"
                )
            found[name] = place
    if lost := sorted(weight_map.keys() - found.keys()):
        raise ValueError(
            f"{index} names tensors that their files do not hold: {tensor_files.first(lost)}"
        )
    return found


def named(params: Params, cfg: AFMConfig) -> dict[str, tuple]:
    """Return {name in the file: (weight, shape that cfg asks for)}; ValueError where they
    disagree on the names.
    """
    weights = {EMBED: params.embed, FINAL_NORM: params.final_norm, UNEMBED: params.unembed}
    for i, layer in enumerate(ungroup(params.layers)):
        weights |= {layer_tensor(i, field): w for field, w in layer._asdict().items()}
    weights = {name: w for name, w in weights.items() if w is not None}
    shapes = tensor_shapes(cfg)
    for name in sorted(shapes.keys() ^ weights.keys()):
        raise ValueError(
            f"params and cfg disagree: {name} is only in the {'cfg' if name in shapes else 'params'}"
        )
    return {name: (w, shapes[name]) for name, w in weights.items()}


def assembled(weight_of: Callable, cfg: AFMConfig) -> Params:
    """Return the params of weight_of(name in the file), which gives None for what the model
    has not.
    """
    layers = tuple(
        Layer(*(weight_of(layer_tensor(i, field)) for field in Layer._fields))
        for i in range(cfg.n_layers)
    )
    return Params(weight_of(EMBED), layers, weight_of(FINAL_NORM), weight_of(UNEMBED))


def _checked(name, w, shape, dtype):
    """Return a weight as an array of that dtype, its own by default, after comparing its
    shape with cfg's.
    """
    if not hasattr(w, "__array_namespace__"):
        raise ValueError(
            f"{name} is a {type(w).__name__}: merge it into a plain array before saving"
        )
    if w.shape != shape:
        raise ValueError(f"{name} has shape {w.shape}, but cfg asks for {shape}")
    return tensor_files.cast(np.asarray(w), dtype, name)

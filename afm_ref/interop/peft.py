"""Adapters in the format of Hugging Face's PEFT: adapter_config.json beside
adapter_model.safetensors.

params = load(folder, params)            # the base's params, with the folder's adapter beside them
save(folder, params)                     # PEFT reads it onto the same base

A file belongs to the base as its own folder has it: for a Qwen3 or Llama whose channels
were laid out anew, turn the params back first (rope_layout.permute_rope_layout takes
adapters along).
"""

import math
import re
from functools import partial
from pathlib import Path

import numpy as np

from afm_ref.containers import map_matrices, ungroup
from afm_ref.disk import atomic, tensor_files
from afm_ref.disk.text_files import naming, read_json
from afm_ref.lora.adapter import TARGETS, LoRA, adapters
from afm_ref.weights import Params

from . import config_json
from .folder_config import names, refuse_other_keys
from .hugging_face import LAYER_NAMES, layer_tensor

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
TENSOR = re.compile(
    r"base_model\.model\.model\.layers\.(\d+)\.(\w+\.\w+)\.lora_([AB])\.weight"
)
READ = names("init_lora_weights lora_alpha peft_type r use_rslora")
# Says nothing about the outputs of a trained adapter: bookkeeping, training, and which
# modules it is on, which the names of the tensors say as well.
HARMLESS = names("""
    auto_mapping base_model_name_or_path ensure_weight_tying eva_config exclude_modules
    inference_mode layers_pattern layers_to_transform lora_dropout megatron_core
    peft_version qalora_group_size revision runtime_config target_modules task_type
""")
# where a source is named
KEPT = names("auto_mapping base_model_name_or_path lora_dropout revision task_type")
OF_THE_BASE = names("base_model_name_or_path revision")
# Changes the maths at any other value. None and what is empty always stand for "not set".
NEUTRAL = {"bias": "none"}
NEUTRAL |= dict.fromkeys(names("fan_in_fan_out lora_bias use_dora use_qalora"), False)
# These starts leave W0 as it is; the others (PiSSA, OLoRA, ...) change it, and their files
# need that other base.
PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")


def load(folder: str | Path, params: Params, dtype="float32") -> Params:
    """Return the base's params with the adapter of a PEFT folder beside its matrices;
    layers come as a tuple.

        scale = lora_alpha / r, or lora_alpha / sqrt(r) with use_rslora

    Raises ValueError that names the file and the field or tensor for everything that cannot
    be used as it is: fields that change the maths (use_dora, bias, rank_pattern, ...),
    unknown fields, tensors of other modules or shapes, NaN. Nothing is skipped in silence.

    Source: PEFT's LoraConfig, LoRA Linear layer and file names [standard].
    Test: tests/oracles/test_peft.py::test_logits_equal_peft, tests/interop/test_peft.py::test_logits_equal_golden
    """
    folder = Path(folder)
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: an adapter of PEFT is a folder with {CONFIG} and {TENSORS}"
        )
    if (folder / "adapter_model.bin").is_file() and not (folder / TENSORS).is_file():
        raise ValueError(
            f"{folder} holds adapter_model.bin, a pickle: save it again with safe_serialization=True"
        )
    fields = read_json(path)
    with naming(path):
        rank, scale = _rank_and_scale(fields)
    params = params._replace(layers=ungroup(params.layers))
    shapes = _shapes(folder / TENSORS, params, rank)
    tensors = tensor_files.read(folder / TENSORS, shapes, dtype)

    def beside(name, w, numbers):
        a, b = (tensors.get(_tensor(numbers[0], name, letter)) for letter in "AB")
        if a is None:
            return w
        if isinstance(w, LoRA):
            raise ValueError(
                f"{name} of layer {numbers[0]} has an adapter already: merge or detach it first"
            )
        return LoRA(w, a, b, scale)

    return map_matrices(params, beside)


def save(
    folder: str | Path, params: Params, dtype=None, base_model: str = "", source=None
) -> None:
    """Write the adapters of params as a PEFT folder; the base is not written.

    dtype: float32, float16 or bfloat16; by default each tensor keeps its own. base_model:
    the name or folder of the base, which PEFT's AutoPeftModel looks up. source: the folder
    that the adapter was loaded from, whose base, task and dropout are written again. Raises
    ValueError without adapters, for several ranks or scales, and for values that are not
    finite. Nothing in the folder changes unless all could be written.

    Source: PEFT's save_pretrained [standard].
    Test: tests/oracles/test_peft.py::test_peft_reads_what_we_save
    """
    layers = ungroup(params.layers)
    loras = adapters(params._replace(layers=layers))
    said = {} if source is None else read_json(Path(source) / CONFIG)
    kinds = {(w.rank, w.scale) for w in loras.values()}
    if len(kinds) != 1:
        raise ValueError(
            f"PEFT's format has one rank and scale for all; found (rank, scale) {sorted(kinds)}"
        )
    ((rank, scale),) = kinds
    tensors = {}
    for (name, i), w in loras.items():
        for letter, m in (("A", w.a), ("B", w.b)):
            tensor = _tensor(i, name, letter)
            tensors[tensor] = tensor_files.cast(np.asarray(m), dtype, tensor)
    alpha = scale * rank
    fields = {
        "base_model_name_or_path": base_model,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": _target_modules(loras, len(layers)),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }
    fields |= {
        name: said[name]
        for name in KEPT
        if name in said and not (base_model and name in OF_THE_BASE)
    }
    write_tensors = partial(tensor_files.write, tensors=tensors, about=tensor_files.PYTORCH)
    atomic.write_together(
        folder, {TENSORS: write_tensors, CONFIG: config_json.text(fields)}
    )


def _tensor(layer, name, letter):
    return f"base_model.model.{layer_tensor(layer, name).removesuffix('.weight')}.lora_{letter}.weight"


def _target_modules(loras, n_layers):
    """Return short names where every layer has them all, else each module's own; PEFT
    matches the ends of names.
    """
    targets = {name for name, _ in loras}
    if len(loras) == len(targets) * n_layers:
        return sorted(LAYER_NAMES[name].partition(".")[2] for name in targets)
    return sorted(f"layers.{i}.{LAYER_NAMES[name]}" for name, i in loras)


def _rank_and_scale(fields):
    if fields.get("peft_type") != "LORA":
        raise ValueError(
            f"peft_type {fields.get('peft_type')!r} is not supported; only 'LORA' is"
        )
    if fields.get("init_lora_weights") not in PLAIN_STARTS:
        raise ValueError(
            f"init_lora_weights = {fields['init_lora_weights']!r} changes the base as well, which is not in the "
            "folder: convert the adapter to a plain one (PEFT's path_initial_model_for_weight_conversion)"
        )
    refuse_other_keys(fields, READ | HARMLESS, NEUTRAL, unset=(None, False, {}, []))
    rank = config_json.integer(fields, "r")
    alpha = fields.get("lora_alpha")
    rooted = fields.get("use_rslora") or False
    if type(alpha) not in (int, float) or not 0 < alpha < math.inf:
        raise ValueError(f"lora_alpha must be a positive number, got {alpha!r}")
    if type(rooted) is not bool:
        raise ValueError(f"use_rslora must be true or false, got {rooted!r}")
    return rank, alpha / (math.sqrt(rank) if rooted else rank)


def _shapes(path, params, rank):
    """Return {tensor: shape} of the adapters on the modules that the file names, each of
    them with A and B.
    """
    fields = {LAYER_NAMES[name]: name for name in TARGETS}  # self_attn.q_proj: wq
    shapes = {}
    for tensor in tensor_files.locate(path):
        found = TENSOR.fullmatch(tensor)
        if not found or found[2] not in fields:
            raise ValueError(
                f"{path}: {tensor} is no A or B of a matrix that this model adapts, {list(fields)}"
            )
        i = int(found[1])
        name = fields[found[2]]
        w = getattr(params.layers[i], name) if i < len(params.layers) else None
        if w is None:
            raise ValueError(
                f"{path}: {tensor} is for a layer that this model does not have: is the base another one?"
            )
        shapes[_tensor(i, name, "A")] = (rank, w.shape[-1])
        shapes[_tensor(i, name, "B")] = (w.shape[-2], rank)
    if not shapes:
        raise ValueError(f"{path} holds no tensors")
    return shapes

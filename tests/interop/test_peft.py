"""PEFT's folders: logits against PEFT's own (golden), what is read, written and refused. tests/oracles runs PEFT."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from afm_ref import lora
from afm_ref.interop import hugging_face, peft
from afm_ref.interop.rope_layout import permute_rope_layout
from afm_ref.lora.adapter import adapters
from afm_ref.transformer import forward
from tests.interop.models import QWEN3, SMALL, assert_close, float32_unit, logits_float64, random_params, random_tokens
from tests.lora.models import float64, random_adapter, run, stacked

GOLDEN = Path(__file__).parents[1] / "golden"
ADAPTERS = {"peft": (3, 4 / 3, 14), "peft_rslora": (2, 5 / 2**0.5, 4)}  # rank, scale, matrices
TENSOR = "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight"


@pytest.fixture
def qwen3():
    return hugging_face.load(GOLDEN / "qwen3")


@pytest.fixture
def folder(tmp_path):
    """A copy of PEFT's folder, to be damaged."""
    return Path(shutil.copytree(GOLDEN / "peft", tmp_path / "adapter"))


def fields_of(folder):
    return json.loads((folder / peft.CONFIG).read_text())


def change(folder, **fields):
    (folder / peft.CONFIG).write_text(json.dumps(fields_of(folder) | fields))


def tensors_of(folder):
    return load_file(folder / "adapter_model.safetensors")


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_logits_equal_golden(qwen3, name):
    base, cfg = qwen3
    expected = load_file(GOLDEN / name / "expected.safetensors")
    tokens, golden = expected["tokens"], expected["logits"]
    params = peft.load(GOLDEN / name, base)
    assert {(w.rank, w.scale, len(adapters(params))) for w in adapters(params).values()} == {ADAPTERS[name]}
    unit = float32_unit(base, tokens, cfg)
    assert_close(forward(float64(params), tokens, cfg), golden, unit, "float64")
    assert_close(run(jax.tree.map(jnp.asarray, params), tokens, cfg), golden, unit, "float32")
    assert np.abs(logits_float64(base, tokens, cfg) - golden).max() > 0.1
    moved, moved_cfg = permute_rope_layout(float64(params), cfg, "interleaved")
    assert_close(forward(moved, tokens, moved_cfg), golden, unit, "float64")
    half_moved = peft.load(GOLDEN / name, permute_rope_layout(base, cfg, "interleaved")[0])  # B's rows in the old order
    assert np.abs(forward(float64(half_moved), tokens, moved_cfg) - golden).max() > 0.01


@pytest.mark.parametrize("dtype, rounding", [(None, 0), ("float16", 2.0**-11), ("bfloat16", 2.0**-8)])  # half a unit
def test_what_is_saved_is_loaded(tmp_path, dtype, rounding):
    base = random_params(SMALL)
    params = random_adapter(base, rank=3, alpha=5)
    peft.save(tmp_path / "stacked", random_adapter(stacked(base), rank=3, alpha=5), dtype=dtype)
    peft.save(tmp_path / "plain", params, dtype=dtype)
    loaded = adapters(peft.load(tmp_path / "plain", base))
    assert loaded.keys() == adapters(params).keys() == adapters(peft.load(tmp_path / "stacked", base)).keys()
    for key, w in adapters(params).items():
        for mine, theirs in ((w.a, loaded[key].a), (w.b, loaded[key].b)):
            np.testing.assert_allclose(theirs, mine, rtol=rounding, atol=1e-7 if dtype == "float16" else 0)
            assert theirs.dtype == np.float32 and loaded[key].scale == 5 / 3


def test_the_names_in_the_file_are_pefts(tmp_path, qwen3):
    base, _ = qwen3
    peft.save(tmp_path, peft.load(GOLDEN / "peft", base))
    ours, theirs = tensors_of(tmp_path), tensors_of(GOLDEN / "peft")
    assert {name: m.tobytes() for name, m in ours.items()} == {name: m.tobytes() for name, m in theirs.items()}
    fields = fields_of(tmp_path)
    assert (fields["r"], fields["lora_alpha"], fields["use_rslora"]) == (3, 4, False)
    assert sorted(fields["target_modules"]) == sorted(fields_of(GOLDEN / "peft")["target_modules"])


def test_what_a_source_says_of_base_and_task_is_kept(tmp_path, folder, qwen3):
    """And its bookkeeping and a byte order mark are passed over."""
    said = dict(base_model_name_or_path="some/base", revision="v2", task_type="SEQ_CLS", lora_dropout=0.1)
    change(folder, **said, layers_to_transform=[0, 1], r=3, init_lora_weights="gaussian", inference_mode=False)
    (folder / peft.CONFIG).write_bytes(b"\xef\xbb\xbf" + (folder / peft.CONFIG).read_bytes())
    params = peft.load(folder, qwen3[0])
    assert len(adapters(params)) == 14
    peft.save(tmp_path / "out", params, source=folder)
    fields = fields_of(tmp_path / "out")
    assert {name: fields[name] for name in said} == said and "layers_to_transform" not in fields
    peft.save(tmp_path / "out", params, base_model="another/base", source=folder)
    fields = fields_of(tmp_path / "out")
    assert (fields["base_model_name_or_path"], fields["task_type"]) == ("another/base", "SEQ_CLS")
    assert "revision" not in fields
    peft.save(folder, params, source=folder)  # in place
    assert adapters(peft.load(folder, qwen3[0])).keys() == adapters(params).keys()


OTHER_MATHS = {
    "use_dora": True, "bias": "all", "fan_in_fan_out": True, "lora_bias": True, "use_qalora": True, "something_new": 3,
    "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 2}, "modules_to_save": ["lm_head"],
    "layer_replication": [[0, 1], [0, 2]], "target_parameters": ["x"], "megatron_config": {"a": 1},
    "loftq_config": {"loftq_bits": 4}, "alora_invocation_tokens": [1],
}  # fmt: skip
REFUSED = [(name, value, f"{name} = ") for name, value in OTHER_MATHS.items()]
REFUSED += [("init_lora_weights", start, "changes the base as well") for start in ("corda", "pissa_niter_4")]
REFUSED += [("r", value, "r must be a positive integer") for value in (0, True)]
REFUSED += [("peft_type", "IA3", "peft_type 'IA3'"), ("r", 4, "has shape"), ("lora_alpha", "4", "a positive number")]
REFUSED += [("use_rslora", "yes", "use_rslora must be true or false")]


def test_what_is_not_supported_is_refused_by_name(folder, qwen3):
    sound = fields_of(folder)
    for name, value, why in REFUSED:
        (folder / peft.CONFIG).write_text(json.dumps(sound | {name: value}))
        with pytest.raises(ValueError, match=why):
            peft.load(folder, qwen3[0])


def test_damaged_folders_are_refused(folder, qwen3):
    path, sound = folder / peft.TENSORS, tensors_of(folder)
    b = sound[TENSOR]

    def refused(error, why):
        with pytest.raises(error, match=why):
            peft.load(folder, qwen3[0])

    for changes, why in (
        ({TENSOR: None}, "tensors are missing: .*q_proj.lora_B"),
        ({TENSOR: b * np.nan}, "NaN or infinite"),
        ({TENSOR: b[:-1]}, "has shape"),
        ({TENSOR: b.astype(np.int32)}, "holds I32 values"),
        ({TENSOR: None, TENSOR.replace("q_proj", "z_proj"): b}, "no A or B of a matrix"),
        ({TENSOR.replace("layers.1", "layers.2"): b}, "a layer that this model does not have"),
        (dict.fromkeys(sound), "holds no tensors"),
    ):
        save_file({name: w for name, w in (sound | changes).items() if w is not None}, path)
        refused(ValueError, why)
    path.write_bytes(b"short")
    refused(ValueError, "cut short or no safetensors")
    path.rename(folder / "adapter_model.bin")
    refused(ValueError, "a pickle")
    (folder / "adapter_model.bin").unlink()
    refused(FileNotFoundError, "adapter_model.safetensors does not exist")
    (folder / peft.CONFIG).write_text("{")
    refused(ValueError, "not readable JSON")
    (folder / peft.CONFIG).unlink()
    refused(FileNotFoundError, "adapter_config.json does not exist")


def test_what_the_format_cannot_say_is_not_saved(tmp_path, qwen3):
    with pytest.raises(ValueError, match="has an adapter already"):
        peft.load(GOLDEN / "peft", lora.attach(qwen3[0], rank=2))
    base = random_params(SMALL)
    two = lora.attach(lora.attach(base, targets="wq", rank=2), targets="wo", rank=3)
    bad = random_adapter(base, rank=2)
    bad.layers[0].wq.b[0, 0] = np.inf
    for params, message in ((base, "one rank and scale"), (two, "one rank and scale"), (bad, "NaN or infinite")):
        with pytest.raises(ValueError, match=message):
            peft.save(tmp_path, params)
    assert not (tmp_path / peft.CONFIG).exists()


def test_one_matrix_of_one_layer_is_told_by_its_full_name(tmp_path):
    base, tokens = random_params(QWEN3), random_tokens(QWEN3)
    params = random_adapter(base, rank=2, targets=("wk",), layers=[1])
    peft.save(tmp_path, params)
    assert fields_of(tmp_path)["target_modules"] == ["layers.1.self_attn.k_proj"]
    found, wanted = (forward(p, tokens, QWEN3) for p in (peft.load(tmp_path, base), params))
    np.testing.assert_array_equal(found, wanted)

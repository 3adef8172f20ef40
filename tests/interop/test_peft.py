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


def change(folder, **fields):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def tensors_of(folder):
    return load_file(folder / "adapter_model.safetensors")


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_logits_equal_golden(qwen3, name):
    base, cfg = qwen3
    expected = load_file(GOLDEN / name / "expected.safetensors")
    tokens, golden = expected["tokens"], expected["logits"]
    params = peft.load(GOLDEN / name, base)
    rank, scale, count = ADAPTERS[name]
    found = adapters(params)
    assert len(found) == count and {(w.rank, w.scale) for w in found.values()} == {(rank, scale)}
    unit = float32_unit(base, tokens, cfg)
    assert_close(forward(float64(params), tokens, cfg), golden, unit, "float64")
    assert_close(run(jax.tree.map(jnp.asarray, params), tokens, cfg), golden, unit, "float32")
    assert np.abs(logits_float64(base, tokens, cfg) - golden).max() > 0.1
    moved, moved_cfg = permute_rope_layout(float64(params), cfg, "interleaved")
    assert_close(forward(moved, tokens, moved_cfg), golden, unit, "float64")


def test_a_permuted_base_needs_a_permuted_adapter(qwen3):
    """Rows of B in the wrong order load without an error: only the logits tell."""
    base, cfg = qwen3
    expected = load_file(GOLDEN / "peft" / "expected.safetensors")
    moved, moved_cfg = permute_rope_layout(base, cfg, "interleaved")
    wrong = forward(float64(peft.load(GOLDEN / "peft", moved)), expected["tokens"], moved_cfg)
    assert np.abs(wrong - expected["logits"]).max() > 0.01


@pytest.mark.parametrize("dtype", [None, "float16", "bfloat16"])
@pytest.mark.parametrize("container", [lambda p: p, stacked])
def test_what_is_saved_is_loaded(tmp_path, dtype, container):
    base = random_params(SMALL)
    params = random_adapter(container(base), rank=3, alpha=5)
    peft.save(tmp_path, params, dtype=dtype)
    again = peft.load(tmp_path, base)
    rounding = {None: 0, "float16": 2.0**-11, "bfloat16": 2.0**-8}[dtype]  # half a unit in the last place
    mine, theirs = (adapters(p if p is again else random_adapter(base, rank=3, alpha=5)) for p in (params, again))
    if container is not stacked:
        for key, w in mine.items():
            np.testing.assert_allclose(theirs[key].a, w.a, rtol=rounding, atol=1e-7 if dtype == "float16" else 0)
            np.testing.assert_allclose(theirs[key].b, w.b, rtol=rounding, atol=1e-7 if dtype == "float16" else 0)
    assert mine.keys() == theirs.keys() and {w.scale for w in theirs.values()} == {5 / 3}
    assert {w.a.dtype for w in theirs.values()} == {np.dtype("float32")}


def test_the_names_in_the_file_are_pefts(tmp_path, qwen3):
    base, _ = qwen3
    peft.save(tmp_path, peft.load(GOLDEN / "peft", base))
    ours, theirs = tensors_of(tmp_path), tensors_of(GOLDEN / "peft")
    assert {name: m.tobytes() for name, m in ours.items()} == {name: m.tobytes() for name, m in theirs.items()}
    fields = json.loads((tmp_path / "adapter_config.json").read_text())
    golden = json.loads((GOLDEN / "peft" / "adapter_config.json").read_text())
    assert (fields["r"], fields["lora_alpha"], fields["use_rslora"]) == (3, 4, False)
    assert sorted(fields["target_modules"]) == sorted(golden["target_modules"])


def test_what_a_source_says_of_base_and_task_is_kept(tmp_path, folder, qwen3):
    said = dict(base_model_name_or_path="some/base", revision="v2", task_type="SEQ_CLS", lora_dropout=0.1)
    change(folder, **said, layers_to_transform=[0, 1], r=3)
    params = peft.load(folder, qwen3[0])
    peft.save(tmp_path / "out", params, source=folder)
    fields = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert {name: fields[name] for name in said} == said and "layers_to_transform" not in fields
    peft.save(tmp_path / "out", params, base_model="another/base", source=folder)
    fields = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert fields["base_model_name_or_path"] == "another/base" and "revision" not in fields
    assert fields["task_type"] == "SEQ_CLS"
    peft.save(folder, params, source=folder)  # in place
    assert adapters(peft.load(folder, qwen3[0])).keys() == adapters(params).keys()


@pytest.mark.parametrize(
    "fields, why",
    [
        (dict(use_dora=True), "use_dora = True is not supported"),
        (dict(bias="all"), "bias = 'all' is not supported"),
        (dict(fan_in_fan_out=True), "fan_in_fan_out = True"),
        (dict(lora_bias=True), "lora_bias = True"),
        (dict(use_qalora=True), "use_qalora = True"),
        (dict(rank_pattern={"q_proj": 2}), "rank_pattern = "),
        (dict(alpha_pattern={"q_proj": 2}), "alpha_pattern = "),
        (dict(modules_to_save=["lm_head"]), "modules_to_save = "),
        (dict(layer_replication=[[0, 1], [0, 2]]), "layer_replication = "),
        (dict(target_parameters=["x"]), "target_parameters = "),
        (dict(megatron_config={"a": 1}), "megatron_config = "),
        (dict(loftq_config={"loftq_bits": 4}), "loftq_config = "),
        (dict(alora_invocation_tokens=[1]), "alora_invocation_tokens = "),
        (dict(something_new=3), "something_new = 3"),
        (dict(init_lora_weights="corda", corda_config={"a": 1}), "changes the base as well"),
        (dict(init_lora_weights="loftq", loftq_config={"loftq_bits": 4}), "changes the base as well"),
        (dict(init_lora_weights="pissa_niter_4"), "changes the base as well"),
        (dict(peft_type="IA3"), "peft_type 'IA3'"),
        (dict(peft_type=None), "peft_type None"),
        (dict(r=0), "r must be a positive integer"),
        (dict(r=True), "r must be a positive integer"),
        (dict(r=4), "has shape"),
        (dict(lora_alpha="4"), "lora_alpha must be a positive number"),
        (dict(use_rslora="yes"), "use_rslora must be true or false"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(folder, qwen3, fields, why):
    change(folder, **fields)
    with pytest.raises(ValueError, match=why):
        peft.load(folder, qwen3[0])


def test_bookkeeping_is_not_refused(folder, qwen3):
    change(folder, base_model_name_or_path="x", revision="main", lora_dropout=0.1, task_type="FEATURE_EXTRACTION",
           init_lora_weights="gaussian", layers_to_transform=[0, 1], inference_mode=False)  # fmt: skip
    assert len(adapters(peft.load(folder, qwen3[0]))) == 14


def test_a_byte_order_mark_is_not_refused(folder, qwen3):
    path = folder / "adapter_config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(adapters(peft.load(folder, qwen3[0]))) == 14


def damaged(change):
    def apply(folder):
        tensors = tensors_of(folder)
        change(tensors)
        save_file(tensors, folder / "adapter_model.safetensors")

    return apply


def rename(tensors, name):
    tensors[name] = tensors.pop(TENSOR)


DAMAGES = [
    (damaged(lambda t: t.pop(TENSOR)), "tensors are missing: .*q_proj.lora_B"),
    (damaged(lambda t: t[TENSOR].__setitem__((0, 0), np.nan)), "NaN or infinite"),
    (damaged(lambda t: t.update({TENSOR: t[TENSOR][:-1]})), "has shape"),
    (damaged(lambda t: t.update({TENSOR: t[TENSOR].astype(np.int32)})), "holds I32 values"),
    (damaged(lambda t: rename(t, TENSOR.replace("q_proj", "z_proj"))), "no A or B of a matrix"),
    (damaged(lambda t: rename(t, TENSOR.replace("layers.1", "layers.2"))), "a layer that this model does not have"),
    (damaged(lambda t: t.update({"base_model.model.lm_head.lora_A.weight": t[TENSOR]})), "no A or B of a matrix"),
    (damaged(lambda t: t.clear()), "holds no tensors"),
    (lambda f: (f / "adapter_model.safetensors").write_bytes(b"short"), "cut short or no safetensors"),
    (lambda f: (f / "adapter_config.json").write_text("{"), "not readable JSON"),
    (lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"), "a pickle"),
]


@pytest.mark.parametrize("damage, why", DAMAGES, ids=[why for _, why in DAMAGES])
def test_damaged_folders_are_refused(folder, qwen3, damage, why):
    damage(folder)
    with pytest.raises(ValueError, match=why):
        peft.load(folder, qwen3[0])


def test_missing_files_are_named(tmp_path, folder, qwen3):
    with pytest.raises(FileNotFoundError, match=r"adapter_config.json does not exist"):
        peft.load(tmp_path / "nowhere", qwen3[0])
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"adapter_model.safetensors does not exist"):
        peft.load(folder, qwen3[0])


def test_a_base_with_an_adapter_is_refused(qwen3):
    with pytest.raises(ValueError, match="has an adapter already"):
        peft.load(GOLDEN / "peft", lora.attach(qwen3[0], rank=2))


def test_what_the_format_cannot_say_is_not_saved(tmp_path):
    base = random_params(SMALL)
    with pytest.raises(ValueError, match="one rank and scale"):
        peft.save(tmp_path / "none", base)
    two = lora.attach(lora.attach(base, targets="wq", rank=2), targets="wo", rank=3)
    with pytest.raises(ValueError, match="one rank and scale"):
        peft.save(tmp_path / "two", two)
    bad = random_adapter(base, rank=2)
    bad.layers[0].wq.b[0, 0] = np.inf
    with pytest.raises(ValueError, match="NaN or infinite"):
        peft.save(tmp_path / "bad", bad)
    assert not (tmp_path / "bad" / "adapter_config.json").exists()


def test_one_matrix_of_one_layer_is_told_by_its_full_name(tmp_path):
    base = random_params(QWEN3)
    params = random_adapter(base, rank=2, targets=("wk",), layers=[1])
    peft.save(tmp_path, params)
    fields = json.loads((tmp_path / "adapter_config.json").read_text())
    assert fields["target_modules"] == ["layers.1.self_attn.k_proj"]
    tokens = random_tokens(QWEN3)
    again = peft.load(tmp_path, base)
    np.testing.assert_array_equal(forward(again, tokens, QWEN3), forward(params, tokens, QWEN3))

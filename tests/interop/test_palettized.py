"""Palettized folders: bit for bit, at the predicted size, without a matrix of floats; every damage is refused."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref import assets, lora
from afm_ref.config import MATRICES, AFMConfig
from afm_ref.containers import group
from afm_ref.interop import hugging_face, palettized
from afm_ref.quantization import Palettized, quantize, sizes
from tests.interop.models import LLAMA, QWEN3, random_params, traced

MIXED = {(name, i): (2, 3, 4, 1, 4, 2, 8)[(j + i) % 7] for j, name in enumerate(MATRICES) for i in range(2)}


@functools.cache
def quantized(cfg, bits=None):
    """Return the palettes of a random model; None: of MIXED bits. Nobody changes them, so that each is made once."""
    return quantize(random_params(cfg), MIXED if bits is None else bits, rows_per_table=5)


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)  # bits, rows_per_table and pad are in it
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype and np.array_equal(x, y)


@pytest.mark.parametrize("cfg", [LLAMA, QWEN3], ids=["tied", "untied"])
def test_what_is_saved_is_loaded(tmp_path, cfg):
    """Bit for bit, of NumPy's arrays and JAX's, and of the size that was known beforehand, without any weights."""
    params = quantized(cfg)
    params = params._replace(final_norm=params.final_norm.astype(np.float16))
    palettized.save(tmp_path, params._replace(layers=group(params.layers)), cfg)
    loaded, found = palettized.load(tmp_path)
    assert found == cfg and palettized.is_palettized(tmp_path)
    assert_same(loaded, params)
    palettized.save(tmp_path / "jax", jax.tree.map(jnp.asarray, params), cfg)
    path = tmp_path / palettized.FILE
    assert (tmp_path / "jax" / palettized.FILE).read_bytes() == path.read_bytes()
    header_bytes = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    assert path.stat().st_size == palettized.file_bytes(params, cfg) == header_bytes + sizes(params).stored_bytes
    packed = {hugging_face.layer_tensor(i, name): (bits, 5) for (name, i), bits in MIXED.items()}
    predicted = palettized.file_bytes(quantized(cfg), cfg)
    assert palettized.planned(cfg, packed).file_bytes() == predicted


def test_the_file_is_a_safetensors_file_of_known_names(tmp_path):
    """Read by the library of that name, and unpacked by hand."""
    params = quantized(LLAMA)
    palettized.save(tmp_path, params, LLAMA)
    tensors = safetensors.numpy.load_file(tmp_path / palettized.FILE)
    name = "model.layers.1.mlp.down_proj.weight"
    codes, tables, exponent = (tensors[f"{name}.{part}"] for part in ("codes", "tables", "exponent"))
    bits = MIXED["w_down", 1]
    every = np.unpackbits(codes, axis=1, bitorder="little")[:, : LLAMA.d_ff * bits].reshape(LLAMA.d_model, -1, bits)
    which = every @ (1 << np.arange(bits))
    dense = tables.astype(np.float32)[np.arange(LLAMA.d_model)[:, None] // 5, which] * 2.0 ** int(exponent)
    np.testing.assert_array_equal(dense, params.layers[1].w_down.dense())
    codes, scale, exponent = (tensors[f"model.embed_tokens.weight.{part}"] for part in ("codes", "scale", "exponent"))
    dense = codes * (scale.astype(np.float32) * 2.0 ** int(exponent))[:, None]
    np.testing.assert_array_equal(dense, params.embed.dense())
    np.testing.assert_array_equal(tensors["model.norm.weight"], params.final_norm)


def test_loading_makes_no_matrix_of_floats(tmp_path):
    cfg = AFMConfig(vocab_size=64, d_model=192, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=64, d_ff=1024)
    packed = {hugging_face.layer_tensor(i, name): (2, 16) for i in range(2) for name in MATRICES}
    contents = palettized.planned(cfg, packed)
    zeros = ((name, np.zeros(shape, dtype)) for name, (dtype, shape) in contents.tensors.items())
    palettized.write(tmp_path, contents, zeros)
    (params, _), peak = traced(lambda: palettized.load(tmp_path))
    assert isinstance(params.layers[0].w_up, Palettized)
    # codes unpacked to bytes would be as much as a quarter of a matrix
    assert peak < sizes(params).stored_bytes + 1024 * 192


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """(a folder to damage, its sound bytes)"""
    folder = tmp_path_factory.mktemp("sound")
    palettized.save(folder, quantized(LLAMA), LLAMA)
    return folder, (folder / palettized.FILE).read_bytes()


@settings(max_examples=50)
@given(data=st.data(), bit=st.integers(0, 7), part=st.sampled_from(["header", "tensors"]))
def test_every_damage_is_refused(sound, data, bit, part):
    """A flipped bit anywhere, in the header's spaces too; a cut anywhere; something at the end."""
    folder, good = sound
    start = 8 + int.from_bytes(good[:8], "little")
    at = data.draw(st.integers(0, start - 1) if part == "header" else st.integers(start, len(good) - 1))
    flipped = good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :]
    for bad in (flipped, good[:at], good + bytes(bit + 1)):
        (folder / palettized.FILE).write_bytes(bad)
        with pytest.raises(ValueError, match=palettized.FILE):
            palettized.load(folder)


def test_another_config_is_refused(tmp_path):
    """And another format."""
    palettized.save(tmp_path, quantized(LLAMA), LLAMA)
    path, file = tmp_path / "config.json", tmp_path / palettized.FILE
    fields = json.loads(path.read_text())
    for change in ({"norm_eps": 1e-3}, {"d_model": 16}):
        path.write_text(json.dumps(fields | change))
        with pytest.raises(ValueError, match=r"palettized.safetensors.*config\.json"):
            palettized.load(tmp_path)
    path.write_text(json.dumps(fields))
    other = safetensors.numpy.save({"model.norm.weight": np.ones(3, np.float32)})
    for data in (file.read_bytes().replace(b"palettized.1", b"palettized.2"), other):
        file.write_bytes(data)
        with pytest.raises(ValueError, match="is of the format"):
            palettized.load(tmp_path)


def test_each_loader_names_the_other_and_neither_writes_over_it(tmp_path):
    palettized.save(tmp_path / "packed", quantized(LLAMA), LLAMA)
    hugging_face.save(tmp_path / "plain", random_params(LLAMA), LLAMA)
    for call, name, weights, message in (
        (hugging_face.load, "packed", (), r"config.json: a palettized model is loaded by .*palettized\.load\(folder\)"),
        (palettized.load, "plain", (), r"hugging_face\.load"),
        (hugging_face.save, "packed", (random_params(LLAMA), LLAMA), r"holds another model, palettized\.safetensors"),
        (palettized.save, "plain", (quantized(LLAMA), LLAMA), r"holds another model, model\.safetensors"),
    ):
        with pytest.raises(ValueError, match=message):
            call(tmp_path / name, *weights)
    for missing, message in (
        ("config.json", "a palettized model is a folder with config.json and palettized.safetensors"),
        (palettized.FILE, "config.json says that the model is in it"),
    ):
        palettized.save(tmp_path / "packed", quantized(LLAMA), LLAMA)
        (tmp_path / "packed" / missing).unlink()
        with pytest.raises(FileNotFoundError, match=f"{missing} does not exist.*{message}"):
            palettized.load(tmp_path / "packed")


def test_what_cannot_be_saved_leaves_the_folder_as_it_was(tmp_path):
    params = quantized(LLAMA)
    for what, cfg, tokenizer, message in (
        (params, LLAMA, hugging_face.load_tokenizer(assets.FOLDER), "vocab_size is 17"),
        (params._replace(embed=random_params(LLAMA).embed), LLAMA, None, "embed_tokens.weight is a ndarray"),
        (lora.attach(params, rank=1), LLAMA, None, "is a LoRA"),
        (params._replace(layers=params.layers[:1]), LLAMA, None, "only in the cfg"),
        (params, dataclasses.replace(LLAMA, d_ff=12), None, "but cfg asks for"),
    ):
        with pytest.raises(ValueError, match=message):
            palettized.save(tmp_path / "new", what, cfg, tokenizer)
    assert not (tmp_path / "new").exists()


def test_an_adapter_finds_its_palettized_base_again(tmp_path):
    """The fingerprint is of what the file holds, on NumPy and JAX, stacked or not, and of nothing else."""
    params = quantized(LLAMA, 4)
    palettized.save(tmp_path, params, LLAMA)
    loaded, _ = palettized.load(tmp_path)
    mark = lora.files.fingerprint(params)
    on_jax = jax.tree.map(jnp.asarray, loaded)
    assert mark == lora.files.fingerprint(loaded) == lora.files.fingerprint(on_jax)
    assert mark == lora.files.fingerprint(on_jax._replace(layers=group(on_jax.layers)))
    assert mark != lora.files.fingerprint(quantized(LLAMA, 2))
    adapted = lora.attach(loaded, rank=2)
    lora.files.save(tmp_path / "adapter", adapted)
    back = lora.files.put(palettized.load(tmp_path)[0], lora.files.load(tmp_path / "adapter"))
    assert_same(lora.detach(back), params)

"""Palettized folders: bit for bit, of the predicted size, every damage refused; and how they are made."""

import dataclasses
import functools
import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref import __main__ as command_line
from afm_ref import assets, lora, transformer
from afm_ref.config import AFM_TINY, MATRICES, AFMConfig, matrix_shapes
from afm_ref.containers import group
from afm_ref.interop import hugging_face, palettized, palettizing
from afm_ref.quantization import Palettized, palettize, quantize, sizes, weight_counts
from tests.interop.files import halves, named_tensors, write_folder
from tests.interop.models import LLAMA, QWEN3, map_weights, random_params, traced

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


ONE, ONE_LLAMA = (dataclasses.replace(cfg, n_layers=1) for cfg in (QWEN3, LLAMA))
CASES = [(QWEN3, "F32", 3.5), (ONE, "F16", 2.9), (ONE_LLAMA, "BF16", 3.5), (ONE_LLAMA, "F32", 4)]


def contents(folder):
    """Return {file name: a hash of it}, hidden files included. (pytest takes minutes to show how bytes differ.)"""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("cfg, kind, average", CASES)
def test_streaming_gives_the_file_of_quantize(tmp_path, cfg, kind, average):
    """Of one file and of shards, in 32 and 16 bits: the same bytes as from the whole model in memory."""
    tensors = {name: (kind, w) for name, w in named_tensors(random_params(cfg)).items()}
    write_folder(tmp_path / "source", cfg, tensors, None if kind == "F32" else halves(tensors))
    (tmp_path / "source" / "tokenizer.json").write_text("{}")
    bits = palettizing.palettize_folder(tmp_path / "source", tmp_path / "ours", average, 5, progress=False)
    params, _ = hugging_face.load(tmp_path / "source")
    palettized.save(tmp_path / "whole", quantize(params, bits, 5), cfg)
    assert (tmp_path / "ours" / "tokenizer.json").read_text() == "{}"
    (tmp_path / "ours" / "tokenizer.json").unlink()
    assert contents(tmp_path / "ours") == contents(tmp_path / "whole")
    found = sizes(palettized.load(tmp_path / "ours")[0]).projection_bits
    assert found == 4 if average == 4 else average - 0.3 < found <= average and set(bits.values()) == {2, 4}


def test_one_matrix_is_in_memory_at_a_time(tmp_path, monkeypatch):
    cfg = AFMConfig(vocab_size=64, d_model=128, n_layers=4, n_heads=4, n_kv_heads=2, head_dim=32, d_ff=256)
    hugging_face.save(tmp_path / "source", transformer.init(cfg, 0), cfg)
    made = {shape: palettize(np.zeros(shape, np.float32), 2) for shape in matrix_shapes(cfg).values()}
    monkeypatch.setattr(palettizing, "palettize", lambda w, *_: made[w.shape])  # what k-means takes is another matter
    places = tmp_path / "source", tmp_path / "small"
    _, peak = traced(lambda: palettizing.palettize_folder(*places, 2, progress=False))
    whole = (tmp_path / "source" / "model.safetensors").stat().st_size
    assert peak < whole / 2, f"{peak} of {whole} bytes"


def test_an_interrupted_run_leaves_the_target_as_it_was(tmp_path, monkeypatch):
    write_folder(tmp_path / "source", LLAMA, named_tensors(random_params(LLAMA)))
    target = tmp_path / "target"
    palettizing.palettize_folder(tmp_path / "source", target, 2, progress=False)
    old, calls = contents(target), []

    def interrupted(w, *settings):
        calls.append(w)
        if len(calls) == 5:
            assert any(path.name.endswith(".tmp") for path in target.iterdir())  # it was half-written by then
            raise KeyboardInterrupt
        return original(w, *settings)

    original = palettizing.palettize
    monkeypatch.setattr(palettizing, "palettize", interrupted)
    with pytest.raises(KeyboardInterrupt):
        palettizing.palettize_folder(tmp_path / "source", target, 4, progress=False)
    assert contents(target) == old


def test_a_matrix_that_is_hard_to_palettize_gets_more_bits(tmp_path):
    """Weights of four values cost nothing at 2 bits; those of layer 1 do, and 3 bits on average pay for them alone."""
    params = map_weights(lambda w: np.sign(w) * np.float32(0.5) if w.ndim == 2 else w, random_params(QWEN3))
    hard = random_params(QWEN3).layers[1]
    params = params._replace(layers=(params.layers[0], hard))
    write_folder(tmp_path / "source", QWEN3, named_tensors(params))
    costs = palettizing.weight_errors(palettizing.Checkpoint(tmp_path / "source"), progress=False)
    assert all(cost == {2: 0, 4: 0} for (_, i), cost in costs.items() if i == 0)
    w = hard.wq.astype(np.float64)
    by_hand = np.square(w - quantize(params, 2).layers[1].wq.dense()).sum() / np.square(w).sum()
    assert costs["wq", 1][2] == pytest.approx(by_hand, rel=1e-5) and costs["wq", 1][4] < by_hand / 4
    bits = palettizing.palettize_folder(tmp_path / "source", tmp_path / "out", 3, progress=False)
    assert bits == {(name, i): (2, 4)[i] for name in MATRICES for i in (0, 1)}


def test_the_average_is_hit_to_a_hundredth():
    """The shipped model has so few matrices that the plain optimum within 3.5 bits spends less."""
    weights = weight_counts(AFM_TINY)
    costs = {key: {2: 1.0 + layer, 4: 0.0} for key in weights for layer in key[1:]}
    for average in (3.5, 3.7):
        bits = palettizing.bits_near(costs, weights, average)
        reached = sum(b * weights[key] for key, b in bits.items()) / sum(weights.values())
        assert average - 0.01 <= reached <= average
    assert palettizing.bits_near({("wq", 0): {2: 1.0, 4: 0.0}}, {("wq", 0): 7}, 3.5) == {("wq", 0): 2}
    with pytest.raises(ValueError, match="fewest bits"):
        palettizing.bits_near(costs, weights, 1.9)


def test_costs_from_a_file_choose_the_bits(tmp_path):
    write_folder(tmp_path / "source", QWEN3, named_tensors(random_params(QWEN3)))
    entries = {f"layers.{i}.{name}": {"2": float(i == 0), "4": 0.0} for name in MATRICES for i in (0, 1)}
    path = tmp_path / "costs.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(entries).encode())  # as some editors write it
    costs = palettizing.read_costs(path)
    bits = palettizing.palettize_folder(tmp_path / "source", tmp_path / "out", 3, costs=costs, progress=False)
    assert bits == {(name, i): (4, 2)[i] for name in MATRICES for i in (0, 1)}
    for wrong in ({"wq": {"2": 1}}, {"layers.0.wq": 3}, {"layers.x.wq": {"2": 1}}, {"layers.0.wq": {"two": 1}}):
        path.write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match=r"costs\.json: .* is not of the form"):
            palettizing.read_costs(path)


def test_bad_input_is_refused(tmp_path):
    source = tmp_path / "source"
    write_folder(source, LLAMA, named_tensors(random_params(LLAMA)))
    before = contents(source)
    for request, message in (
        ((source, tmp_path / "new", float("nan")), "average_bits is nan: give 2 to 4"),
        ((source, tmp_path / "new", 2, 0), "rows_per_table must be at least 1"),
        ((tmp_path / "nowhere", tmp_path / "new"), "is not a folder"),
        ((source, source), "holds another model, model.safetensors"),
        ((source, source / "config.json"), "is a file"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            palettizing.palettize_folder(*request, progress=False)
    assert contents(source) == before and not (tmp_path / "new").exists()


def test_the_command_palettizes_and_generate_runs_the_result(tmp_path, capsys, monkeypatch):
    tokenizer = hugging_face.load_tokenizer(assets.FOLDER)
    cfg = AFMConfig.from_dict(AFM_TINY.to_dict() | dict(d_model=24, n_layers=1, n_heads=2, n_kv_heads=1, d_ff=32))
    hugging_face.save(tmp_path / "model", transformer.init(cfg, 0), cfg, dtype="float16", tokenizer=tokenizer)
    monkeypatch.setattr(assets, "FOLDER", tmp_path / "model")  # what it takes if no folder is given
    out = str(tmp_path / "small")
    assert command_line.main(["palettize", "--bits", "2.5", "--out", out]) == 0
    shown, err = capsys.readouterr()
    lines = {line.split()[0]: line.split()[1].replace(",", "") for line in shown.splitlines()}
    params, cfg = palettized.load(out)
    found, file_bytes = sizes(params), palettized.file_bytes(params, cfg)
    assert float(lines["projection_bits"]) == round(found.projection_bits, 3) and 2 < found.projection_bits <= 2.5
    assert (float(lines["model_bits"]), int(lines["file_bytes"])) == (round(found.model_bits, 3), file_bytes)
    source_bytes = (tmp_path / "model" / "model.safetensors").stat().st_size
    assert f"divided by {source_bytes / file_bytes:.2f}" in shown
    assert "palettize" in err and "measure" in err  # progress bars
    adapter = str(tmp_path / "adapter.safetensors")
    lora.files.save(adapter, lora.attach(params, rank=1))
    assert command_line.main(["generate", "--model", out, "--adapter", adapter, "--max-new-tokens", "3"]) == 0
    assert capsys.readouterr().out.strip()


def test_info_tells_what_a_folder_holds(tmp_path, capsys):
    """Shape, parameters, and bits and bytes on disk, of a plain folder in shards and of a palettized one."""
    tensors = {name: ("F16", w) for name, w in named_tensors(random_params(LLAMA)).items()}
    write_folder(tmp_path / "source", LLAMA, tensors, halves(tensors))
    palettizing.palettize_folder(tmp_path / "source", tmp_path / "small", 4, progress=False)
    count = sum(w.size for _, w in tensors.values())
    for name, option in (("source", []), ("small", ["--model"])):
        assert command_line.main(["info", *option, str(tmp_path / name)]) == 0
        lines = [line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line]
        told = {name: value.replace(",", "") for name, value in lines}
        assert (told["d_model"], told["n_layers"], told["qk_norm"]) == ("12", "2", "None")
        on_disk = sum(path.stat().st_size for path in (tmp_path / name).glob("*.safetensors"))
        assert (int(told["parameters, total"]), int(told["bytes of the weights on disk"])) == (count, on_disk)
    stored = sum(w.nbytes for w in safetensors.numpy.load_file(tmp_path / "small" / "palettized.safetensors").values())
    assert float(told["bits per parameter"]) == pytest.approx(8 * stored / count, abs=6e-4)
    assert told["bits per projection weight"] == "4.0"
    assert command_line.main(["palettize", str(tmp_path / "small"), "--out", str(tmp_path / "smaller")]) == 2
    err = capsys.readouterr().err
    assert "small is palettized already" in err and "give the folder that it was made of" in err
    assert err.count("\n") == 1 and not (tmp_path / "smaller").exists()

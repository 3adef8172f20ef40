"""From a Hugging Face folder to a palettized one on disk, as a library and as python -m afm_ref palettize."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from afm_ref import __main__ as command_line
from afm_ref import assets, lora, transformer
from afm_ref.config import AFM_TINY, MATRICES, AFMConfig, matrix_shapes
from afm_ref.interop import hugging_face, palettized, palettizing
from afm_ref.quantization import palettize, quantize, sizes, weight_counts
from tests.interop.files import halves, named_tensors, write_folder
from tests.interop.models import LLAMA, QWEN3, map_weights, random_params, traced

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
    for settings, message in (
        ((source, tmp_path / "new", float("nan")), "average_bits is nan: give 2 to 4"),
        ((source, tmp_path / "new", 2, 0), "rows_per_table must be at least 1"),
        ((tmp_path / "nowhere", tmp_path / "new"), "is not a folder"),
        ((source, source), "holds another model, model.safetensors"),
        ((source, source / "config.json"), "is a file"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            palettizing.palettize_folder(*settings, progress=False)
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
    stored = sum(w.nbytes for w in load_file(tmp_path / "small" / "palettized.safetensors").values())
    assert float(told["bits per parameter"]) == pytest.approx(8 * stored / count, abs=6e-4)
    assert told["bits per projection weight"] == "4.0"
    assert command_line.main(["palettize", str(tmp_path / "small"), "--out", str(tmp_path / "smaller")]) == 2
    err = capsys.readouterr().err
    assert "small is palettized already" in err and "give the folder that it was made of" in err
    assert err.count("\n") == 1 and not (tmp_path / "smaller").exists()

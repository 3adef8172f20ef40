"""Model folders: what is read, written and refused. tests/oracles reads and writes them with transformers as well."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from afm_ref.containers import Remat, group
from afm_ref.disk import tensor_files
from afm_ref.interop import hugging_face, reward_files
from afm_ref.post_training.reward_model import init_reward_model
from tests.interop.files import config_fields, halves, named_tensors, safetensors_bytes, write_folder, write_index
from tests.interop.models import LLAMA, QWEN3, SMALL, map_weights, random_params, same_weights

FORMATS = [QWEN3, LLAMA, SMALL, dataclasses.replace(SMALL, tie_embeddings=False, qk_norm=None)]


@pytest.fixture
def qwen3():
    """(weights, their names in a file) of a small Qwen3, with its own output head."""
    params = random_params(QWEN3)
    return params, named_tensors(params)


def in_both_forms(folder, cfg, tensors):
    """Return two folders: of one file; of shards, with a byte order mark at the head of each JSON file."""
    one, shards = folder / "one", folder / "shards"
    write_folder(one, cfg, tensors)
    write_folder(shards, cfg, tensors, shards=halves(tensors))
    for path in shards.glob("*.json"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    return one, shards


@pytest.mark.parametrize("cfg", [QWEN3, LLAMA], ids=["qwen3", "llama"])
def test_reads_a_folder_written_by_hand(tmp_path, cfg):
    params = random_params(cfg)
    for folder in in_both_forms(tmp_path, cfg, named_tensors(params)):
        loaded, loaded_cfg = hugging_face.load(folder)
        assert loaded_cfg == cfg and same_weights(loaded, params)


def test_every_float_dtype_arrives_as_float32_or_as_asked(tmp_path, qwen3):
    params, tensors = qwen3
    for kind, rounded in (
        ("F64", lambda w: w),
        ("F16", lambda w: w.astype(np.float16).astype(np.float32)),
        ("BF16", lambda w: (w.view(np.uint32) & 0xFFFF0000).view(np.float32)),  # files.py rounds to zero
    ):
        write_folder(tmp_path, QWEN3, {name: (kind, w) for name, w in tensors.items()})
        assert same_weights(hugging_face.load(tmp_path)[0], map_weights(rounded, params))
    assert hugging_face.load(tmp_path, dtype="bfloat16")[0].embed.dtype == ml_dtypes.bfloat16
    with pytest.raises(ValueError, match="dtype must be one of"):
        hugging_face.load(tmp_path, dtype="int8")


def test_a_tied_head_that_is_in_the_file_must_equal_the_embedding(tmp_path):
    """And the table of RoPE's frequencies in old Llama files is passed over."""
    params = random_params(LLAMA)
    tensors = named_tensors(params) | {"lm_head.weight": params.embed}
    tensors["model.layers.1.self_attn.rotary_emb.inv_freq"] = np.ones(2, np.float32)
    write_folder(tmp_path, LLAMA, tensors)
    assert same_weights(hugging_face.load(tmp_path)[0], params)
    write_folder(tmp_path, LLAMA, tensors | {"lm_head.weight": params.embed + 1})
    with pytest.raises(ValueError, match=r"lm_head\.weight differs"):
        hugging_face.load(tmp_path)


def test_missing_folder_and_files_are_named(tmp_path):
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "config.json").write_text(json.dumps(config_fields(QWEN3)))
    for name, complaint in (
        ("nowhere", "nowhere is not a folder"),
        ("", r"config\.json does not exist"),
        ("alone", r"neither model\.safetensors nor"),
    ):
        with pytest.raises(FileNotFoundError, match=complaint):
            hugging_face.load(tmp_path / name)


def with_last(w, value):
    return np.append(w.flat[:-1], np.float32(value)).reshape(w.shape)


WQ, NORM = "model.layers.1.self_attn.q_proj.weight", "model.layers.0.self_attn.k_norm.weight"
EXTRA, BIAS = "model.layers.2.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.bias"


def test_broken_tensors_are_refused_by_name(tmp_path, qwen3):
    _, sound = qwen3
    wq, norm = sound[WQ], sound[NORM]
    for name, w, complaint in (
        (NORM, None, f"missing: {NORM}"),
        (EXTRA, np.ones((3, 3)), f"does not have: {EXTRA}"),
        (BIAS, np.ones(24), f"biases.*{BIAS}"),
        (WQ, wq.T, rf"{WQ} has shape \(12, 24\), expected \(24, 12\)"),
        (WQ, ("I32", wq), f"{WQ} holds I32"),
        (WQ, with_last(wq, np.nan), f"{WQ} holds NaN"),
        (NORM, with_last(norm, -np.inf), f"{NORM} holds NaN or inf"),
        (WQ, ("F64", wq.astype("f8") * 1e300), f"{WQ} holds values too large for float32"),
    ):
        tensors = {key: value for key, value in (sound | {name: w}).items() if value is not None}
        for folder in in_both_forms(tmp_path, QWEN3, tensors):
            with pytest.raises(ValueError, match=complaint):
                hugging_face.load(folder)


def test_an_index_cannot_lead_out_of_its_folder(tmp_path, qwen3):
    folder = tmp_path / "model"
    write_folder(folder, QWEN3, qwen3[1], shards={})
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes({k: ("F32", v) for k, v in qwen3[1].items()}))
    outside = ("../model.safetensors", "/etc/passwd", "sub/a.safetensors", "..", "a\\b.safetensors")
    for name in (*outside, "", 3, "a.bin", None, ".hidden.safetensors"):
        write_index(folder, dict.fromkeys(qwen3[1], name))
        with pytest.raises(ValueError, match="must be a plain"):
            hugging_face.load(folder)


def test_shards_must_agree_with_their_index(tmp_path, qwen3):
    """And nothing is saved beside them."""
    params, tensors = qwen3
    shards = halves(tensors)
    first, second = shards

    index = {name: shard for shard, names in shards.items() for name in names}
    a, b = shards[first][0], shards[second][0]
    for complaint, told, held in (
        (f"{a} is in {first} and in {second}", index, {second: [*shards[second], a]}),
        (f"names tensors that their files do not hold: {b}", index, {second: shards[second][1:]}),
        (f"says that {a} is in {second}, but it is in {first}", index | {a: second}, {}),
        ("names lost.safetensors, which is not in the folder", index | {a: "lost.safetensors"}, {}),
        ("no weight_map", {}, {}),
    ):
        write_folder(tmp_path, QWEN3, tensors, shards=shards | held)
        write_index(tmp_path, told)
        with pytest.raises(ValueError, match=complaint):
            hugging_face.load(tmp_path)
    with pytest.raises(ValueError, match="holds another model"):
        hugging_face.save(tmp_path, params, QWEN3)
    for text in (b"", b'{"weight_map": [1]}', b"\xff\xfe{"):
        (tmp_path / "model.safetensors.index.json").write_bytes(text)
        with pytest.raises(ValueError, match=r"index\.json"):
            hugging_face.load(tmp_path)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """(a folder to damage, the sound bytes, the sound weights)"""
    folder, params = tmp_path_factory.mktemp("damaged"), random_params(LLAMA)
    write_folder(folder, LLAMA, named_tensors(params))
    return folder, (folder / "model.safetensors").read_bytes(), params


@settings(max_examples=100)
@given(data=st.data(), bit=st.integers(0, 7), garbage=st.binary(max_size=200), part=st.sampled_from(["header", "data"]))
def test_every_damage_is_refused_or_makes_no_difference(sound, data, bit, garbage, part):
    """A flipped bit, a cut anywhere, something at the end, something else altogether."""
    folder, good, params = sound
    start = 8 + int.from_bytes(good[:8], "little")
    at = data.draw(st.integers(0, start - 1) if part == "header" else st.integers(start, len(good) - 1))
    for other in (good[:at], garbage, at.to_bytes(8, "little") + garbage, good + garbage + b"!"):
        (folder / "model.safetensors").write_bytes(other)
        with pytest.raises(ValueError, match=str(folder)):
            hugging_face.load(folder)
    (folder / "model.safetensors").write_bytes(good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :])
    try:
        loaded, _ = hugging_face.load(folder)
    except ValueError as error:
        assert str(folder) in str(error) and (part == "header" or "NaN or infinite" in str(error))  # noqa: PT017
        return
    if part == "header":
        assert same_weights(loaded, params)  # the free text of __metadata__
    else:
        flat, other = (np.concatenate([w.reshape(-1) for w in named_tensors(p).values()]) for p in (params, loaded))
        assert (flat.view("u4") != other.view("u4")).sum() == 1


@pytest.mark.parametrize("cfg", FORMATS, ids=["qwen3", "llama", "afm", "afm without qk-norm"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_round_trip_is_bit_exact(tmp_path, cfg, dtype):
    params, folder = map_weights(lambda w: w.astype(dtype), random_params(cfg)), tmp_path / "a" / "b"
    hugging_face.save(folder, params, cfg)
    loaded, loaded_cfg = hugging_face.load(folder, dtype=dtype)
    assert loaded_cfg == cfg and same_weights(loaded, params)
    on_disk, wanted = load_file(folder / "model.safetensors"), named_tensors(params)
    assert {name: w.tobytes() for name, w in on_disk.items()} == {name: w.tobytes() for name, w in wanted.items()}
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_jax_arrays_containers_and_views_are_saved_as_they_look(tmp_path):
    params = random_params(QWEN3)
    wrapped = jax.tree.map(jnp.asarray, params)
    columns = params._replace(embed=np.asfortranarray(params.embed), final_norm=np.repeat(params.final_norm, 2)[::2])
    for same in (columns, wrapped._replace(layers=Remat(group(wrapped.layers)))):
        hugging_face.save(tmp_path, same, QWEN3)
        assert same_weights(hugging_face.load(tmp_path)[0], params)


def test_broken_params_are_refused_and_the_folder_stays(tmp_path, qwen3):
    params, _ = qwen3
    hugging_face.save(tmp_path, params, QWEN3)

    def with_layer(**weights):
        return {"layers": (params.layers[0], params.layers[1]._replace(**weights))}

    for changes, complaint, *dtype in (
        (with_layer(wq=params.layers[1].wq.T), rf"{WQ} has shape \(12, 24\)"),
        (with_layer(wk=None, wv=None), r"k_proj\.weight is only in the cfg"),
        (dict(unembed=None), r"lm_head\.weight is only in the cfg"),
        (dict(layers=params.layers * 2), r"layers\.2.* is only in the params"),
        (with_layer(wo=object()), r"o_proj\.weight is a object: merge it"),
        (dict(layers=object()), "walk layers in a object"),
        (dict(final_norm=params.final_norm * np.nan), r"model\.norm\.weight holds NaN"),
        (dict(embed=params.embed.astype(int)), "dtype must be one of"),
        (dict(final_norm=params.final_norm * 1e6), "too large for float16", "float16"),
    ):
        with pytest.raises(ValueError, match=complaint):
            hugging_face.save(tmp_path, params._replace(**changes), QWEN3, *dtype)
        assert same_weights(hugging_face.load(tmp_path)[0], params)


def test_a_failure_while_writing_leaves_the_folder_as_it_was(tmp_path):
    """A disk that fills up after the weights have been written."""

    def full(path):
        path.write_text("half of")
        raise OSError("no space left on device")

    old, new = (random_params(SMALL, seed) for seed in (1, 2))
    hugging_face.save(tmp_path, old, SMALL)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OSError, match="no space left"):
        hugging_face.save(tmp_path, new, SMALL, tokenizer=SimpleNamespace(vocab_size=2, save=full))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert same_weights(hugging_face.load(tmp_path)[0], old)


START = init_reward_model(random_params(SMALL), SMALL, 4)
MODEL = START._replace(b_out=START.b_out + np.float32(0.25))


def test_what_is_written_is_read_and_a_full_disk_at_the_heads_changes_nothing(tmp_path, monkeypatch):
    folder, write = tmp_path / "reward", tensor_files.write
    reward_files.save(folder, MODEL, SMALL)
    found, cfg = reward_files.load(folder)
    assert cfg == SMALL
    jax.tree.map(np.testing.assert_array_equal, found, MODEL)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(path, tensors, about):
        if "b_out" in tensors:
            raise OSError("no space left on device")
        write(path, tensors, about)

    monkeypatch.setattr(tensor_files, "write", full)
    with pytest.raises(OSError, match="no space left"):
        reward_files.save(folder, init_reward_model(random_params(SMALL, 5), SMALL, 4), SMALL)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_half_a_folder_and_heads_of_another_model_are_refused(tmp_path):
    folder, other = tmp_path / "reward", tmp_path / "other"
    reward_files.save(folder, MODEL, SMALL)
    reward_files.save(other, init_reward_model(MODEL.params, SMALL, width=8), SMALL)
    (other / "heads.safetensors").replace(folder / "heads.safetensors")
    with pytest.raises(ValueError, match="b_in has shape"):
        reward_files.load(folder)
    for missing in ("model.safetensors", "config.json", "heads.safetensors"):
        reward_files.save(folder, MODEL, SMALL)
        (folder / missing).unlink()
        with pytest.raises((ValueError, FileNotFoundError), match=missing):
            reward_files.load(folder)

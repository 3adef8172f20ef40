"""What a folder says beside its numbers is said again by whatever is written of it, unless another tokenizer comes."""

import dataclasses
import json
import shutil

import ml_dtypes
import numpy as np
import pytest

from afm_ref import assets
from afm_ref.data.tokenizer import BOS, EOS, PAD
from afm_ref.interop import hugging_face, palettized, palettizing, reward_files
from afm_ref.interop.foreign_tokenizer import ForeignTokenizer
from afm_ref.interop.rope_layout import permute_rope_layout
from afm_ref.post_training.reward_model import init_reward_model
from afm_ref.quantization import quantize
from tests.interop.files import config_fields, named_tensors, write_folder
from tests.interop.models import LLAMA, random_params, same_weights
from tests.interop.tokenizer_files import byte_level_json

FIELDS = {
    "bos_token_id": 5, "eos_token_id": [6, 7], "pad_token_id": None, "max_position_embeddings": 131072,
    "initializer_range": 0.5, "use_cache": False, "attention_dropout": 0.25, "suppress_tokens": [3],
    "transformers.js_config": {"dtype": {"decoder": "q4"}}, "is_llama_config": True, "_name_or_path": "some/model",
}  # fmt: skip
FILES = {
    "tokenizer.json": json.dumps(json.loads(byte_level_json()), indent=3) + "\n\n",
    "tokenizer_config.json": '{"eos_token": "<|end|>", "chat_template": "{{ messages[0].content }}"}',
    "special_tokens_map.json": '{"eos_token": "<|end|>"}',
    "added_tokens.json": "{}",
    "generation_config.json": '{"eos_token_id": [6, 7, 8], "repetition_penalty": 1.5}',
    "chat_template.jinja": "{{ messages }} äöü\r\n",
    "chat_template.json": '{"chat_template": "x"}',
    "additional_chat_templates/tools.jinja": "{{ tools }}",
    "LICENSE": "Keep this beside the model.",
}
OTHERS = {"README.md": "a card of the old weights", "pytorch_model.bin": "a pickle", "training_args.bin": "a pickle"}
SMALL_LLAMA = dataclasses.replace(LLAMA, vocab_size=ForeignTokenizer(byte_level_json()).vocab_size)


def files(folder):
    """Return {path within the folder: bytes} of all its files."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


@pytest.fixture
def source(tmp_path):
    """A Llama as others publish it, written by hand."""
    folder = tmp_path / "source"
    write_folder(folder, SMALL_LLAMA, named_tensors(random_params(SMALL_LLAMA)), **FIELDS, torch_dtype="float32")
    (folder / "additional_chat_templates").mkdir()
    for name, text in (FILES | OTHERS).items():
        (folder / name).write_bytes(text.encode())
    return folder


def saved_again(source, out):
    for folder in (source, out):
        hugging_face.save(out, *hugging_face.load(folder))


def saved_with_its_tokenizer_but_without_the_source(source, out):
    model, tokenizer = hugging_face.load(source), hugging_face.load_tokenizer(source)
    shutil.rmtree(source)
    hugging_face.save(out, *model, tokenizer=tokenizer)


def saved_in_another_layout(source, out):
    hugging_face.save(out, *permute_rope_layout(*hugging_face.load(source), "interleaved"))


def palettized_with_its_tokenizer(source, out):
    params, cfg = hugging_face.load(source)
    palettized.save(out, quantize(params, 2), cfg, tokenizer=hugging_face.load_tokenizer(source))


def palettized_on_disk(source, out):
    palettizing.palettize_folder(source, out, 2, progress=False)
    palettized.save(out, *palettized.load(out))


def as_a_reward_model(source, out):
    params, cfg = hugging_face.load(source)
    reward_files.save(out, init_reward_model(params, cfg), cfg)
    assert reward_files.load(out)[1] == cfg


WRITERS = [saved_again, saved_with_its_tokenizer_but_without_the_source, saved_in_another_layout, palettized_on_disk,
           palettized_with_its_tokenizer, as_a_reward_model]  # fmt: skip


@pytest.mark.parametrize("write", WRITERS)
def test_every_writer_says_what_the_source_said(source, tmp_path, write):
    out = tmp_path / "out"
    write(source, out)
    found, fields = files(out), config_of(out)
    assert {name: found.get(name) for name in FILES} == {name: text.encode() for name, text in FILES.items()}
    assert not OTHERS.keys() & found.keys()
    expected = {k: v for k, v in FIELDS.items() if v is not None or "palettized" not in write.__name__}
    assert {name: fields.get(name, "missing") for name in expected} == expected
    if write is saved_again:
        assert same_weights(hugging_face.load(out)[0], random_params(SMALL_LLAMA))
        assert config_fields(SMALL_LLAMA).items() <= fields.items()


def test_the_shape_and_the_dtype_are_of_the_model_that_is_written(source, tmp_path):
    params, cfg = hugging_face.load(source)
    longer = dataclasses.replace(cfg, n_layers=1, rope_theta=7e5)
    hugging_face.save(tmp_path / "out", params._replace(layers=params.layers[:1]), longer, dtype="bfloat16")
    fields = config_of(tmp_path / "out")
    assert fields["dtype"] == fields["torch_dtype"] == "bfloat16" and fields["num_hidden_layers"] == 1
    assert fields["rope_theta"] == 7e5 and fields["eos_token_id"] == [6, 7]
    expected = params.layers[0].w_up.astype(ml_dtypes.bfloat16).astype(np.float32)
    found, found_cfg = hugging_face.load(tmp_path / "out")
    assert found_cfg == longer and np.array_equal(found.layers[0].w_up, expected)


def test_what_the_source_does_not_say_is_not_made_up(tmp_path):
    """A Llama without bos_token_id has transformers' default; null would be another fact."""
    write_folder(tmp_path / "source", LLAMA, named_tensors(random_params(LLAMA)))
    saved_again(tmp_path / "source", tmp_path / "out")
    assert not {"bos_token_id", "eos_token_id", "pad_token_id"} & config_of(tmp_path / "out").keys()
    assert sorted(files(tmp_path / "out")) == ["config.json", "model.safetensors"]


def test_a_model_can_be_saved_where_it_was_loaded(source):
    before = files(source)
    saved_again(source, source)
    after = files(source)
    assert before.keys() == after.keys()
    assert {name for name in before if after[name] != before[name]} <= {"config.json", "model.safetensors"}


def saved_with_ours(source, out):
    """Save the model of a folder with room for our tokenizer, and with that; return it."""
    own = hugging_face.load_tokenizer(assets.FOLDER)
    params, cfg = hugging_face.load(source)
    wide = params._replace(embed=np.zeros((own.vocab_size, cfg.d_model), np.float32))
    hugging_face.save(out, wide, dataclasses.replace(cfg, vocab_size=own.vocab_size), tokenizer=own)
    return own


@pytest.mark.parametrize("old", [FILES["tokenizer.json"], "no JSON", "[]"], ids=["sound", "no JSON", "a list"])
def test_another_tokenizer_leaves_the_old_ones_ids_and_files_behind(source, tmp_path, old):
    (source / "tokenizer.json").write_text(old)
    own = saved_with_ours(source, tmp_path / "out")
    fields = config_of(tmp_path / "out")
    assert [fields[f"{name}_token_id"] for name in ("bos", "eos", "pad")] == [BOS, EOS, PAD]
    assert fields["max_position_embeddings"] == 131072 and "suppress_tokens" not in fields
    expected = ["LICENSE", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert sorted(files(tmp_path / "out")) == expected
    assert hugging_face.load_tokenizer(tmp_path / "out").encode("a b").tolist() == own.encode("a b").tolist()


def test_a_tokenizer_that_the_source_keeps_in_another_form_is_its_own(source, tmp_path):
    """Truncation and padding of a single call are no part of what the ids mean; tokenizer.model is not read."""
    cut = {"truncation": {"max_length": 4, "strategy": "LongestFirst", "direction": "Right", "stride": 0}}
    (source / "tokenizer.json").unlink()
    for name, out in (("tokenizer.json", tmp_path / "saved"), ("tokenizer.model", tmp_path / "out")):
        (source / name).write_text(json.dumps(json.loads(byte_level_json()) | cut))
        hugging_face.save(out, *hugging_face.load(source), tokenizer=ForeignTokenizer(byte_level_json()))
        assert config_of(out)["eos_token_id"] == [6, 7] and {name, "generation_config.json"} <= files(out).keys()
        (source / name).rename(source / "tokenizer.model")
    assert (out / "tokenizer.json").read_text() == byte_level_json()
    saved_with_ours(source, tmp_path / "own")
    assert config_of(tmp_path / "own")["eos_token_id"] == EOS


def test_rows_that_no_id_uses_may_go(source, tmp_path):
    """Embeddings are often padded; with the tokenizer at hand it is known which rows have no id."""
    params, cfg = hugging_face.load(source)
    padded = params._replace(embed=np.concatenate([params.embed, np.zeros((4, cfg.d_model), np.float32)]))
    hugging_face.save(tmp_path / "padded", padded, dataclasses.replace(cfg, vocab_size=cfg.vocab_size + 4))
    _, wide = hugging_face.load(tmp_path / "padded")
    narrow = dataclasses.replace(wide, vocab_size=cfg.vocab_size)
    with pytest.raises(ValueError, match=rf"vocab_size is {cfg.vocab_size}.*padded.*up to {cfg.vocab_size + 3}"):
        hugging_face.save(tmp_path / "out", params, narrow)
    assert not (tmp_path / "out").exists()
    hugging_face.save(tmp_path / "out", params, narrow, tokenizer=hugging_face.load_tokenizer(source))
    assert config_of(tmp_path / "out")["eos_token_id"] == [6, 7]


@pytest.mark.parametrize("stranger", ["generation_config.json", "additional_chat_templates/tools.jinja"])
def test_files_of_another_model_that_would_be_believed_are_refused(source, tmp_path, monkeypatch, stranger):
    """Before any work; what is not refused is a model that says nothing of a tokenizer."""
    (source / stranger).unlink()
    (tmp_path / "out" / stranger).parent.mkdir(parents=True)
    (tmp_path / "out" / stranger).write_text("of another model")
    before, (params, cfg) = files(tmp_path / "out"), hugging_face.load(source)
    monkeypatch.setattr(palettizing, "weight_errors", lambda *_: pytest.fail("work was done before the refusal"))
    for write in (
        lambda: hugging_face.save(tmp_path / "out", params, cfg),
        lambda: palettizing.palettize_folder(source, tmp_path / "out", 3, progress=False),
        lambda: palettized.save(tmp_path / "out", quantize(params, 2), cfg),
    ):
        with pytest.raises(ValueError, match=rf"out holds {stranger}.*choose another folder, or remove it"):
            write()
    assert files(tmp_path / "out") == before
    hugging_face.save(tmp_path / "out", params, SMALL_LLAMA)
    assert files(tmp_path / "out").keys() == {stranger, "config.json", "model.safetensors"}


def test_the_config_is_the_plain_one_to_all_who_ask(source):
    _, cfg = hugging_face.load(source)
    assert len({cfg, SMALL_LLAMA}) == len({SMALL_LLAMA, cfg}) == 1  # equal and hashed alike, from both sides
    assert repr(cfg) == repr(SMALL_LLAMA) and cfg.to_dict() == SMALL_LLAMA.to_dict()
    assert cfg != dataclasses.replace(cfg, rope_theta=2.0) and cfg != 3

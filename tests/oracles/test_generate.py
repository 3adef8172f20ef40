"""Greedy tokens against transformers' own generate, on folders as their makers save them."""

import json

import numpy as np
import pytest

from afm_ref import __main__ as command_line
from afm_ref.generation import generate, prompt_ids
from afm_ref.interop import generation_config, hugging_face
from tests.interop.tokenizer_files import byte_level_json, sentencepiece_json
from tests.oracles import peers

FIELDS = dict(
    hidden_size=24, intermediate_size=40, num_hidden_layers=3, vocab_size=61, num_attention_heads=6,
    num_key_value_heads=2, head_dim=10, rms_norm_eps=1e-6, tie_word_embeddings=False,
    rope_parameters={"rope_type": "default", "rope_theta": 5e5},
    bos_token_id=None, eos_token_id=None, pad_token_id=0,
)  # fmt: skip
NEW = 24


def their_greedy(model, prompts):
    """Return (tokens [B, NEW], the smallest lead of a winner over the runner-up) from transformers' generate."""
    import torch

    T = max(map(len, prompts))
    ids = torch.tensor([[0] * (T - len(p)) + p for p in prompts])  # padded on the left, as it wants
    mask = torch.tensor([[0] * (T - len(p)) + [1] * len(p) for p in prompts])
    with torch.no_grad():
        out = model.generate(
            ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False,
            return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip
    top = torch.stack(out.logits).topk(2, dim=-1).values
    return out.sequences[:, T:].numpy(), float((top[..., 0] - top[..., 1]).min())


@pytest.mark.parametrize("kind, seed", [("qwen3", 0), ("llama", 0)])
def test_greedy_equals_transformers(transformers, tmp_path, kind, seed):
    fields = FIELDS
    model = peers.random_model(kind, seed=seed, **fields)
    model.save_pretrained(tmp_path)
    params, cfg = hugging_face.load(tmp_path)
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(1, cfg.vocab_size, n).tolist() for n in (9, 3, 17)]
    theirs, lead = their_greedy(model, prompts)
    assert lead > 1e-3, "choose another seed: two float32 programs may not agree on the winner"
    assert len({tuple(row) for row in theirs}) == 3 and len(set(theirs.ravel())) > 10
    np.testing.assert_array_equal(np.stack(generate(params, cfg, prompts, NEW)), theirs)
    alone, _ = their_greedy(model, prompts[:1])
    np.testing.assert_array_equal(np.stack(generate(params, cfg, prompts[:1], NEW)), alone)


@pytest.fixture(scope="module")
def folder(transformers, tmp_path_factory):
    """Return (a Llama's folder, a prompt, the tokens that it says without any settings)."""
    folder = tmp_path_factory.mktemp("llama")
    peers.random_model("llama", **FIELDS).save_pretrained(folder)
    prompt = [5, 6, 7, 5]
    return folder, prompt, their_tokens(folder, {}, {}, prompt)


def their_tokens(folder, config, generation, prompt):
    """Return transformers' greedy tokens with these keys in config.json and generation_config.json (None: no file)."""
    import torch
    import transformers

    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(fields | config))
    (folder / "generation_config.json").unlink(missing_ok=True)
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    return model.generate(torch.tensor([prompt]), max_new_tokens=NEW, do_sample=False)[0, len(prompt) :].tolist()


# Each: config.json and generation_config.json (None: no such file), the ids numbered by when the model first says them.
SETTINGS = {
    "EOS of config.json": ({"eos_token_id": 3}, None),
    "a list in config.json": ({"eos_token_id": [9, 3]}, None),
    "a list in generation_config.json": ({}, {"eos_token_id": [5, 4]}),
    "both: generation_config.json counts": ({"eos_token_id": 2}, {"eos_token_id": [5, 4]}),
    "generation_config.json without EOS": ({"eos_token_id": 2}, {"transformers_version": "4.51.0"}),
    "a penalty": ({}, {"repetition_penalty": 1.3}),
    "a bonus": ({}, {"repetition_penalty": 0.8}),
    "least new": ({}, {"eos_token_id": [2, 3], "min_new_tokens": 9}),
    "least of all": ({}, {"eos_token_id": [2, 3], "min_length": 11}),
    "suppressed": ({}, {"suppress_tokens": [1, 4]}),
    "suppressed at first": ({}, {"begin_suppress_tokens": [0, 4]}),
    "all": (
        {},
        {"repetition_penalty": 1.2, "min_new_tokens": 5, "min_length": 3, "suppress_tokens": [1],
         "eos_token_id": [2, 3], "begin_suppress_tokens": [0], "temperature": 0.6, "top_k": 20, "do_sample": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_a_folders_settings_equal_transformers(folder, name):
    folder, prompt, free = folder
    said = list(dict.fromkeys(free))
    config, generation = [None if part is None else _with_ids(part, said) for part in SETTINGS[name]]
    theirs = their_tokens(folder, {"eos_token_id": None} | config, generation, prompt)
    params, cfg = hugging_face.load(folder)
    decoding = generation_config.read(folder)
    (ours,) = generate(params, cfg, [prompt], NEW, stop=decoding.stop, rules=decoding.rules)
    assert ours.tolist() == theirs
    assert (theirs == free) == (name == "generation_config.json without EOS"), "the setting must show"


def _with_ids(fields, said):
    def ids(key, value):
        return [said[i] for i in value] if isinstance(value, list) else said[value] if key == "eos_token_id" else value

    return {key: ids(key, value) for key, value in fields.items()}


def test_every_field_of_theirs_is_known_here(transformers):
    fields = {name for name in vars(transformers.GenerationConfig()) if not name.startswith("_")}
    ours = [generation_config.READ, generation_config.HARMLESS, generation_config.NEUTRAL.keys()]
    assert not fields - set().union(*ours)
    assert sum(map(len, ours)) == len(set().union(*ours))  # each in one place
    defaults = transformers.GenerationConfig()._get_default_generation_params()
    for name, allowed in generation_config.NEUTRAL.items():
        assert defaults.get(name) in (None, *(allowed if isinstance(allowed, tuple) else (allowed,))), name


TOKENIZERS = {
    "BOS template": (byte_level_json, 260, {"add_bos_token": False}),
    "padded rows": (byte_level_json, 288, {}),
    "SentencePiece": (sentencepiece_json, 307, {"add_bos_token": False, "add_eos_token": True}),
    "SentencePiece, padded rows": (sentencepiece_json, 320, {}),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_command_prints_what_transformers_says(transformers, tmp_path, capsys, name):
    """Ids of the prompt, tokens and text; what tokenizer_config.json says of BOS and EOS does not count."""
    import torch

    make, rows, settings = TOKENIZERS[name]
    fields = FIELDS | {"vocab_size": rows, "eos_token_id": None}
    model = peers.random_model("qwen3", seed=1, **fields)
    if "padded" in name:  # let it say such rows
        model.lm_head.weight.data[-16:] *= 1.4
    model.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(make(), encoding="utf-8")
    names = {"bos_token": "<s>", "eos_token": "</s>"} if make is sentencepiece_json else {"bos_token": "<|begin|>"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"} | names | settings
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    tokenizer = hugging_face.load_tokenizer(tmp_path)
    for text in ("the cat", "  the <|end|></s> mat", "caf\u00e9 \U0001f600", ""):
        assert tokenizer.prompt_ids(text).tolist() == theirs(text).input_ids
    ids = theirs("the cat", return_tensors="pt").input_ids
    said = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False)[0]
    assert len(set(said.tolist())) > 8 and (int(said.max()) >= tokenizer.vocab_size) == ("padded" in name)
    params, cfg = hugging_face.load(tmp_path)
    (ours,) = generate(params, cfg, [prompt_ids(tokenizer, "the cat")], NEW)
    assert ours.tolist() == said[ids.shape[1] :].tolist()
    arguments = ["generate", "--model", str(tmp_path), "--prompt", "the cat", "--max-new-tokens", str(NEW)]
    assert command_line.main(arguments) == 0
    assert capsys.readouterr().out == theirs.decode(said, skip_special_tokens=True) + "\n"

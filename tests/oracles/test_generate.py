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
    settings = dict(max_new_tokens=NEW, do_sample=False, return_dict_in_generate=True, output_logits=True)
    with torch.no_grad():
        out = model.generate(ids, attention_mask=mask, **settings)
    top = torch.stack(out.logits).topk(2, dim=-1).values
    return out.sequences[:, T:].numpy(), float((top[..., 0] - top[..., 1]).min())


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_greedy_equals_transformers(transformers, tmp_path, kind):
    model = peers.random_model(kind, **FIELDS)
    model.save_pretrained(tmp_path)
    params, cfg = hugging_face.load(tmp_path)
    rng = np.random.default_rng(0)
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


# Each: config.json and generation_config.json (None: no such file), given the tokens as the model first says them.
SETTINGS = {
    "EOS of config.json": lambda s: ({"eos_token_id": s[3]}, None),
    "a list in config.json": lambda s: ({"eos_token_id": [s[9], s[3]]}, None),
    "a list in generation_config.json": lambda s: ({}, {"eos_token_id": [s[5], s[4]]}),
    "both: generation_config.json counts": lambda s: ({"eos_token_id": s[2]}, {"eos_token_id": [s[5], s[4]]}),
    "generation_config.json without EOS": lambda s: ({"eos_token_id": s[2]}, {"transformers_version": "4.51.0"}),
    "a penalty": lambda s: ({}, {"repetition_penalty": 1.3}),
    "a bonus": lambda s: ({}, {"repetition_penalty": 0.8}),
    "least new": lambda s: ({}, {"eos_token_id": s[2:4], "min_new_tokens": 9}),
    "least of all": lambda s: ({}, {"eos_token_id": s[2:4], "min_length": 11}),
    "suppressed": lambda s: ({}, {"suppress_tokens": [s[1], s[4]]}),
    "suppressed at first": lambda s: ({}, {"begin_suppress_tokens": [s[0], s[4]]}),
    "all": lambda s: ({}, {
        "repetition_penalty": 1.2, "min_new_tokens": 5, "min_length": 3, "suppress_tokens": s[1:2],
        "eos_token_id": s[2:4], "begin_suppress_tokens": s[:1], "temperature": 0.6, "top_k": 20, "do_sample": True,
    }),
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_a_folders_settings_equal_transformers(folder, name):
    folder, prompt, free = folder
    config, generation = SETTINGS[name](list(dict.fromkeys(free)))
    theirs = their_tokens(folder, {"eos_token_id": None} | config, generation, prompt)
    params, cfg = hugging_face.load(folder)
    decoding = generation_config.read(folder)
    (ours,) = generate(params, cfg, [prompt], NEW, stop=decoding.stop, rules=decoding.rules)
    assert ours.tolist() == theirs
    assert (theirs == free) == (name == "generation_config.json without EOS"), "the setting must show"


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
    model = peers.random_model("qwen3", seed=1, **FIELDS | {"vocab_size": rows})
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

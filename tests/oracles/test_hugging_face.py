"""Folders and logits against transformers: what its save_pretrained writes we read, what we save it reads."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from afm_ref.data import tokenizer as own_tokenizer
from afm_ref.interop import hugging_face, palettized, palettizing
from afm_ref.interop.foreign_tokenizer import ForeignTokenizer
from afm_ref.transformer import forward
from tests.interop import models
from tests.interop.models import LLAMA, QWEN3, assert_close, float32_unit, logits_float64, random_params, random_tokens
from tests.interop.test_config_json import SAYS, SAYS_NOTHING
from tests.interop.tokenizer_files import byte_level_json
from tests.oracles import peers

# (kind, N, K, H or None, D, tied): groups of 1, 3 and 4, one key head, H above and below D / N, H / 2 odd
CASES = [
    ("qwen3", 4, 4, 6, 20, False),
    ("qwen3", 6, 2, 10, 24, True),
    ("qwen3", 8, 2, 2, 15, False),
    ("qwen3", 1, 1, 14, 9, True),
    ("llama", 4, 4, None, 24, False),
    ("llama", 6, 2, None, 36, True),
    ("llama", 8, 2, 10, 16, False),
    ("llama", 3, 1, 6, 33, True),
]


def fields(N, K, H, D, tied):
    shape = {"hidden_size": D, "intermediate_size": 21, "num_hidden_layers": 3, "vocab_size": 23}
    heads = {"num_attention_heads": N, "num_key_value_heads": K} | ({"head_dim": H} if H else {})
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}
    return shape | heads | rope | {"tie_word_embeddings": tied, "rms_norm_eps": 1e-4}


@pytest.mark.parametrize("kind, N, K, H, D, tied", CASES)
def test_logits_equal_transformers_in_float64(transformers, tmp_path, kind, N, K, H, D, tied):
    with peers.exact_torch():
        model = peers.random_model(kind, seed=N, **fields(N, K, H, D, tied))
        model.save_pretrained(tmp_path)
        params, cfg = hugging_face.load(tmp_path)
        tokens = random_tokens(cfg, (2, 37))
        theirs = peers.torch_logits(model.double(), tokens)
    ours = logits_float64(params, tokens, cfg)
    assert theirs.dtype == np.float64
    assert_close(ours, theirs, float32_unit(params, tokens, cfg), "float64")


UNCOMMON = {
    **SAYS_NOTHING, **{key: neutral for key, (neutral, _) in SAYS.items()}, "torchscript": True, "prefix": "x",
    "max_position_embeddings": 8, "pretraining_tp": 2, "attention_dropout": 0.5, "initializer_range": 0.9,
    "num_key_value_heads": None, "rope_theta": 5e5, "transformers.js_config": {"dtype": "q4"},
}  # fmt: skip
del UNCOMMON["_attn_implementation"]  # the same to other roundings


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_what_is_passed_over_changes_no_logit_in_transformers_either(transformers, tmp_path, kind):
    """All of it at once, far from the usual values, and positions beyond max_position_embeddings."""
    peers.random_model(kind, **fields(6, 6, 4, 24, False)).save_pretrained(tmp_path)
    path, (_, cfg) = tmp_path / "config.json", hugging_face.load(tmp_path)
    tokens, theirs = random_tokens(cfg, (2, 21)), []
    for uncommon in ({}, UNCOMMON):
        path.write_text(json.dumps(json.loads(path.read_text()) | uncommon))
        model = peers.read(tmp_path)
        theirs.append(peers.torch_logits(model, tokens))
    assert model.config.max_sequence_length == 2048 and model.config.is_llama_config  # it did read them
    np.testing.assert_array_equal(*theirs)
    assert hugging_face.load(tmp_path)[1] == cfg


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("tied", [False, True])
def test_shards_that_transformers_writes_are_read(transformers, tmp_path, dtype, tied):
    import torch

    model = peers.random_model("qwen3", **fields(6, 2, 4, 12, tied)).to(getattr(torch, dtype))
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="2KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 3
    one, many = hugging_face.load(tmp_path / "one"), hugging_face.load(tmp_path / "many")
    assert one[1] == many[1] and models.same_weights(one[0], many[0])
    state = model.state_dict()
    assert np.array_equal(many[0].embed, state["model.embed_tokens.weight"].float().numpy())
    assert np.array_equal(many[0].layers[2].wv, state["model.layers.2.self_attn.v_proj.weight"].float().numpy())
    assert (many[0].unembed is None) == tied


@pytest.mark.parametrize("dtype", [None, "bfloat16", "float16"])
@pytest.mark.parametrize(
    "cfg", [QWEN3, LLAMA, dataclasses.replace(LLAMA, tie_embeddings=False, rope_theta=1e4)], ids=str
)
def test_transformers_reads_what_we_save(transformers, tmp_path, cfg, dtype):
    params, tokens = random_params(cfg), random_tokens(cfg)
    hugging_face.save(tmp_path, params, cfg, dtype=dtype)
    model, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    assert str(model.dtype) == f"torch.{dtype or 'float32'}"
    assert model.config.rms_norm_eps == cfg.norm_eps and model.config.rope_parameters["rope_theta"] == cfg.rope_theta
    rounded, again = hugging_face.load(tmp_path)  # the bits that are in the file
    assert again == cfg
    names = dict(model.float().named_parameters())
    assert np.array_equal(names["model.layers.1.mlp.down_proj.weight"].detach().numpy(), rounded.layers[1].w_down)
    theirs, unit = peers.torch_logits(model, tokens), float32_unit(rounded, tokens, cfg)
    assert_close(logits_float64(rounded, tokens, cfg), theirs, unit, "float32")


@pytest.mark.parametrize("kind", ["own", "byte level"])
@pytest.mark.parametrize("cfg", [QWEN3, LLAMA], ids=["qwen3", "llama"])
def test_transformers_reads_our_tokenizer(transformers, tmp_path, kind, cfg):
    tokenizer = ForeignTokenizer(byte_level_json())
    if kind == "own":
        tokenizer = own_tokenizer.train(["the cat and the hat, the mat 12 " * 20], vocab_size=370)
    cfg = dataclasses.replace(cfg, vocab_size=370)
    hugging_face.save(tmp_path, random_params(cfg), cfg, tokenizer=tokenizer)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in ("the hat, 12 cats", "  indented\n\n\ttext", "caf\u00e9 \u65e5\u672c \U0001f600", ""):
        ids = tokenizer.encode(text).tolist()
        assert theirs.encode(text, add_special_tokens=False) == ids
        assert theirs.decode(ids) == text


@pytest.mark.parametrize("xp", ["numpy", "jax"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_a_large_channel_in_16_bits(transformers, tmp_path, kind, dtype, xp):
    """Real models have a channel of several hundred in the stream. Both round; neither may be much further off."""
    import torch

    model = peers.random_model(kind, **fields(4, 2, 32, 256, False))
    model.model.embed_tokens.weight.data[:, 7] = 900.0
    model = model.to(getattr(torch, dtype))
    model.save_pretrained(tmp_path)
    params, cfg = hugging_face.load(tmp_path, dtype)
    tokens = random_tokens(cfg, (2, 600))
    exact = logits_float64(params, tokens, cfg)
    params = params if xp == "numpy" else jax.device_put(params)
    with torch.no_grad():
        theirs = model(torch.as_tensor(tokens.astype(np.int64))).logits.float().numpy()
    ours = np.asarray(forward(params, tokens, cfg))
    assert ours.dtype == np.dtype(dtype)
    errors = [np.abs(z.astype(np.float64) - exact) for z in (ours, theirs)]
    mean, their_mean = (np.sqrt((error**2).mean()) for error in errors)
    print(f"root mean square error {mean:.2e}, transformers {their_mean:.2e}")  # pytest -rP
    assert mean < 1.5 * their_mean
    top = np.sort(exact, axis=-1)
    clear = top[..., -1] - top[..., -2] > 2 * errors[1].max()  # where rounding cannot change the winner
    assert clear.mean() > 0.3 and (ours.argmax(-1) == exact.argmax(-1))[clear].all()


CHAT = "{% for m in messages %}<|begin|>{{ m.role }}: {{ m.content }}<|end|>{% endfor %}"


def published(transformers, folder, kind):
    """Write a folder as others publish theirs: a tokenizer with a chat template, generation settings, several ends."""
    shape = fields(6, 2, 4, 12, False) | {"vocab_size": 264, "max_position_embeddings": 16384}
    model = peers.random_model(kind, **shape, bos_token_id=258, eos_token_id=[259, 7], pad_token_id=3, use_cache=False)
    model.generation_config = transformers.GenerationConfig(eos_token_id=[259, 7, 9], do_sample=True, top_k=7)
    model.save_pretrained(folder)
    spec = folder / "spec.json"
    spec.write_text(byte_level_json())
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(spec), bos_token="<|begin|>", eos_token="<|end|>", pad_token="<|end|>", model_max_length=77
    )
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
@pytest.mark.parametrize("written", ["saved", "palettized on disk", "palettized, and saved again"])
def test_transformers_hears_the_same_from_what_is_written(transformers, tmp_path, written, kind):
    """Configuration, generation settings, tokenizer and chat template of the source, as transformers reads them."""
    source, between, out = (tmp_path / name for name in ("source", "between", "out"))
    published(transformers, source, kind)
    if written == "saved":
        hugging_face.save(out, *hugging_face.load(source))
    else:
        palettizing.palettize_folder(source, out if "disk" in written else between, 2, progress=False)
    if "again" in written:
        palettized.save(out, *palettized.load(between))

    def heard(folder):
        generation = transformers.GenerationConfig.from_pretrained(folder).to_dict()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        text = tokenizer.apply_chat_template([{"role": "user", "content": "the hat"}], tokenize=False)
        ids = tokenizer("the hat").input_ids
        return generation, tokenizer.special_tokens_map, tokenizer.model_max_length, text, ids

    assert heard(out) == heard(source)
    assert heard(out)[0]["eos_token_id"] == [259, 7, 9] and heard(out)[3] == "<|begin|>user: the hat<|end|>"
    if written == "saved":
        theirs, ours = (transformers.AutoConfig.from_pretrained(folder).to_dict() for folder in (source, out))
        assert ours == theirs | {"_name_or_path": ours["_name_or_path"]}
        assert (ours["eos_token_id"], ours["max_position_embeddings"]) == ([259, 7], 16384)

"""generation_config.json: what is read and refused, which file counts. tests/oracles compares with transformers."""

import json

import pytest

from afm_ref.generation import LogitRules
from afm_ref.interop.generation_config import Decoding, read


def write(folder, generation=None, **config):
    """Write config.json, and generation_config.json if given; return the folder."""
    (folder / "config.json").write_text(json.dumps({"vocab_size": 100} | config))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


def test_what_real_folders_say_is_read(tmp_path):
    """But for rows that the model has not, which are never said."""
    settings = {
        "_from_model_config": True, "bos_token_id": 1, "do_sample": True, "eos_token_id": [45, 43], "max_new_tokens": 7,
        "pad_token_id": 43, "repetition_penalty": 1.05, "temperature": 0.7, "top_k": 20, "top_p": 0.8,
        "transformers_version": "4.37.0", "min_p": None, "num_beams": 1, "suppress_tokens": [3],
    }  # fmt: skip
    assert read(write(tmp_path)) == read(write(tmp_path, {})) == Decoding() == Decoding((), LogitRules(), None, None)
    assert read(write(tmp_path, settings)) == ((43, 45), LogitRules(1.05, suppress_tokens=(3,)), 7, None)
    settings = {"eos_token_id": [99, 100, -1], "suppress_tokens": [100]}
    assert read(write(tmp_path, settings)) == Decoding(stop=(99,))


def test_config_json_counts_only_alone(tmp_path):
    assert read(write(tmp_path, eos_token_id=[9, 8])).stop == (8, 9)
    assert read(write(tmp_path, eos_token_id=9, repetition_penalty=2.0)).rules.repetition_penalty == 2.0
    assert read(write(tmp_path, {"eos_token_id": 7}, eos_token_id=9)).stop == (7,)
    assert read(write(tmp_path, {"temperature": 0.5}, eos_token_id=9)) == Decoding()


@pytest.mark.parametrize(
    "key, value",
    [
        ("no_repeat_ngram_size", 3), ("encoder_repetition_penalty", 1.1), ("bad_words_ids", [[5]]),
        ("forced_bos_token_id", 1), ("forced_eos_token_id", 0), ("sequence_bias", [[[5], 1.0]]),
        ("exponential_decay_length_penalty", [5, 1.1]), ("num_beams", 2), ("num_beam_groups", 2),
        ("guidance_scale", 1.5), ("penalty_alpha", 0.6), ("dola_layers", "high"), ("stop_strings", ["x"]),
        ("watermarking_config", {}), ("token_healing", True), ("max_time", 1.0), ("num_return_sequences", 2),
        ("encoder_no_repeat_ngram_size", 2), ("cache_implementation", "quantized"), ("is_assistant", True),
        ("assistant_ensemble_weight", 0.5), ("force_words_ids", [[1]]), ("a_penalty_of_tomorrow", 1.5),
        ("eos_token_id", "</s>"), ("eos_token_id", [1, None]), ("eos_token_id", True), ("suppress_tokens", [1.5]),
        ("repetition_penalty", 0), ("repetition_penalty", "1"), ("min_new_tokens", -1), ("min_length", 2.5),
        ("max_new_tokens", "9"), ("max_length", -2),
    ],
)  # fmt: skip
def test_what_would_change_tokens_is_refused_by_name(tmp_path, key, value):
    with pytest.raises(ValueError, match=rf"generation_config\.json: {key}"):
        read(write(tmp_path, {key: value}))

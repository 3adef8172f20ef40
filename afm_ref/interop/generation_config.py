"""generation_config.json: how the maker of a model wants its tokens to be chosen.

    decoding = read(folder)
    stream_text(params, cfg, tokenizer, prompt, 50, stop=decoding.stop, rules=decoding.rules)

gives the tokens of transformers' `generate(do_sample=False)` on that folder. As there, a
generation_config.json stands for all settings: the EOS of config.json counts only where
there is no such file.
"""

from pathlib import Path
from typing import NamedTuple

from afm_ref.disk.text_files import naming, read_json
from afm_ref.generation import LogitRules
from afm_ref.generation.sampling import checked_number

from .folder_config import names, refuse_other_keys

# Read into Decoding. Their own neutral values are those of LogitRules.
READ = names("""
    begin_suppress_tokens eos_token_id max_length max_new_tokens min_length min_new_tokens
    repetition_penalty suppress_tokens
""")
# Leaves greedy tokens alone: what only sampling, only a search with several beams, or only
# an encoder looks at; speed; what is returned beside the tokens; bookkeeping.
HARMLESS = names("""
    assistant_confidence_threshold assistant_early_exit assistant_lookbehind
    attn_implementation bos_token_id cache_config chat_format compile_config
    continuous_batching_config decoder_start_token_id disable_compile do_sample
    early_stopping epsilon_cutoff eta_cutoff length_penalty low_memory max_cache_len
    max_matching_ngram_size max_window_size min_p num_assistant_tokens
    num_assistant_tokens_schedule output_attentions output_hidden_states output_logits
    output_scores pad_token_id prefill_chunk_size prompt_lookup_num_tokens
    remove_invalid_values renormalize_logits return_dict_in_generate speculation_type
    target_lookbehind temperature top_h top_k top_p transformers_version trust_remote_code
    typical_p use_cache use_mtp
""")
# Changes greedy tokens at any value.
ALWAYS_UNSET = names("""
    assistant_ensemble_weight bad_words_ids constraints dola_layers
    exponential_decay_length_penalty force_words_ids forced_bos_token_id forced_eos_token_id
    max_time sequence_bias stop_strings watermarking_config
""")
# Changes greedy tokens at any other value. None always stands for "not set".
NEUTRAL = {
    "cache_implementation": (
        "dynamic",
        "dynamic_full",
        "hybrid",
        "offloaded",
        "offloaded_static",
        "static",
    ),
    "diversity_penalty": 0.0,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "guidance_scale": 1.0,
    "is_assistant": False,
    "no_repeat_ngram_size": 0,
    "num_beam_groups": 1,
    "num_beams": 1,
    "num_return_sequences": 1,
    "penalty_alpha": 0.0,
    "token_healing": False,
}
NEUTRAL |= dict.fromkeys(ALWAYS_UNSET, ())


class Decoding(NamedTuple):
    """What a model folder says about the choice of tokens."""

    stop: tuple[int, ...] = ()  # a text ends with one of them
    rules: LogitRules = LogitRules()
    max_new_tokens: int | None = None
    max_length: int | None = None  # the prompt counted; max_new_tokens goes before it

    def most_new(self, prompt_length: int, default: int) -> int:
        """Return how many new tokens to make after such a prompt: max_new_tokens, or the
        default up to max_length.

        Raises ValueError if max_length leaves no room for one.
        """
        if self.max_new_tokens is not None:
            return self.max_new_tokens
        if self.max_length is None:
            return default
        if prompt_length >= self.max_length:
            raise ValueError(
                f"the prompt has {prompt_length} tokens and the folder's max_length is {self.max_length}: give "
                "--max-new-tokens"
            )
        return min(default, self.max_length - prompt_length)


def read(folder: str | Path) -> Decoding:
    """Return the settings of a folder's generation_config.json, or of its config.json where
    that file is missing.

    Every key must be one that is read, one that leaves greedy tokens alone, or one that
    would change them but stands at its neutral value; all others raise ValueError with the
    file and the key. Token ids beyond the model's rows are never chosen and are left out.

    Source: transformers' GenerationConfig for names, defaults and which file counts
        [standard].
    Test: tests/oracles/test_generate.py::test_a_folders_settings_equal_transformers
    """
    path = Path(folder) / "config.json"
    known = None
    fields = config = read_json(path)
    if (own := path.with_name("generation_config.json")).is_file():
        path = own
        fields = read_json(own)
        known = READ | HARMLESS
    given = {
        key: value
        for key, value in fields.items()
        if value is not None and not key.startswith(("_", "transformers."))
    }
    with naming(path, TypeError):
        refuse_other_keys(given, known or given, NEUTRAL)
        return _decoding(given, config.get("vocab_size"))


def _decoding(fields, rows):
    ids = {
        name: _token_ids(fields, name, rows)
        for name in ("suppress_tokens", "begin_suppress_tokens")
    }
    least = _counts(fields, "min_new_tokens", "min_length")
    penalty = fields.get("repetition_penalty", 1.0)
    rules = LogitRules(penalty, **least, **ids).check()
    most = _counts(fields, "max_new_tokens", "max_length")
    return Decoding(_token_ids(fields, "eos_token_id", rows), rules, **most)


def _token_ids(fields, name, rows):
    """Return the ids that a key holds, one or a list of them, if the model has such rows."""
    value = fields.get(name, [])
    ids = value if isinstance(value, list) else [value]
    if any(isinstance(token, bool) or not isinstance(token, int) for token in ids):
        raise ValueError(f"{name} = {value!r} must be a token id or a list of them")
    return tuple(sorted(token for token in set(ids) if 0 <= token < (rows or 0)))


def _counts(fields, *names):
    """Return the whole numbers of those keys that are there."""
    there = [name for name in names if name in fields]
    return {name: checked_number(name, fields[name], whole=True) for name in there}

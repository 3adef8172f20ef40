"""Faults that the tests of generating with other people's models must notice."""

from tools.mutate import Mutation

DECODING, STREAMING = "afm_ref/generation/decoding.py", "afm_ref/generation/streaming.py"
SAMPLING, TOKENIZER = "afm_ref/generation/sampling.py", "afm_ref/data/tokenizer.py"
INTEROP, TESTS = "afm_ref/interop/", "tests/generation/test_generate.py::"
RULES = "tests/generation/test_logit_rules.py::test_rules_equal_a_loop_over_the_full_forward"

MUTATIONS = [
    Mutation(
        "a tokenizer.json cuts every text as its last user did",
        TOKENIZER,
        "        backend.no_truncation()\n",
        "",
        "tests/interop/test_tokenizers.py::test_settings_of_somebodys_last_call_are_switched_off",
    ),
    Mutation(
        "a tokenizer.json pads every text as its last user did",
        TOKENIZER,
        "        backend.no_padding()\n",
        "",
        "tests/interop/test_tokenizers.py::test_our_own_format_saved_after_a_call_is_read_the_same",
    ),
    Mutation(
        "a tokenizer.json with dropout leaves out merges at random",
        TOKENIZER,
        "backend.model.dropout = None",
        "backend.model.dropout = backend.model.dropout",
        "tests/interop/test_tokenizers.py::test_settings_of_somebodys_last_call_are_switched_off",
    ),
    Mutation(
        "a prompt has no BOS though the tokenizer's template adds one",
        INTEROP + "foreign_tokenizer.py",
        "markers=True, template=True",
        "markers=True, template=False",
        TESTS + "test_a_text_begins_as_the_tokenizer_says",
    ),
    Mutation(
        "a token that only tokenizer_config.json calls special is shown",
        INTEROP + "foreign_tokenizer.py",
        "is not None and not known.get(token)",
        "is not None and token in known",
        "tests/interop/test_tokenizers.py::test_tokens_named_as_special_are_special",
    ),
    Mutation(
        "a continuation is decoded by itself and loses its first space",
        STREAMING,
        "list(prompt_ids), decode(prompt_ids), 0",
        '[], "", 0',
        TESTS + "test_a_continuation_keeps_its_first_space",
    ),
    Mutation(
        "a run of bytes is shown before it is known to be UTF-8",
        STREAMING,
        "decode(settled(ids)).rstrip",
        "decode(ids).rstrip",
        TESTS + "test_bytes_of_a_foreign_tokenizer_come_when_their_run_is_over",
    ),
    Mutation(
        "config.json's EOS counts beside generation_config.json",
        INTEROP + "generation_config.py",
        "return _decoding(given,",
        'return _decoding({"eos_token_id": config.get("eos_token_id")} | given,',
        "tests/interop/test_generation_config.py::test_config_json_counts_only_alone",
    ),
    Mutation(
        "the command does not stop at the folder's EOS",
        "afm_ref/cli/generate.py",
        "stop=decoding.stop + ends",
        "stop=ends",
        "tests/generation/test_command_line.py::test_another_models_folder_begins_ends_and_reads_as_its_files_say",
    ),
    Mutation(
        "the repetition penalty makes unlikely tokens likelier",
        SAMPLING,
        "jnp.where(logits > 0, logits / rules.penalty, logits * rules.penalty)",
        "logits / rules.penalty",
        "tests/generation/test_logit_rules.py::test_logits_after_the_rules_worked_out_by_hand",
    ),
    Mutation(
        "the repetition penalty forgets what was said",
        DECODING,
        "return None if seen is None else seen.at[jnp.arange(token.shape[0]), token].set(True)",
        "return seen",
        RULES,
    ),
    Mutation(
        "the repetition penalty takes padding for said",
        DECODING,
        ".at[rows, prompts].max(real)",
        ".at[rows, prompts].set(True)",
        RULES,
    ),
    Mutation(
        "a text may not end at its least length either",
        SAMPLING,
        "positions < rules.may_stop",
        "positions <= rules.may_stop",
        RULES,
    ),
    Mutation(
        "min_length counts new tokens only",
        SAMPLING,
        "np.maximum(lengths + rules.min_new_tokens, rules.min_length)",
        "lengths + np.maximum(rules.min_new_tokens, rules.min_length)",
        RULES,
    ),
    Mutation(
        "a chat template may change what it is given",
        INTEROP + "chat_sandbox.py",
        "found = sandbox.ImmutableSandboxedEnvironment(",
        "found = sandbox.SandboxedEnvironment(",
        "tests/interop/test_chat_template.py::test_what_fails_or_asks_for_too_much_is_one_line",
    ),
    Mutation(
        "a chat template may run for ever",
        INTEROP + "chat_sandbox.py",
        '"CPU": cpu_s, ',
        "",
        "tests/interop/test_chat_template.py::test_what_never_ends_is_ended",
    ),
]

"""Faults that the tests of generating with other people's models must notice."""

from tools.mutate import faults

MUTATIONS = faults("""
afm_ref/data/tokenizer.py
  a tokenizer.json cuts every text as its last user did
    -         backend.no_truncation()
    -
    tests/interop/test_tokenizers.py::test_settings_of_somebodys_last_call_are_switched_off
  a tokenizer.json pads every text as its last user did
    -         backend.no_padding()
    -
    tests/interop/test_tokenizers.py::test_our_own_format_saved_after_a_call_is_read_the_same
  a tokenizer.json with dropout leaves out merges at random
    - backend.model.dropout = None
    + backend.model.dropout = backend.model.dropout
    tests/interop/test_tokenizers.py::test_settings_of_somebodys_last_call_are_switched_off
afm_ref/interop/foreign_tokenizer.py
  a prompt has no BOS though the tokenizer's template adds one
    - markers=True, template=True
    + markers=True, template=False
    tests/generation/test_generate.py::test_a_text_begins_as_the_tokenizer_says
  a token that only tokenizer_config.json calls special is shown
    - is not None and not known.get(token)
    + is not None and token in known
    tests/interop/test_tokenizers.py::test_tokens_named_as_special_are_special
afm_ref/generation/streaming.py
  a continuation is decoded by itself and loses its first space
    - list(prompt_ids), decode(prompt_ids), 0
    + [], "", 0
    tests/generation/test_generate.py::test_a_continuation_keeps_its_first_space
  a run of bytes is shown before it is known to be UTF-8
    - decode(settled(ids)).rstrip
    + decode(ids).rstrip
    tests/generation/test_generate.py::test_bytes_of_a_foreign_tokenizer_come_when_their_run_is_over
afm_ref/interop/generation_config.py
  config.json's EOS counts beside generation_config.json
    - return _decoding(given,
    + return _decoding({"eos_token_id": config.get("eos_token_id")} | given,
    tests/interop/test_config_json.py::test_config_json_counts_only_alone
afm_ref/cli/generate.py
  the command does not stop at the folder's EOS
    - stop=decoding.stop + ends
    + stop=ends
    tests/generation/test_command_line.py::test_another_models_folder_begins_ends_and_reads_as_its_files_say
afm_ref/generation/sampling.py
  the repetition penalty makes unlikely tokens likelier
    - jnp.where(logits > 0, logits / rules.penalty, logits * rules.penalty)
    + logits / rules.penalty
    tests/generation/test_generate.py::test_logits_after_the_rules_worked_out_by_hand
  a draw passes the last token that has a probability
    - goal = jnp.minimum(goal, jnp.nextafter(upto[:, -1], 0))
    + goal = 1 * goal
    tests/generation/test_sampling.py::test_a_filtered_token_is_never_drawn
afm_ref/generation/decoding.py
  the repetition penalty forgets what was said
    - return None if seen is None else seen.at[jnp.arange(token.shape[0]), token].set(True)
    + return seen
    tests/generation/test_generate.py::test_rules_equal_a_loop_over_the_full_forward
  the repetition penalty takes padding for said
    - .at[rows, prompts].max(real)
    + .at[rows, prompts].set(True)
    tests/generation/test_generate.py::test_rules_equal_a_loop_over_the_full_forward
afm_ref/generation/sampling.py
  a text may not end at its least length either
    - positions < rules.may_stop
    + positions <= rules.may_stop
    tests/generation/test_generate.py::test_rules_equal_a_loop_over_the_full_forward
  min_length counts new tokens only
    - np.maximum(lengths + rules.min_new_tokens, rules.min_length)
    + lengths + np.maximum(rules.min_new_tokens, rules.min_length)
    tests/generation/test_generate.py::test_rules_equal_a_loop_over_the_full_forward
afm_ref/interop/chat_sandbox.py
  a chat template may change what it is given
    - found = sandbox.ImmutableSandboxedEnvironment(
    + found = sandbox.SandboxedEnvironment(
    tests/interop/test_tokenizers.py::test_what_fails_or_asks_for_too_much_is_one_line
  a chat template may run for ever
    - "CPU": cpu_s,
    tests/interop/test_tokenizers.py::test_what_never_ends_is_ended
""")

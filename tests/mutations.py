"""Faults that a test must notice. Not collected by pytest; CI runs it.

    python -m tests.mutations [-k TEXT] [--jobs N]

Each is applied to a copy of the tree (never to this one), where the named test must fail. Every chapter adds its own:
take the mistakes that someone would really make.
"""

import sys

from tools.mutate import Mutation, main

OPS, TRANSFORMER, LOSSES = "afm_ref/ops.py", "afm_ref/transformer.py", "afm_ref/losses.py"
PACKING = "afm_ref/data/packing.py"
MODEL_TESTS = "tests/transformer/test_transformer.py::"

MUTATIONS = [
    Mutation(
        "RoPE's layouts are swapped",
        OPS,
        'if layout == "interleaved":',
        'if layout != "interleaved":',
        "tests/transformer/test_ops.py::test_rope_is_complex_multiplication",
    ),
    Mutation(
        "RMSNorm adds eps outside the root",
        OPS,
        "xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + eps)",
        "(xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True)) + eps)",
        "tests/transformer/test_ops.py::test_rms_norm_closed_form",
    ),
    Mutation(
        "attention forgets its scale",
        OPS,
        "(q * H**-0.5) @",
        "q @",
        "tests/transformer/test_ops.py::test_attention_equals_loops",
    ),
    Mutation(
        "query heads are dealt to key heads in turn (tile) and not in groups (repeat)",
        OPS,
        "xp.transpose(q.reshape(B, T, K, G, H), (0, 2, 3, 1, 4))",
        "xp.transpose(q.reshape(B, T, G, K, H), (0, 3, 2, 1, 4))",
        "tests/transformer/test_ops.py::test_attention_equals_loops",
    ),
    Mutation(
        "silu acts on the wrong half of SwiGLU",
        OPS,
        "silu(linear(x, w_gate)) * linear(x, w_up)",
        "linear(x, w_gate) * silu(linear(x, w_up))",
        "tests/transformer/test_ops.py::test_swiglu_is_not_symmetric_in_its_halves",
    ),
    Mutation(
        "softmax overflows",
        OPS,
        "xp.exp(x - stop_gradient(xp.max(x, axis=-1, keepdims=True)))",
        "xp.exp(x)",
        "tests/transformer/test_ops.py::test_softmax_survives_large_logits",
    ),
    Mutation(
        "the causal mask lets the next token through",
        TRANSFORMER,
        "positions[:, :, None] >= key_positions[:, None, :]",
        "positions[:, :, None] >= key_positions[:, None, :] - 1",
        MODEL_TESTS + "test_the_future_does_not_reach_the_past",
    ),
    Mutation(
        "packed documents see each other",
        TRANSFORMER,
        "if self.documents is not None:",
        "if False:",
        MODEL_TESTS + "test_documents_in_one_row_do_not_see_each_other",
    ),
    Mutation(
        "qk-norm comes before the rotation",
        TRANSFORMER,
        'if cfg.qk_norm == "before_rope":',
        'if cfg.qk_norm == "after_rope":',
        "tests/interop/test_golden.py::test_logits_equal_golden",
    ),
    Mutation(
        "the output head is always tied",
        TRANSFORMER,
        "params.embed if params.unembed is None else params.unembed",
        "params.embed",
        "tests/interop/test_golden.py::test_logits_equal_golden",
    ),
    Mutation(
        "the loss counts masked targets",
        LOSSES,
        "-(log_probs * batch.weights).sum()",
        "-log_probs.sum()",
        "tests/transformer/test_losses.py::test_next_token_equals_its_definition",
    ),
    Mutation(
        "the KV cache is counted for all query heads",
        "afm_ref/config.py",
        "2 * cfg.n_layers * cfg.n_kv_heads * cfg.head_dim",
        "2 * cfg.n_layers * cfg.n_heads * cfg.head_dim",
        "tests/config/test_config.py::test_on_device_reproduces_the_published_counts",
    ),
    Mutation(
        "Qwen3 files are read as normalised after RoPE",
        "afm_ref/interop/config_json.py",
        '"qwen3": "before_rope"',
        '"qwen3": "after_rope"',
        "tests/interop/test_golden.py::test_logits_equal_golden",
    ),
    Mutation(
        "a layout conversion forgets the keys",
        "afm_ref/interop/rope_layout.py",
        'wk=rows("wk"),',
        "wk=layer.wk,",
        "tests/interop/test_rope_layout.py::test_logits_do_not_change",
    ),
    Mutation(
        "a save writes over the old file in place",
        "afm_ref/interop/tensor_files.py",
        'folder / f".{name}.{os.getpid()}.tmp" for',
        "folder / name for",
        "tests/interop/test_hugging_face.py::test_a_failure_while_writing_leaves_the_folder_as_it_was",
    ),
    Mutation(
        "a target may begin another document",
        PACKING,
        "same = (documents[:, 1:] == documents[:, :-1]) & (documents[:, 1:] != NO_DOCUMENT) & trained[:, 1:]",
        "same = (documents[:, 1:] != NO_DOCUMENT) & trained[:, 1:]",
        "tests/data/test_packing.py::test_rows_by_hand",
    ),
    Mutation(
        "the prompt is trained on",
        PACKING,
        "trained[row, start : len(ids)] = ids, row, True",
        "trained[row, : len(ids)] = ids, row, True",
        "tests/data/test_packing.py::test_conversations_train_the_response_alone",
    ),
    Mutation(
        "a typed <|eos|> becomes the special token",
        "afm_ref/data/tokenizer.py",
        "self._plain.encode_special_tokens = True",
        "self._plain.encode_special_tokens = False",
        "tests/data/test_tokenizer.py::test_typed_markers_stay_text",
    ),
    Mutation(
        "held-out text keeps a run of 13 words in common with training text",
        "afm_ref/data/overlap.py",
        "hits[hit][0] < right",
        "hits[hit][1] <= right",
        "tests/data/test_overlap.py::test_a_run_across_paragraphs_takes_both",
    ),
    Mutation(
        "held-out pairs of sender and topic are in training too",
        "afm_ref/data/tasks/grammar.py",
        '== (split == "held_out")',
        '== (split == "held_out") or split == "train"',
        "tests/data/test_tasks.py::test_sender_and_topic_pairs_are_disjoint",
    ),
    Mutation(
        "errors that a correction brings in do not count",
        "afm_ref/data/tasks/metrics.py",
        "return len(a) + len(b) - 2 * matched",
        "return len(b) - matched",
        "tests/data/test_metrics.py::test_scores_by_hand",
    ),
    Mutation(
        "Apple's optimizer multiplies weight decay by the learning rate",
        "afm_ref/pretraining/optimizer.py",
        "delta = scale * learning_rate * m + weight_decay * w",
        "delta = learning_rate * (scale * m + weight_decay * w)",
        "tests/pretraining/test_optimizer.py::test_weight_decay_is_not_multiplied_by_the_learning_rate",
    ),
    Mutation(
        "stacked layers share one clip of the update",
        "afm_ref/pretraining/optimizer.py",
        "lambda _: int(isinstance(node, Stacked))",
        "lambda _: 0",
        "tests/pretraining/test_optimizer.py::test_stacked_layers_train_as_separate_ones",
    ),
    Mutation(
        "a skipped step still counts",
        "afm_ref/pretraining/optimizer.py",
        "AFMState(jnp.where(take, t, state.count), v, m)",
        "AFMState(t, v, m)",
        "tests/pretraining/test_optimizer.py::test_a_skipped_step_leaves_everything_bit_identical",
    ),
    Mutation(
        "fit descends the sum instead of the mean",
        "afm_ref/training.py",
        "(g / count).astype(g.dtype)",
        "g",
        "tests/training/test_fit.py::test_the_gradient_is_that_of_the_mean",
    ),
    Mutation(
        "resume starts the optimizer's state anew",
        "afm_ref/checkpoints.py",
        'optimizer=tree["optimizer"]',
        "optimizer=like.optimizer",
        "tests/training/test_resume.py::test_killed_at_any_moment_continues_to_the_same_numbers",
    ),
    Mutation(
        "a checkpoint counts before all of it is written",
        "afm_ref/checkpoints.py",
        "        return UNFINISHED",
        "        return None",
        "tests/training/test_resume.py::test_a_half_written_checkpoint_is_never_loaded",
    ),
    Mutation(
        "empty cache slots look like tokens at position 0",
        "afm_ref/cache.py",
        "jnp.full((B, S), FAR, jnp.int32)",
        "jnp.zeros((B, S), jnp.int32)",
        "tests/generation/test_cache.py::test_cached_decoding_equals_the_full_forward",
    ),
    Mutation(
        "a stopped row loses its stop token",
        "afm_ref/generation.py",
        "stops[0] + 1 if",
        "stops[0] if",
        "tests/generation/test_generate.py::test_a_row_ends_with_its_first_stop_token",
    ),
    Mutation(
        "every position draws the same random number",
        "afm_ref/sampling.py",
        "jax.random.fold_in(key, position), logits.shape[-1:]",
        "key, logits.shape[-1:]",
        "tests/generation/test_sampling.py::test_draws_of_a_row_at_successive_positions_are_independent",
    ),
    Mutation(
        "the nucleus leaves out its last token",
        "afm_ref/sampling.py",
        "kept = (before < p)",
        "kept = (before + probabilities < p)",
        "tests/generation/test_sampling.py::test_filters_equal_brute_force",
    ),
    Mutation(
        "a check passes on NaN",
        "afm_ref/teaching/checks.py",
        "bool(measured <= tolerance)",
        "not measured > tolerance",
        "tests/teaching/test_checks.py::test_what_does_not_hold_raises_and_says_what_was_measured",
    ),
    Mutation(
        "an answer can change what it is judged by",
        "afm_ref/teaching/exercises/registry.py",
        "copy.deepcopy(case.arguments)",
        "case.arguments",
        "tests/teaching/test_exercises.py::test_what_an_answer_does_to_its_input_does_not_reach_the_judge",
    ),
    Mutation(
        "a ring passes every chunk on once too rarely",
        "afm_ref/parallelism/rings.py",
        "for s in range(n - 1):\n        ring.step([[(device - 1 - s) % n]",
        "for s in range(n - 2):\n        ring.step([[(device - 1 - s) % n]",
        "tests/parallelism/test_rings.py::test_all_reduce_sums_any_shape",
    ),
    Mutation(
        "a ring's step waits for the sum of its messages and not for the largest",
        "afm_ref/parallelism/rings.py",
        "max(_per_link(step).values())",
        "sum(_per_link(step).values())",
        "tests/parallelism/test_rings.py::test_time_is_the_alpha_beta_closed_form",
    ),
    Mutation(
        "a summand may be added to a full array",
        "afm_ref/parallelism/cluster.py",
        "if kinds[0] == kinds[1]:",
        "if kinds[0] == kinds[1] or set(kinds) == {PARTIAL, REPLICATED}:",
        "tests/parallelism/test_cluster.py::test_what_is_wrong_is_refused_with_reason_and_remedy",
    ),
    Mutation(
        "a product over a cut axis counts as complete",
        "afm_ref/parallelism/cluster.py",
        'return letter if letter in spec.split("->")[1] else PARTIAL',
        'return letter if letter in spec.split("->")[1] else REPLICATED',
        "tests/parallelism/test_cluster.py::test_products_equal_numpy_wherever_they_are_allowed",
    ),
    Mutation(
        "1F1B warms up with one microbatch too many",
        "afm_ref/parallelism/schedules.py",
        "min(n_stages - stage - 1, n_microbatches)",
        "min(n_stages - stage, n_microbatches)",
        "tests/parallelism/test_schedules.py::test_live_activations_are_the_closed_forms",
    ),
    Mutation(
        "several processes resume with the right weights and forget the step",
        "afm_ref/checkpoints.py",
        "_unflatten(like, arrays)._replace(step=self.newest)",
        "_unflatten(like, arrays)",
        "tests/parallelism/test_processes.py::test_another_layout_continues_a_checkpoint",
    ),
    Mutation(
        "process 1's part of the batch is process 0's",
        "afm_ref/parallelism/placing.py",
        "plan.sharding(spec), lambda index: array[index])",
        "plan.sharding(spec), lambda i: array[i] if jax.process_index() == 0 else array[: array[i].shape[0]])",
        "tests/parallelism/test_train_command.py::test_interrupted_in_two_processes_and_continued_on_another_mesh",
    ),
    Mutation(
        "a loop's collectives count once",
        "afm_ref/parallelism/collectives.py",
        "self._inside(body, count * trips)",
        "self._inside(body, count)",
        "tests/parallelism/test_collectives.py::test_loops_multiply_and_nest",
    ),
    Mutation(
        "pins make every device work on the whole batch",
        "afm_ref/parallelism/annotation.py",
        "out = P(rules.batch, rules.time, use[0])",
        "out = P(None, rules.time, use[0])",
        "tests/parallelism/test_annotation.py::test_pins_keep_the_batch_cut",
    ),
    Mutation(
        "the roofline forgets that the backward pass of tensor parallelism sums as well",
        "afm_ref/parallelism/costs.py",
        "model = (4 + remat)",
        "model = (2 + remat)",
        "tests/parallelism/test_costs.py::test_traffic_equals_that_of_the_explicit_strategies",
    ),
]

if __name__ == "__main__":
    sys.exit(main(MUTATIONS, sys.argv[1:]))

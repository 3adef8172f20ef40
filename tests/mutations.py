"""Faults that a test must notice. Not collected by pytest; CI runs it.

    python -m tests.mutations [-k TEXT] [--jobs N]

Each is applied to a copy of the tree (never to this one), where the named test must fail. Every chapter adds its own:
take the mistakes that someone would really make.
"""

import sys

from tests.curation.mutations_pipeline import MUTATIONS as CURATION_PIPELINE
from tests.curation.mutations_steps import MUTATIONS as CURATION_STEPS
from tests.generation.mutations import MUTATIONS as GENERATION
from tests.post_training.mutations import MUTATIONS as POST_TRAINING
from tests.pretraining.mutations_optimizer import MUTATIONS as OPTIMIZER
from tests.pretraining.mutations_pruning import MUTATIONS as PRUNING
from tests.pretraining.mutations_stages import MUTATIONS as STAGES
from tests.quantization.mutations import MUTATIONS as QUANTIZATION
from tests.rlhf.mutations import MUTATIONS as RLHF
from tests.sixteen_bits_mutations import MUTATIONS as SIXTEEN_BITS
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
        "(wide(q) * H**-0.5) @",
        "wide(q) @",
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
        "(each * weights).sum()",
        "each.sum()",
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
        'wk=rows("wk", layer.wk),',
        "wk=layer.wk,",
        "tests/interop/test_rope_layout.py::test_logits_do_not_change",
    ),
    Mutation(
        "a save writes over the old file in place",
        "afm_ref/disk/atomic.py",
        'path.with_name(f".{path.name}.{os.getpid()}.tmp") for',
        "path for",
        "tests/interop/test_hugging_face.py::test_a_failure_while_writing_leaves_the_folder_as_it_was",
    ),
    Mutation(
        "a source's token ids are lost on writing",
        "afm_ref/interop/folder_config.py",
        "return source.fields, files if",
        "return _token_ids(tokenizer), files if",
        "tests/interop/test_folder_config.py::test_every_writer_says_what_the_source_said",
    ),
    Mutation(
        "a source's chat template and generation settings are lost on writing",
        "afm_ref/interop/folder_config.py",
        '"generation_config.json", "chat_template.jinja", ',
        "",
        "tests/interop/test_folder_config.py::test_every_writer_says_what_the_source_said",
    ),
    Mutation(
        "a palettized folder forgets where texts end",
        "afm_ref/interop/palettized.py",
        'fields = kept | {"model_type"',
        'fields = {"model_type"',
        "tests/interop/test_folder_config.py::test_every_writer_says_what_the_source_said",
    ),
    Mutation(
        "the ids of the old tokenizer stay when another comes",
        "afm_ref/interop/folder_config.py",
        "if tokenizer is None or _same(tokenizer, source.files.get(TOKENIZER)):",
        "if tokenizer is None or source.files:",
        "tests/interop/test_folder_config.py::test_another_tokenizer_leaves_the_old_ones_ids_and_files_behind",
    ),
    Mutation(
        "the longest context is a guess although the source says it",
        "afm_ref/interop/config_json.py",
        "        usual\n        | kept\n",
        "        kept\n        | usual\n",
        "tests/interop/test_folder_config.py::test_every_writer_says_what_the_source_said",
    ),
    Mutation(
        "a Llama of interleaved RoPE is read as one of halves",
        "afm_ref/interop/config_json.py",
        '"rope_interleaved": False,',
        '"rope_interleaved": (False, True),',
        "tests/interop/test_config_json.py::test_the_value_of_a_key_decides_and_not_its_name",
    ),
    Mutation(
        "a base beside rope_scaling counts, which transformers does not hear",
        "afm_ref/interop/config_json.py",
        'named["rope_scaling"] = DEFAULT_THETA',
        "pass",
        "tests/interop/test_config_json.py::test_rope_scaling_without_a_base_has_the_usual_one",
    ),
    Mutation(
        "a stretched linear RoPE is read as a plain one",
        "afm_ref/interop/config_json.py",
        'for name in ("partial_rotary_factor", "factor"):',
        'for name in ("partial_rotary_factor",):',
        "tests/interop/test_config_json.py::test_every_scaled_rope_is_refused",
    ),
    Mutation(
        "a target may begin another document",
        PACKING,
        """same = (
        (documents[:, 1:] == documents[:, :-1])
        & (documents[:, 1:] != NO_DOCUMENT)
        & trained[:, 1:]
    )""",
        "same = (documents[:, 1:] != NO_DOCUMENT) & trained[:, 1:]",
        "tests/data/test_packing.py::test_rows_by_hand",
    ),
    Mutation(
        "the prompt is trained on",
        PACKING,
        "tokens[row, at:end], documents[row, at:end], trained[row, at + start : end] = (",
        "tokens[row, at:end], documents[row, at:end], trained[row, at:end] = (",
        "tests/data/test_packing.py::test_conversations_train_the_response_alone",
    ),
    Mutation(
        "a typed <|eos|> becomes the special token",
        "afm_ref/data/tokenizer.py",
        "both[0].encode_special_tokens = True",
        "both[0].encode_special_tokens = False",
        "tests/data/test_tokenizer.py::test_typed_markers_stay_text",
    ),
    Mutation(
        "held-out text keeps a run of 13 words in common with training text",
        "afm_ref/data/overlap.py",
        "range(place[k], place[k + n - 1] + 1)",
        "range(place[k], place[k] + 1)",
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
        "-(rate * m + decay * w)",
        "-(rate * (m + decay * w))",
        "tests/pretraining/test_optimizer.py::test_weight_decay_is_not_multiplied_by_the_learning_rate",
    ),
    Mutation(
        "stacked layers share one clip of the update",
        "afm_ref/pretraining/optimizer.py",
        "lambda _: isinstance(node, Stacked)",
        "lambda _: False",
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
        "afm_ref/training/step.py",
        "(g / count).astype(g.dtype)",
        "g",
        "tests/training/test_fit.py::test_the_gradient_is_that_of_the_mean",
    ),
    Mutation(
        "resume starts the optimizer's state anew",
        "afm_ref/training/checkpoints.py",
        'optimizer=tree["optimizer"]',
        "optimizer=like.optimizer",
        "tests/training/test_resume.py::test_killed_at_any_moment_continues_to_the_same_numbers",
    ),
    Mutation(
        "a checkpoint counts before all of it is written",
        "afm_ref/disk/tensor_files.py",
        "    with atomic.replacing(path) as [new]:\n        write(new, ",
        "    for new in [path]:\n        write(new, ",
        "tests/training/test_resume.py::test_a_checkpoint_that_does_not_become_whole_costs_none_that_is",
    ),
    Mutation(
        "a damaged checkpoint is continued",
        "afm_ref/training/checkpoints.py",
        """                _, about = tensor_files.decode(data)
                if about.get("format") != FORMAT:
                    raise ValueError(f"is of the format {about.get('format')!r}")
""",
        "",
        "tests/training/test_resume.py::test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it",
    ),
    Mutation(
        "a damaged checkpoint counts among those that are kept",
        "afm_ref/training/checkpoints.py",
        "sorted(each for each in steps if each <= step)",
        "sorted(steps)",
        "tests/training/test_resume.py::test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it",
    ),
    Mutation(
        "the old checkpoints go before the new one is whole",
        "afm_ref/training/checkpoints.py",
        "            tensor_files.save(self._file(step), arrays, about)\n",
        "            for each in self._steps():\n"
        "                self._file(each).unlink()\n"
        "            tensor_files.save(self._file(step), arrays, about)\n",
        "tests/training/test_resume.py::test_a_checkpoint_that_does_not_become_whole_costs_none_that_is",
    ),
    Mutation(
        "what another run is writing is removed before the folder is locked",
        "afm_ref/training/checkpoints.py",
        "        self.lock.enter_context(targets.only_writer(self.path))\n        atomic.sweep(self.path)\n",
        "        self.path.mkdir(parents=True, exist_ok=True)\n        atomic.sweep(self.path)\n"
        "        self.lock.enter_context(targets.only_writer(self.path))\n",
        "tests/training/test_resume.py::test_a_second_run_is_refused_while_one_writes_there",
    ),
    Mutation(
        "two writers share a lock",
        "afm_ref/disk/targets.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        "tests/disk/test_targets.py::test_the_second_writer_is_told_who_the_first_is_until_that_is_killed",
    ),
    Mutation(
        "a lock is held whose file its last holder has removed",
        "afm_ref/disk/targets.py",
        "            if _is_at(file, path):",
        "            if True:",
        "tests/disk/test_targets.py::test_a_lock_that_its_holder_has_removed_holds_nobody_out",
    ),
    Mutation(
        "empty cache slots look like tokens at position 0",
        "afm_ref/generation/cache.py",
        "jnp.full((B, S), FAR, jnp.int32)",
        "jnp.zeros((B, S), jnp.int32)",
        "tests/generation/test_cache.py::test_cached_decoding_equals_the_full_forward",
    ),
    Mutation(
        "a stopped row loses its stop token",
        "afm_ref/generation/decoding.py",
        "stops[0] + 1 if",
        "stops[0] if",
        "tests/generation/test_generate.py::test_a_row_ends_with_its_first_stop_token",
    ),
    Mutation(
        "samples of a prompt continue what another prompt left in the cache",
        "afm_ref/generation/decoding.py",
        "jnp.repeat(x.reshape(B, -1, *x.shape[1:]), samples, axis=0)",
        "jnp.repeat(x, samples, axis=0)",
        "tests/generation/test_generate.py::test_samples_are_those_of_the_prompt_repeated",
    ),
    Mutation(
        "samples of a prompt draw the same random numbers",
        "afm_ref/generation/decoding.py",
        "seed, whole=True), len(prompts) * samples)",
        "seed, whole=True), len(prompts))[np.arange(len(prompts) * samples) // samples]",
        "tests/generation/test_generate.py::test_samples_are_those_of_the_prompt_repeated",
    ),
    Mutation(
        "every position draws the same random number",
        "afm_ref/generation/sampling.py",
        "jax.random.fold_in(key, position), logits.shape[-1:]",
        "key, logits.shape[-1:]",
        "tests/generation/test_sampling.py::test_draws_of_a_row_at_successive_positions_are_independent",
    ),
    Mutation(
        "the nucleus leaves out its last token",
        "afm_ref/generation/sampling.py",
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
        "afm_ref/parallelism/simulator/ring_collectives.py",
        "for s in range(n - 1):\n        ring.step([[(device - 1 - s) % n]",
        "for s in range(n - 2):\n        ring.step([[(device - 1 - s) % n]",
        "tests/parallelism/test_ring_collectives.py::test_all_reduce_sums_any_shape",
    ),
    Mutation(
        "a ring's step waits for the sum of its messages and not for the largest",
        "afm_ref/parallelism/simulator/ring_collectives.py",
        "max(_per_link(step.messages).values())",
        "sum(_per_link(step.messages).values())",
        "tests/parallelism/test_ring_collectives.py::test_time_is_the_alpha_beta_closed_form",
    ),
    Mutation(
        "a summand may be added to a full array",
        "afm_ref/parallelism/simulator/cluster.py",
        "if kinds[0] == kinds[1]:",
        "if kinds[0] == kinds[1] or set(kinds) == {PARTIAL, REPLICATED}:",
        "tests/parallelism/test_cluster.py::test_what_is_wrong_is_refused_with_reason_and_remedy",
    ),
    Mutation(
        "a product over a cut axis counts as complete",
        "afm_ref/parallelism/simulator/cluster.py",
        'return letter if letter in spec.split("->")[1] else PARTIAL',
        'return letter if letter in spec.split("->")[1] else REPLICATED',
        "tests/parallelism/test_cluster.py::test_products_equal_numpy_wherever_they_are_allowed",
    ),
    Mutation(
        "1F1B warms up with one microbatch too many",
        "afm_ref/parallelism/simulator/schedules.py",
        "min(n_stages - stage - 1, n_microbatches)",
        "min(n_stages - stage, n_microbatches)",
        "tests/parallelism/test_schedules.py::test_live_activations_are_the_closed_forms",
    ),
    Mutation(
        "several processes resume with the right weights and forget the step",
        "afm_ref/training/checkpoints.py",
        "_unflatten(like, arrays)._replace(step=self.newest)",
        "_unflatten(like, arrays)",
        "tests/parallelism/test_processes.py::test_another_layout_continues_a_checkpoint",
    ),
    Mutation(
        "process 1's part of the batch is process 0's",
        "afm_ref/parallelism/sharded/strategies.py",
        "None if array is None else _put(array, plan.sharding(spec))",
        """None
            if array is None
            else _put(
                np.roll(array, len(array) // 2 * jax.process_index(), 0),
                plan.sharding(spec),
            )""",
        "tests/parallelism/test_train_command.py::test_one_process_begins_and_two_continue",
    ),
    Mutation(
        "a loop's collectives count once",
        "afm_ref/parallelism/compiled/collectives.py",
        "count=c.count * trips)",
        "count=c.count)",
        "tests/parallelism/test_collectives.py::test_loops_multiply_and_nest",
    ),
    Mutation(
        "pins make every device work on the whole batch",
        "afm_ref/parallelism/annotated/annotation.py",
        "out = P(rules.batch, rules.time, use[0])",
        "out = P(None, rules.time, use[0])",
        "tests/parallelism/test_annotation.py::test_pins_keep_the_batch_cut",
    ),
    Mutation(
        "the bytes by formula forget that the backward pass of tensor parallelism sums as well",
        "afm_ref/parallelism/predicted/traffic.py",
        'kinds = {"all-reduce": 4 + r}',
        'kinds = {"all-reduce": 2 + r}',
        "tests/parallelism/test_traffic.py::test_tensor_parallel_by_hand",
    ),
    Mutation(
        "an adapter forgets its scale",
        "afm_ref/lora/adapter.py",
        "+ self.scale * ops.linear(ops.linear(x, a), b)",
        "+ ops.linear(ops.linear(x, a), b)",
        "tests/lora/test_adapter.py::test_apply_is_the_sum_of_two_matrices",
    ),
    Mutation(
        "the base of an adapter is trained as well",
        "afm_ref/lora/adapter.py",
        """return (
            dataclasses.replace(node, base=nothing(node.base))
            if isinstance(node, LoRA)
            else None
        )""",
        "return node if isinstance(node, LoRA) else None",
        "tests/lora/test_training.py::test_fit_trains_the_adapter_and_leaves_the_base_bit_identical",
    ),
    Mutation(
        "A and B both begin at zero",
        "afm_ref/lora/adapter.py",
        "np.random.default_rng(key).standard_normal(shape) * shape[-1] ** -0.5",
        "np.zeros(shape)",
        "tests/lora/test_training.py::test_with_both_at_zero_nothing_moves",
    ),
    Mutation(
        "an extracted adapter leaves out the largest singular value",
        "afm_ref/lora/extraction.py",
        "u[..., :, :R] * root[..., None, :]",
        "u[..., :, :R] * root[..., None, :] * (np.arange(R) > 0)",
        "tests/lora/test_extraction.py::test_extraction_error_is_what_eckart_and_young_say",
    ),
    Mutation(
        "rank-stabilised scales are read as plain ones",
        "afm_ref/interop/peft.py",
        "math.sqrt(rank) if rooted else rank",
        "rank",
        "tests/interop/test_peft.py::test_logits_equal_golden",
    ),
    Mutation(
        "an adapter's rows stay behind when the base's are permuted",
        "afm_ref/interop/rope_layout.py",
        "b=rows(name, w.b)",
        "b=w.b",
        "tests/interop/test_peft.py::test_logits_equal_golden",
    ),
    Mutation(
        "a mixed batch takes the first request's adapter for all",
        "afm_ref/lora/serving.py",
        "m[self.index], x.dtype",
        "m[self.index * 0 + self.index[0]], x.dtype",
        "tests/lora/test_serving.py::test_a_mixed_batch_equals_each_request_alone",
    ),
    Mutation(
        "the bank throws out what was loaded first, not what was used last",
        "afm_ref/lora/serving.py",
        "            self._cache.move_to_end(name)\n",
        "",
        "tests/lora/test_serving.py::test_the_least_recently_used_give_way",
    ),
    Mutation(
        "the bank forgets an adapter's scale",
        "afm_ref/lora/serving.py",
        "scale * np.asarray(pairs[key][1], np.float32)",
        "np.asarray(pairs[key][1], np.float32)",
        "tests/lora/test_serving.py::test_one_adapter_equals_the_adapter_itself",
    ),
    Mutation(
        "an adapter of another base is served",
        "afm_ref/lora/serving.py",
        "if adapter.base != self.fingerprint:",
        "if False:",
        "tests/lora/test_serving.py::test_an_adapter_of_another_base_is_refused",
    ),
    Mutation(
        "a file that was changed while it was read is used",
        "afm_ref/disk/tensor_files.py",
        "if written != _checksum(",
        "if not _checksum(",
        "tests/lora/test_serving.py::test_a_file_that_is_written_over_while_it_is_read_is_refused",
    ),
    Mutation(
        "the sum after a row-cut matrix is dropped",
        "afm_ref/parallelism/sharded/placements.py",
        "if scatter else psum(x, axis)",
        "if scatter else x",
        "tests/parallelism/test_placements.py::test_column_then_row_is_the_whole_product",
    ),
    Mutation(
        "a device takes the first token of its neighbour's vocabulary for its own",
        "afm_ref/parallelism/sharded/placements.py",
        "(rows < n_rows)",
        "(rows <= n_rows)",
        "tests/parallelism/test_placements.py::test_vocab_parallel_equals_whole",
    ),
    Mutation(
        "each device subtracts its own largest logit",
        "afm_ref/parallelism/sharded/placements.py",
        "pmax(jax.lax.stop_gradient(local).max(-1, keepdims=True), self.axis)",
        "jax.lax.stop_gradient(local).max(-1, keepdims=True)",
        "tests/parallelism/test_placements.py::test_vocab_parallel_equals_whole",
    ),
    Mutation(
        "the ring masks a visitor by the positions of another",
        "afm_ref/parallelism/sharded/ring_attention.py",
        "(me - r) % n * k.shape[1]",
        "(me + r) % n * k.shape[1]",
        "tests/parallelism/test_ring_attention.py::test_attention_over_a_cut_sequence_equals_the_whole",
    ),
    Mutation(
        "the ring forgets to rescale what it has",
        "afm_ref/parallelism/sharded/ring_attention.py",
        "scale_a * a.out + scale_b * b.out",
        "a.out + scale_b * b.out",
        "tests/parallelism/test_ring_attention.py::test_two_parts_by_hand",
    ),
    Mutation(
        "the zigzag order does not turn back",
        "afm_ref/parallelism/sharded/ring_attention.py",
        "(i, 2 * n - 1 - i)",
        "(i, n + i)",
        "tests/parallelism/test_ring_attention.py::test_zigzag_halves_what_the_slowest_device_does",
    ),
    Mutation(
        "every stage of a pipeline counts its loss",
        "afm_ref/parallelism/sharded/strategies.py",
        "jnp.where(is_last(), total, 0)",
        "total",
        "tests/parallelism/test_grid.py::test_strategy_equals_the_single_device[pipe-fsdp-gather]",
    ),
    Mutation(
        "a pipeline returns the bubble's results",
        "afm_ref/parallelism/sharded/pipelining.py",
        "done[P - 1 :]",
        "done[:M]",
        "tests/parallelism/test_pipelining.py::test_pipeline_equals_the_layers_in_turn",
    ),
    Mutation(
        "gradients are summed over copies whole, before they are cut",
        "afm_ref/parallelism/sharded/strategies.py",
        "vary(leaf, COPY_AXES)",
        'vary(leaf, ("pipe",))',
        "tests/parallelism/test_grid.py::test_bytes_sent_equal_the_formula[fsdp-zigzag-model]",
    ),
    Mutation(
        "a batch keeps its natural order where the plan has another",
        "afm_ref/parallelism/sharded/strategies.py",
        "np.asarray(array)[:, order]",
        "np.asarray(array)[:, np.sort(order)]",
        "tests/parallelism/test_strategies.py::test_a_placed_batch_is_the_batch_in_the_plans_order",
    ),
    *QUANTIZATION,
    *GENERATION,
    *POST_TRAINING,
    *OPTIMIZER,
    *PRUNING,
    *STAGES,
    *RLHF,
    *SIXTEEN_BITS,
    *CURATION_STEPS,
    *CURATION_PIPELINE,
]

if __name__ == "__main__":
    sys.exit(main(MUTATIONS, sys.argv[1:]))

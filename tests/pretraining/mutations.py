"""Faults in the stages, the optimizer, pruning and distillation; see tests/mutations.py."""

from tools.mutate import faults

MUTATIONS = faults("""
afm_ref/pretraining/stages.py
  a stage trains with the RoPE base of the one before
    -             loss(stage, cfg),
    +             loss(stage, stages[max(number - 1, 0)].config(cfg)),
    tests/pretraining/test_stages.py::test_a_stage_changes_what_it_should_and_nothing_else
  an optimizer that is carried on goes on with the old schedule's count
    - lambda step: schedule(step - steps)
    + lambda step: schedule(step)
    tests/pretraining/test_stages.py::test_a_carried_optimizer_keeps_its_moments_and_begins_the_schedule_anew
  all stages keep their checkpoints in one folder
    - Path(checkpoint) / f"{number}_{stage.name}"
    + Path(checkpoint)
    tests/pretraining/test_stages.py::test_stopped_anywhere_continues_to_the_same_numbers
afm_ref/data/mixing.py
  a part that is behind is not caught up with
    - shares[i] * (n + 1) - counts[i]
    + shares[i]
    tests/data/test_packing.py::test_shares_are_within_the_bound_at_every_moment
  the row that is due is not counted, as in Megatron-LM: a part of weight 0 is drawn
    - shares[i] * (n + 1) - counts[i]
    + shares[i] * max(n, 1) - counts[i]
    tests/data/test_packing.py::test_shares_are_within_the_bound_at_every_moment
  all parts share one order of their rows' epochs by the place in the mixture
    - orders[k](int(i))[0]
    + orders[k](int(places[0]))[0]
    tests/data/test_packing.py::test_every_row_of_a_part_once_an_epoch
afm_ref/data/long_qa.py
  so many facts are planned as if they were questions
    - (tokens - 2 - questions * question) / fact
    + (tokens - 2 - questions * question) / question
    tests/data/test_long_qa.py::test_length_in_tokens_is_as_asked
  the only question goes with the fact that does not fit
    - asked[asked < facts] if (asked < facts).any() else asked[:1] % facts
    + asked[asked < facts]
    tests/data/test_long_qa.py::test_a_question_is_left_when_facts_do_not_fit
afm_ref/cli/pretrain.py
  a tokenizer of another text is taken again
    - {"text": _digest(texts), "vocab_size": size}
    + {"vocab_size": size}
    tests/pretraining/test_pretrain_command.py::test_a_trained_tokenizer_is_taken_again_for_the_same_text_and_size_alone
  a tokenizer that nobody trained here is taken for one
    - elif not about.exists():
    + elif False:
    tests/pretraining/test_pretrain_command.py::test_a_trained_tokenizer_is_taken_again_for_the_same_text_and_size_alone
  malformed weights are noticed after curation
    -     _check_models(args)
    -     _check_mixtures(args)
    +     _check_models(args)
    tests/pretraining/test_pretrain_command.py::test_what_is_wrong_is_said_before_curation[mixture_code]
  a config that is missing is noticed after curation
    -     _check_models(args)
    -     _check_mixtures(args)
    +     _check_mixtures(args)
    tests/pretraining/test_pretrain_command.py::test_what_is_wrong_is_said_before_curation[config_none.json]
afm_ref/pretraining/losses.py
  the z-loss rewards a large normaliser
    - weighted(penalty - log_probs,
    + weighted(-penalty - log_probs,
    tests/pretraining/test_losses.py::test_z_loss_equals_its_definition
afm_ref/pretraining/long_context.py
  RoPE's rule forgets the 2 pi
    - (math.log(T / (2 * math.pi)) / math.log(T_train / (2 * math.pi)))
    + (math.log(T) / math.log(T_train))
    tests/pretraining/test_stages.py::test_the_rule_gives_the_published_base
  an answer is measured one token late
    - slice(answer.asked[0] - 1, answer.asked[1] - 1)
    + slice(answer.asked[0], answer.asked[1])
    tests/pretraining/test_stages.py::test_answers_are_measured_where_they_stand
afm_ref/pretraining/compute.py
  a teacher's forward pass costs as much as training
    - return 2.0 * n_parameters * tokens
    + return 6.0 * n_parameters * tokens
    tests/pretraining/test_stages.py::test_flops_of_the_on_device_core_stage
afm_ref/pretraining/ablations.py
  Adam's momentum is not corrected for its start at zero
    - u = m / gathered * jax
    + u = m * jax
    tests/pretraining/test_optimizer.py::test_equals_optax[adam]
afm_ref/pretraining/optimizer.py
  the second moment is not corrected for its start at zero
    - jax.lax.rsqrt(v / gathered)
    + jax.lax.rsqrt(v)
    tests/pretraining/test_optimizer.py::test_two_steps_by_hand
  momentum runs over what was not clipped
    -     u = u / jnp.maximum(1.0, rms(u) / clip)
    +     u = u + 0 / jnp.maximum(1.0, rms(u) / clip)
    tests/pretraining/test_optimizer.py::test_two_steps_by_hand
afm_ref/pretraining/mup_check.py
  the coordinate check forgets the factor of the matrices
    - scale = on_matrices(matrix_scale)
    + scale = on_matrices(1.0)
    tests/pretraining/test_mup_check.py::test_standard_changes_grow_with_width_and_mup_simple_keeps_them_level
  the vertex of the parabola is mirrored
    - 0.5 * (before - after) / bend
    + 0.5 * (after - before) / bend
    tests/pretraining/test_mup_check.py::test_the_best_rate_of_a_parabola_is_its_vertex
  a run whose loss is NaN has the best rate
    - y = np.where(np.isfinite(y), y, np.inf)
    + y = np.asarray(y)
    tests/pretraining/test_mup_check.py::test_a_run_that_diverged_is_never_the_best
afm_ref/pretraining/pruning/top_k.py
  soft top-k clips one entry too few
    - pivot = xp.take_along_axis(ordered, over.sum(axis=-1, keepdims=True)
    + pivot = xp.take_along_axis(ordered, xp.maximum(over.sum(axis=-1, keepdims=True) - 1, 0)
    tests/pretraining/test_pruning.py::test_soft_top_k_by_hand
  the unclipped entries share k, not what the clipped ones leave
    - left = (k - clipped.sum(axis=-1, keepdims=True)).astype(z.dtype)
    + left = xp.full_like(pivot, k)
    tests/pretraining/test_pruning.py::test_sum_is_exactly_k_by_bisection
  a gradient goes through clipped entries
    - share > 0, weights * (t - (share * t).sum(axis=-1, keepdims=True)), 0.0
    + share >= 0, weights * (t - (share * t).sum(axis=-1, keepdims=True)), 0.0
    tests/pretraining/test_pruning.py::test_derivative_by_finite_differences
  the derivative forgets that the threshold moves
    - weights * (t - (share * t).sum(axis=-1, keepdims=True))
    + weights * t
    tests/pretraining/test_pruning.py::test_derivative_by_finite_differences
afm_ref/pretraining/pruning/ffn.py
  w_up keeps its first k channels, not the chosen ones
    - w_up=layer.w_up[kept]
    + w_up=layer.w_up[:k]
    tests/pretraining/test_pruning.py::test_sliced_equals_masked
  the channels of the smallest scores are kept
    - np.asarray(hard_top_k(w.scores, k))
    + np.asarray(hard_top_k(-w.scores, k))
    tests/pretraining/test_pruning.py::test_sliced_equals_masked
  eps is trained as well
    - path.rpartition(".")[2] != "eps"
    + True
    tests/pretraining/test_pruning.py::test_scores_are_trained_and_eps_is_not
  the masks never learn of the step's eps
    - return next_token(at_eps(params, annealed.eps), annealed.batch, cfg)
    + return next_token(params, annealed.batch, cfg)
    tests/pretraining/test_pruning.py::test_eps_comes_with_the_batch
afm_ref/pretraining/pruning/criteria.py
  padding counts in the mean activation
    - np.asarray(batch.weights) > 0, []
    + np.asarray(batch.weights) >= 0, []
    tests/pretraining/test_pruning.py::test_criteria_by_hand
afm_ref/pretraining/distillation.py
  the teacher gets a tenth and the text nine
    - log_probs = share * token_log_probs(z, teacher) + (1 - share) * token_log_probs(
    + log_probs = (1 - share) * token_log_probs(z, teacher) + share * token_log_probs(
    tests/pretraining/test_losses.py::test_the_loss_is_the_cross_entropy_with_the_mixed_target
  the teacher reads across documents
    - hidden(teacher, batch.tokens, cfg, attend=Causal(batch.documents))
    + hidden(teacher, batch.tokens, cfg)
    tests/pretraining/test_losses.py::test_top_tokens_equal_the_argmax_of_all_logits
""")

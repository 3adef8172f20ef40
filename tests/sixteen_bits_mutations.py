"""Seeded faults of tests/mutations.py: sums, squares and exponentials in 16 bits."""

from tools.mutate import faults

MUTATIONS = faults("""
afm_ref/ops.py
  nothing is widened
    - return x.astype(np.float32) if x.dtype.itemsize < 4 else x
    + return x
    tests/test_sixteen_bits.py::test_norm_and_softmax
  what was widened stays so
    - return y.astype(dtype) if dtype.itemsize < 4 else y
    + return y
    tests/test_sixteen_bits.py::test_activations_keep_their_dtype
  scores of attention are 16 bits wide
    - scores = (wide(q) * H**-0.5) @ wide(xp.transpose(k, (0, 2, 3, 1)))
    + scores = product(narrow(wide(q) * H**-0.5, q.dtype), xp.transpose(k, (0, 2, 3, 1)))
    tests/test_sixteen_bits.py::test_attention_over_600_keys_of_size_1000
  a frequent token's gradient is summed in 16 bits
    - return wide(w)[tokens].astype(w.dtype)
    + return w[tokens]
    tests/test_sixteen_bits.py::test_gradients_are_sums_over_many_positions
afm_ref/losses.py
  log-probabilities in the dtype of the logits
    - xp, logits = logits.__array_namespace__(), wide(logits)
    + xp = logits.__array_namespace__()
    tests/test_sixteen_bits.py::test_log_probabilities_entropies_and_divergences
  a count of weights stops at 256
    -     weights = wide(weights)
    -
    tests/test_sixteen_bits.py::test_losses_of_600_positions
afm_ref/training/step.py
  a gradient's norm overflows
    - optax.tree.norm(jax.tree.map(wide, tree))
    + optax.tree.norm(tree)
    tests/test_sixteen_bits.py::test_optimizers_take_gradients_of_size_300
afm_ref/pretraining/optimizer.py
  the optimizer's moments have the dtype of the weights
    - lambda w: jnp.zeros_like(wide(w)), params
    + jnp.zeros_like, params
    tests/test_sixteen_bits.py::test_optimizers_take_gradients_of_size_300
afm_ref/rlhf/mdloo.py
  the trust region's terms cancel in 16 bits
    - xp, log_rho = log_rho.__array_namespace__(), wide(log_rho)
    + xp = log_rho.__array_namespace__()
    tests/test_sixteen_bits.py::test_scores_of_preferences_and_returns
afm_ref/parallelism/sharded/pipelining.py
  microbatches add up in 16 bits
    - lambda w: wide(w) if jnp.issubdtype(w.dtype, jnp.floating) else w
    + lambda w: w
    tests/test_sixteen_bits.py::test_microbatches_of_a_pipeline_add_up
afm_ref/post_training/reward_model.py
  reward heads read states of 16 bits
    - preference, w_in, w_out = (wide(w) for w in (model.preference, model.w_in, model.w_out))
    + e, preference, w_in, w_out = e.astype(model.preference.dtype), model.preference, model.w_in, model.w_out
    tests/test_sixteen_bits.py::test_reward_heads_on_states_of_size_1000
afm_ref/quantization/palette/quantized_weights.py
  a palette's products overflow before their power of two
    - y = ops.linear(wide, self.normalized(wide.dtype)) * power_of_two(
    -             self.exponent, wide.dtype
    -         )
    + y = ops.linear(x, self.normalized(x.dtype)) * power_of_two(self.exponent, x.dtype)
    tests/test_sixteen_bits.py::test_weights_in_few_bits_do_not_overflow
afm_ref/generation/sampling.py
  the nucleus is summed in 16 bits
    -     logits = wide(logits)
    -     descending
    +     descending
    tests/test_sixteen_bits.py::test_nucleus_and_draws
""")

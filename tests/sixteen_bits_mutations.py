"""Seeded faults of tests/mutations.py: sums, squares and exponentials in 16 bits."""

from tools.mutate import Mutation

OPS, TESTS = "afm_ref/ops.py", "tests/test_sixteen_bits.py::test_"

MUTATIONS = [
    Mutation(
        "nothing is widened",
        OPS,
        "return x.astype(np.float32) if x.dtype.itemsize < 4 else x",
        "return x",
        f"{TESTS}norm_and_softmax",
    ),
    Mutation(
        "what was widened stays so",
        OPS,
        "return y.astype(dtype) if dtype.itemsize < 4 else y",
        "return y",
        f"{TESTS}activations_keep_their_dtype",
    ),
    Mutation(
        "scores of attention are 16 bits wide",
        OPS,
        "scores = (wide(q) * H**-0.5) @ wide(xp.transpose(k, (0, 2, 3, 1)))",
        "scores = product(narrow(wide(q) * H**-0.5, q.dtype), xp.transpose(k, (0, 2, 3, 1)))",
        f"{TESTS}attention_over_600_keys_of_size_1000",
    ),
    Mutation(
        "a frequent token's gradient is summed in 16 bits",
        OPS,
        "return wide(w)[tokens].astype(w.dtype)",
        "return w[tokens]",
        f"{TESTS}gradients_are_sums_over_many_positions",
    ),
    Mutation(
        "log-probabilities in the dtype of the logits",
        "afm_ref/losses.py",
        "xp, logits = logits.__array_namespace__(), wide(logits)",
        "xp = logits.__array_namespace__()",
        f"{TESTS}log_probabilities_entropies_and_divergences",
    ),
    Mutation(
        "a count of weights stops at 256",
        "afm_ref/losses.py",
        "    weights = wide(weights)\n",
        "",
        f"{TESTS}losses_of_600_positions",
    ),
    Mutation(
        "a gradient's norm overflows",
        "afm_ref/training/step.py",
        "optax.tree.norm(jax.tree.map(wide, tree))",
        "optax.tree.norm(tree)",
        f"{TESTS}optimizers_take_gradients_of_size_300",
    ),
    Mutation(
        "the optimizer's moments have the dtype of the weights",
        "afm_ref/pretraining/optimizer.py",
        "lambda w: jnp.zeros_like(wide(w)), params",
        "jnp.zeros_like, params",
        f"{TESTS}optimizers_take_gradients_of_size_300",
    ),
    Mutation(
        "the trust region's terms cancel in 16 bits",
        "afm_ref/rlhf/mdloo.py",
        "xp, log_rho = log_rho.__array_namespace__(), wide(log_rho)",
        "xp = log_rho.__array_namespace__()",
        f"{TESTS}scores_of_preferences_and_returns",
    ),
    Mutation(
        "microbatches add up in 16 bits",
        "afm_ref/parallelism/sharded/pipelining.py",
        "lambda w: wide(w) if jnp.issubdtype(w.dtype, jnp.floating) else w",
        "lambda w: w",
        f"{TESTS}microbatches_of_a_pipeline_add_up",
    ),
    Mutation(
        "reward heads read states of 16 bits",
        "afm_ref/post_training/reward_model.py",
        "preference, w_in, w_out = (wide(w) for w in (model.preference, model.w_in, model.w_out))",
        "e, preference, w_in, w_out = e.astype(model.preference.dtype), model.preference, model.w_in, model.w_out",
        f"{TESTS}reward_heads_on_states_of_size_1000",
    ),
    Mutation(
        "a palette's products overflow before their power of two",
        "afm_ref/quantization/palette/quantized_weights.py",
        """y = ops.linear(wide, self.normalized(wide.dtype)) * power_of_two(
            self.exponent, wide.dtype
        )""",
        "y = ops.linear(x, self.normalized(x.dtype)) * power_of_two(self.exponent, x.dtype)",
        f"{TESTS}weights_in_few_bits_do_not_overflow",
    ),
    Mutation(
        "the nucleus is summed in 16 bits",
        "afm_ref/generation/sampling.py",
        "    logits = wide(logits)\n    descending",
        "    descending",
        f"{TESTS}nucleus_and_draws",
    ),
]

"""Faults in afm_ref/quantization and its files; see tests/mutations.py."""

from tools.mutate import Mutation

MUTATIONS = [
    Mutation(
        "the Fisher matrix is that of gradients and not of their squares",
        "afm_ref/quantization/sensitivity.py",
        "t + ops.wide(g) ** 2",
        "t + ops.wide(g)",
        "tests/quantization/test_sensitivity.py::test_fisher_is_the_mean_of_squared_finite_differences",
    ),
    Mutation(
        "the predicted loss forgets Taylor's half",
        "afm_ref/quantization/sensitivity.py",
        "return 0.5 * float((fisher[key] * error**2).sum())",
        "return float((fisher[key] * error**2).sum())",
        "tests/quantization/test_sensitivity.py::test_predicted_equals_loops_and_falls_with_bits",
    ),
    Mutation(
        "padding counts in the moments of the inputs",
        "afm_ref/quantization/sensitivity.py",
        "weighted = wide * ops.wide(batch.weights)[..., None]",
        "weighted = wide",
        "tests/quantization/test_sensitivity.py::test_moments_are_those_of_the_inputs_that_the_forward_pass_sees",
    ),
    Mutation(
        "the knapsack ignores what is fixed by hand",
        "afm_ref/quantization/allocation.py",
        "for b in sorted(costs) if fixed in (None, b)]",
        "for b in sorted(costs)]",
        "tests/quantization/test_allocation.py::test_bits_fixed_by_hand_are_kept_and_the_rest_is_the_best_beside_them",
    ),
    Mutation(
        "an assignment that a smaller one beats is kept for it",
        "afm_ref/quantization/allocation.py",
        "costs[order][1:] < cheapest[:-1]",
        "costs[order][1:] > cheapest[:-1]",
        "tests/quantization/test_allocation.py::test_no_assignment_is_better",
    ),
    Mutation(
        "greedy takes the largest saving whatever it costs in bits",
        "afm_ref/quantization/allocation.py",
        "rate = (cost - other_cost) / (other_size - size)",
        "rate = cost - other_cost",
        "tests/quantization/test_allocation.py::test_the_simpler_methods_miss_the_optimum_where_they_should",
    ),
    Mutation(
        "the window has no lower end",
        "afm_ref/quantization/allocation.py",
        "start, end = np.searchsorted(self.size, floor), ",
        "start, end = 0, ",
        "tests/quantization/test_allocation.py::test_the_best_within_a_window_by_brute_force",
    ),
    Mutation(
        "GPTQ does not compensate",
        "afm_ref/quantization/alternatives.py",
        "if upper is not None:",
        "if False:",
        "tests/quantization/test_alternatives.py::test_two_columns_by_brute_force",
    ),
    Mutation(
        "GPTQ takes the Cholesky factor of H and not of its inverse",
        "afm_ref/quantization/alternatives.py",
        "np.linalg.cholesky(np.linalg.inv(damped)).T",
        "np.linalg.cholesky(damped).T",
        "tests/quantization/test_alternatives.py::test_three_columns_follow_the_conditional_optimum",
    ),
    Mutation(
        "codes come out of their byte in the opposite order",
        "afm_ref/quantization/packing.py",
        "shifts = xp.arange(0, 8, bits, dtype=xp.uint8)",
        "shifts = xp.arange(0, 8, bits, dtype=xp.uint8)[::-1]",
        "tests/quantization/test_packing.py::test_unpack_undoes_pack",
    ),
    Mutation(
        "codes are chosen before the table is rounded to float16",
        "afm_ref/quantization/palettize.py",
        "found = [finish(prepared, 2**bits).astype(np.float16) for prepared in list(pool.map(begin, some))]\n"
        "            codes += pool.map(encode, some, found)\n"
        "            tables += found\n",
        "found = [finish(prepared, 2**bits) for prepared in list(pool.map(begin, some))]\n"
        "            codes += pool.map(encode, some, found)\n"
        "            tables += [table.astype(np.float16) for table in found]\n",
        "tests/quantization/test_palettize.py::test_codes_point_to_the_nearest_entry_as_stored",
    ),
    Mutation(
        "k-means makes one cut too few",
        "afm_ref/quantization/kmeans.py",
        "for _ in range(k - 1):",
        "for _ in range(k - 2):",
        "tests/quantization/test_kmeans.py::test_exact_finds_the_optimum_of_kmeans1d",
    ),
    Mutation(
        "the fast mode never moves its cuts",
        "afm_ref/quantization/kmeans.py",
        "before, cuts = cuts, np.array([0, *near[np.arange(len(path)), path], n])",
        "before = cuts",
        "tests/quantization/test_kmeans.py::test_fast_is_near_the_optimum",
    ),
    Mutation(
        "the checksums of a palettized file are not compared",
        "afm_ref/interop/palettized.py",
        "if file.metadata() != contents.about(checksums):",
        'if (file.metadata() | {"crc32": ""}) != (contents.about(checksums) | {"crc32": ""}):',
        "tests/interop/test_palettized.py::test_every_damage_is_refused",
    ),
    Mutation(
        "a palettized file is read with whatever config.json lies beside it",
        "afm_ref/interop/palettized.py",
        "if file.metadata() != contents.about(checksums):",
        'if file.metadata()["crc32"] != contents.about(checksums)["crc32"]:',
        "tests/interop/test_palettized.py::test_another_config_is_refused",
    ),
    Mutation(
        "the errors at 2 and at 4 bits change places",
        "afm_ref/interop/palettizing.py",
        "zip((FEW, MANY), errors)",
        "zip((MANY, FEW), errors)",
        "tests/interop/test_palettizing.py::test_a_matrix_that_is_hard_to_palettize_gets_more_bits",
    ),
    Mutation(
        "a palettized folder is written in place",
        "afm_ref/atomic.py",
        'temporary = [path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in paths]',
        "temporary = paths",
        "tests/interop/test_palettizing.py::test_an_interrupted_run_leaves_the_target_as_it_was",
    ),
    Mutation(
        "one outlier draws all places to cut at",
        "afm_ref/quantization/kmeans.py",
        "    weight += weight.mean() * (gaps > 0)\n",
        "",
        "tests/quantization/test_kmeans.py::test_fast_is_near_the_optimum",
    ),
    Mutation(
        "recovery's divergence is taken in the reverse direction",
        "afm_ref/quantization/recovery.py",
        "(xp.exp(log_p) * (log_p - log_q))",
        "(xp.exp(log_q) * (log_q - log_p))",
        "tests/quantization/test_recovery.py::test_divergence_and_its_gradient_in_closed_form",
    ),
    Mutation(
        "the teacher gets a gradient",
        "afm_ref/quantization/recovery.py",
        "log_softmax(stop_gradient(teacher))",
        "log_softmax(teacher)",
        "tests/quantization/test_recovery.py::test_divergence_and_its_gradient_in_closed_form",
    ),
    Mutation(
        "recovery's padding is counted in the divergence",
        "afm_ref/quantization/recovery.py",
        "    nats = -(1 - weight) * token_log_probs(student, batch.targets) + weight * divergence(teacher, student)\n"
        "    return weighted(nats, batch.weights)",
        "    nats = -(1 - weight) * token_log_probs(student, batch.targets) * batch.weights\n"
        "    nats = nats + weight * divergence(teacher, student)\n"
        "    return nats.sum(), batch.weights.sum()",
        "tests/quantization/test_recovery.py::test_distillation_by_hand",
    ),
    Mutation(
        "recovery trains the frozen base's gains as well",
        "afm_ref/quantization/recovery.py",
        "return Pair(lora.trainable(pair.student), None)",
        "return Pair(training.where(lambda path: 'norm' in path or path[-2:] in ('.a', '.b'))(pair.student), None)",
        "tests/quantization/test_recovery.py::test_recovery_trains_the_adapter_alone",
    ),
    Mutation(
        "the adapter from the residual forgets its own scale",
        "afm_ref/quantization/recovery.py",
        "factors(lost / scale, rank)",
        "factors(lost, rank)",
        "tests/quantization/test_recovery.py::test_residual_start_is_the_nearest_of_its_rank",
    ),
    Mutation(
        "the 8-bit cache has one scale a token for all heads",
        "afm_ref/quantization/kv_cache.py",
        "xp.max(xp.abs(x), axis=-1) / LARGEST",
        "xp.max(xp.abs(x), axis=(-2, -1))[..., None] / LARGEST + 0 * x[..., 0]",
        "tests/quantization/test_kv_cache.py::test_each_vector_errs_by_half_a_step_at_most",
    ),
    Mutation(
        "the 8-bit cache cuts off instead of rounding",
        "afm_ref/quantization/kv_cache.py",
        "xp.round(x / step)",
        "xp.trunc(x / step)",
        "tests/quantization/test_kv_cache.py::test_each_vector_errs_by_half_a_step_at_most",
    ),
    Mutation(
        "values are written over keys in the 8-bit cache",
        "afm_ref/quantization/kv_cache.py",
        "(restored(cache.k, k.dtype), restored(cache.v, v.dtype), cache.positions), cache",
        "(restored(cache.k, k.dtype), restored(cache.k, v.dtype), cache.positions), cache",
        "tests/quantization/test_kv_cache.py::test_the_cache_equals_a_whole_forward_with_rounded_keys",
    ),
    Mutation(
        "generate forgets which cache was asked for",
        "afm_ref/decoding.py",
        "new), top_k, cache)",
        "new), top_k, Cached)",
        "tests/quantization/test_kv_cache.py::test_generation_runs_with_it",
    ),
]

"""Faults in afm_ref/quantization and its files; see tests/mutations.py."""

from tools.mutate import faults

MUTATIONS = faults("""
afm_ref/quantization/bits/sensitivity.py
  the Fisher matrix is that of gradients and not of their squares
    - t + ops.wide(g) ** 2
    + t + ops.wide(g)
    tests/quantization/test_sensitivity.py::test_fisher_is_the_mean_of_squared_finite_differences
  the predicted loss forgets Taylor's half
    - return 0.5 * float((fisher[key] * error**2).sum())
    + return float((fisher[key] * error**2).sum())
    tests/quantization/test_sensitivity.py::test_predicted_equals_loops_and_falls_with_bits
  padding counts in the moments of the inputs
    - weighted = wide * ops.wide(batch.weights)[..., None]
    + weighted = wide
    tests/quantization/test_sensitivity.py::test_moments_are_those_of_the_inputs_that_the_forward_pass_sees
afm_ref/quantization/bits/allocation.py
  the knapsack ignores what is fixed by hand
    - for b in sorted(costs) if fixed in (None, b)]
    + for b in sorted(costs)]
    tests/quantization/test_allocation.py::test_bits_fixed_by_hand_are_kept_and_the_rest_is_the_best_beside_them
  the knapsack looks for the greatest loss
    - = self.loss + cost
    + = self.loss - cost
    tests/quantization/test_allocation.py::test_no_assignment_is_better
  greedy takes the largest saving whatever it costs in bits
    - return (cost - lower) / (larger - size)
    + return cost - lower
    tests/quantization/test_allocation.py::test_the_simpler_methods_miss_the_optimum_where_they_should
  the window has no lower end
    - start = math.ceil(max(0, least - self.first) / self.unit)
    + start = 0
    tests/quantization/test_allocation.py::test_the_best_within_a_window_by_brute_force
afm_ref/quantization/alternatives.py
  GPTQ does not compensate
    - if upper is not None:
    + if False:
    tests/quantization/test_quantizers.py::test_three_columns_follow_the_conditional_optimum
  GPTQ takes the Cholesky factor of H and not of its inverse
    - np.linalg.cholesky(np.linalg.inv(damped)).T
    + np.linalg.cholesky(damped).T
    tests/quantization/test_quantizers.py::test_three_columns_follow_the_conditional_optimum
afm_ref/quantization/palette/bit_packing.py
  codes come out of their byte in the opposite order
    - shifts = xp.arange(0, 8, bits, dtype=xp.uint8)
    + shifts = xp.arange(0, 8, bits, dtype=xp.uint8)[::-1]
    tests/quantization/test_quantized_weights.py::test_unpack_undoes_pack
afm_ref/quantization/palette/quantizers.py
  codes are chosen before the table is rounded to float16
    - kmeans.nearest(values, table.astype(values.dtype))
    + kmeans.nearest(values, kmeans.fast(values, 2**bits, h))
    tests/quantization/test_quantizers.py::test_codes_point_to_the_nearest_entry_as_stored
afm_ref/quantization/palette/kmeans.py
  k-means makes one cut too few
    - for _ in range(k - 1):
    + for _ in range(k - 2):
    tests/quantization/test_quantizers.py::test_exact_finds_the_optimum_of_kmeans1d
  the fast mode never moves its cuts
    - before, cuts = cuts, np.array([0, *near[np.arange(len(path)), path], n])
    + before = cuts
    tests/quantization/test_quantizers.py::test_fast_is_near_the_optimum
afm_ref/interop/palettized.py
  the checksums of a palettized file are not compared
    - if file.metadata() != contents.about(checksums):
    + if (file.metadata() | {"crc32": ""}) != (contents.about(checksums) | {"crc32": ""}):
    tests/interop/test_palettized.py::test_every_damage_is_refused
  a palettized file is read with whatever config.json lies beside it
    - if file.metadata() != contents.about(checksums):
    + if file.metadata()["crc32"] != contents.about(checksums)["crc32"]:
    tests/interop/test_palettized.py::test_another_config_is_refused
afm_ref/interop/palettizing.py
  the errors at 2 and at 4 bits change places
    - _squares(w - palettize(w, bits, rows_per_table)
    + _squares(w - palettize(w, FEW + MANY - bits, rows_per_table)
    tests/interop/test_palettized.py::test_a_matrix_that_is_hard_to_palettize_gets_more_bits
afm_ref/disk/atomic.py
  a palettized folder is written in place
    - temporary = [path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in paths]
    + temporary = paths
    tests/interop/test_palettized.py::test_an_interrupted_run_leaves_the_target_as_it_was
afm_ref/quantization/palette/kmeans.py
  one outlier draws all places to cut at
    -     weight += weight.mean() * (gaps > 0)
    -
    tests/quantization/test_quantizers.py::test_fast_is_near_the_optimum
afm_ref/quantization/recovery.py
  recovery's divergence is taken in the reverse direction
    - (jax.numpy.exp(log_p) * (log_p - log_q))
    + (jax.numpy.exp(log_q) * (log_q - log_p))
    tests/quantization/test_recovery.py::test_divergence_and_its_gradient_in_closed_form
  the teacher gets a gradient
    - log_softmax(wide(stop_gradient(teacher)))
    + log_softmax(wide(teacher))
    tests/quantization/test_recovery.py::test_divergence_and_its_gradient_in_closed_form
  recovery's padding is counted
    - return weighted(nats, batch.weights)
    + return weighted(nats, 0 * batch.weights + 1)
    tests/quantization/test_recovery.py::test_the_loss_by_hand
  recovery trains the frozen base's gains as well
    - lora.trainable(pair.student)
    + training.where(lambda path: 'norm' in path or path[-2:] in ('.a', '.b'))(pair.student)
    tests/quantization/test_recovery.py::test_recovery_trains_the_adapter_alone
  the adapter from the residual forgets its own scale
    - factors(lost / scale, rank)
    + factors(lost, rank)
    tests/quantization/test_recovery.py::test_residual_start_is_the_nearest_of_its_rank
afm_ref/quantization/eight_bit_cache.py
  the 8-bit cache has one scale a token for all heads
    - xp.max(xp.abs(x), axis=-1) / LARGEST
    + xp.max(xp.abs(x), axis=(-2, -1))[..., None] / LARGEST + 0 * x[..., 0]
    tests/quantization/test_eight_bit_cache.py::test_each_vector_errs_by_half_a_step_at_most
  the 8-bit cache cuts off instead of rounding
    - xp.round(x / step)
    + xp.trunc(x / step)
    tests/quantization/test_eight_bit_cache.py::test_each_vector_errs_by_half_a_step_at_most
  values are written over keys in the 8-bit cache
    - restored(cache.v, v.dtype),
    + restored(cache.k, v.dtype),
    tests/quantization/test_eight_bit_cache.py::test_the_cache_equals_a_whole_forward_with_rounded_keys
afm_ref/generation/decoding.py
  generate forgets which cache was asked for
    - new), top_k, cache)
    + new), top_k, Cached)
    tests/quantization/test_eight_bit_cache.py::test_generation_runs_with_it
afm_ref/evaluation.py
  the bound is the higher one of runs and records
    - return mean, min(over_runs, over_records)
    + return mean, max(over_runs, over_records)
    tests/transformer/test_transformer.py::test_a_bound_is_the_lower_of_that_over_runs_and_over_records
afm_ref/teaching/chapters/quantization.py
  what draws nothing is compared with the first seed alone
    - zip(ours, theirs)
    + zip(ours, theirs[:2])
    tests/quantization/test_recording.py::test_bounds_are_those_of_students_t_over_the_recorded_records
""")

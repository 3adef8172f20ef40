"""Faults in the update of terms, the coordinate check and what stands on them; see tests/mutations.py."""

from tools.mutate import faults

MUTATIONS = faults("""
afm_ref/pretraining/ablations.py
  Adam's momentum is not corrected for its start at zero
    - u = m / gathered * jax
    + u = m * jax
    tests/pretraining/test_ablations.py::test_equals_optax[adam]
  the factored second moment is not divided by the mean of its rows
    - rows / rows.mean() * columns
    + rows * columns
    tests/pretraining/test_ablations.py::test_a_matrix_of_rank_one_is_factored_without_loss
afm_ref/pretraining/optimizer.py
  the second moment is not corrected for its start at zero
    - jax.lax.rsqrt(v / gathered)
    + jax.lax.rsqrt(v)
    tests/pretraining/test_optimizer.py::test_two_steps_by_hand
  momentum runs over what was not clipped
    -     u = u / jnp.maximum(1.0, rms(u) / clip)
    +     u = u + 0 / jnp.maximum(1.0, rms(u) / clip)
    tests/pretraining/test_optimizer.py::test_two_steps_by_hand
afm_ref/pretraining/mup.py
  the coordinate check forgets the factor of the matrices
    - update_scale=on_matrices(matrix_scale)
    + update_scale=on_matrices(1.0)
    tests/pretraining/test_mup.py::test_standard_changes_grow_with_width_and_mup_simple_keeps_them_level
  the vertex of the parabola is mirrored
    - 0.5 * (before - after) / bend
    + 0.5 * (after - before) / bend
    tests/pretraining/test_mup.py::test_the_best_rate_of_a_parabola_is_its_vertex
  a run whose loss is NaN has the best rate
    - y = np.where(np.isfinite(y), y, np.inf)
    + y = np.asarray(y)
    tests/pretraining/test_mup.py::test_a_run_that_diverged_is_never_the_best
""")

"""Faults in the update of terms, the coordinate check and what stands on them; see tests/mutations.py."""

from tools.mutate import Mutation

OPTIMIZER, ABLATIONS, MUP = (f"afm_ref/pretraining/{name}.py" for name in ("optimizer", "ablations", "mup"))
ABLATION_TESTS = "tests/pretraining/test_ablations.py::"

MUTATIONS = [
    Mutation(
        "Adam's momentum is not corrected for its start at zero",
        ABLATIONS,
        "u = m / gathered * jax",
        "u = m * jax",
        ABLATION_TESTS + "test_equals_optax[adam]",
    ),
    Mutation(
        "the factored second moment is not divided by the mean of its rows",
        ABLATIONS,
        "rows / rows.mean() * columns",
        "rows * columns",
        ABLATION_TESTS + "test_a_matrix_of_rank_one_is_factored_without_loss",
    ),
    Mutation(
        "the second moment is not corrected for its start at zero",
        OPTIMIZER,
        "jax.lax.rsqrt(v / gathered)",
        "jax.lax.rsqrt(v)",
        "tests/pretraining/test_optimizer.py::test_two_steps_by_hand",
    ),
    Mutation(
        "momentum runs over what was not clipped",
        OPTIMIZER,
        "    u = u / jnp.maximum(1.0, rms(u) / clip)",
        "    u = u + 0 / jnp.maximum(1.0, rms(u) / clip)",
        "tests/pretraining/test_optimizer.py::test_two_steps_by_hand",
    ),
    Mutation(
        "the coordinate check forgets the factor of the matrices",
        MUP,
        "update_scale=on_matrices(matrix_scale)",
        "update_scale=on_matrices(1.0)",
        "tests/pretraining/test_mup.py::test_standard_changes_grow_with_width_and_mup_simple_keeps_them_level",
    ),
    Mutation(
        "the vertex of the parabola is mirrored",
        MUP,
        "0.5 * (before - after) / bend",
        "0.5 * (after - before) / bend",
        "tests/pretraining/test_mup.py::test_the_best_rate_of_a_parabola_is_its_vertex",
    ),
    Mutation(
        "a run whose loss is NaN has the best rate",
        MUP,
        "y = np.where(np.isfinite(y), y, np.inf)",
        "y = np.asarray(y)",
        "tests/pretraining/test_mup.py::test_a_run_that_diverged_is_never_the_best",
    ),
]

"""Faults in the update of terms, the coordinate check and what stands on them; see tests/mutations.py."""

from tools.mutate import Mutation

UPDATES, MUP = "afm_ref/pretraining/updates.py", "afm_ref/pretraining/mup.py"

MUTATIONS = [
    Mutation(
        "Adam's momentum is not corrected for its start at zero",
        UPDATES,
        "u = (m / correction(terms.b1, t, terms.correct_momentum, g)) if",
        "u = m if",
        "tests/pretraining/test_updates.py::test_two_steps_by_hand",
    ),
    Mutation(
        "the factored second moment is not divided by the mean of its rows",
        UPDATES,
        "rows / rows.mean(-2, keepdims=True) * columns",
        "rows * columns",
        "tests/pretraining/test_updates.py::test_a_matrix_of_rank_one_is_factored_without_loss",
    ),
    Mutation(
        "eps is added to the corrected root's inside, not to the squares",
        UPDATES,
        "u = u / (root + terms.eps_outside)",
        "u = u / jnp.sqrt(root**2 + terms.eps_outside)",
        "tests/pretraining/test_updates.py::test_equals_optax[adamw]",
    ),
    Mutation(
        "AdamW's decay forgets the learning rate",
        UPDATES,
        "(learning_rate if terms.decay_times_rate else 1.0)",
        "1.0",
        "tests/pretraining/test_updates.py::test_equals_optax[adamw]",
    ),
    Mutation(
        "a skipped step is counted",
        UPDATES,
        "jax.tree.map(lambda a, b: jnp.where(take, a, b), new, old)",
        "new._replace(v=old.v, m=old.m)",
        "tests/pretraining/test_updates.py::test_a_step_is_skipped_only_where_that_is_a_term",
    ),
    Mutation(
        "the coordinate check forgets the factor of the matrices",
        MUP,
        "lambda path: learning_rate * scale(path)",
        "lambda path: learning_rate",
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

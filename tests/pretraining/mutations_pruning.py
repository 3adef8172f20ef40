"""Faults in pruning and distillation; see tests/mutations.py."""

from tools.mutate import Mutation

SOFT, PRUNING, CRITERIA, DISTILLATION = (
    f"afm_ref/pretraining/{name}.py" for name in ("pruning/top_k", "pruning/ffn", "pruning/criteria", "distillation")
)
SOFT_TESTS, PRUNING_TESTS = "tests/pretraining/test_top_k.py::", "tests/pretraining/test_pruning.py::"
DISTILLATION_TESTS = "tests/pretraining/test_distillation.py::"

MUTATIONS = [
    Mutation(
        "soft top-k clips one entry too few",
        SOFT,
        "pivot = xp.take_along_axis(ordered, over.sum(axis=-1, keepdims=True)",
        "pivot = xp.take_along_axis(ordered, xp.maximum(over.sum(axis=-1, keepdims=True) - 1, 0)",
        SOFT_TESTS + "test_by_hand",
    ),
    Mutation(
        "the unclipped entries share k, not what the clipped ones leave",
        SOFT,
        "left = (k - clipped.sum(axis=-1, keepdims=True)).astype(z.dtype)",
        "left = xp.full_like(pivot, k)",
        SOFT_TESTS + "test_sum_is_exactly_k_by_bisection",
    ),
    Mutation(
        "a gradient goes through clipped entries",
        SOFT,
        "share > 0, weights * (t - (share * t).sum(axis=-1, keepdims=True)), 0.0",
        "share >= 0, weights * (t - (share * t).sum(axis=-1, keepdims=True)), 0.0",
        SOFT_TESTS + "test_derivative_by_finite_differences",
    ),
    Mutation(
        "the derivative forgets that the threshold moves",
        SOFT,
        "weights * (t - (share * t).sum(axis=-1, keepdims=True))",
        "weights * t",
        SOFT_TESTS + "test_derivative_by_finite_differences",
    ),
    Mutation(
        "w_up keeps its first k channels, not the chosen ones",
        PRUNING,
        "w_up=layer.w_up[kept]",
        "w_up=layer.w_up[:k]",
        PRUNING_TESTS + "test_sliced_equals_masked",
    ),
    Mutation(
        "the channels of the smallest scores are kept",
        PRUNING,
        "np.asarray(hard_top_k(w.scores, k))",
        "np.asarray(hard_top_k(-w.scores, k))",
        PRUNING_TESTS + "test_sliced_equals_masked",
    ),
    Mutation(
        "eps is trained as well",
        PRUNING,
        'path.rpartition(".")[2] != "eps"',
        "True",
        PRUNING_TESTS + "test_scores_are_trained_and_eps_is_not",
    ),
    Mutation(
        "the masks never learn of the step's eps",
        PRUNING,
        "return next_token(at_eps(params, annealed.eps), annealed.batch, cfg)",
        "return next_token(params, annealed.batch, cfg)",
        PRUNING_TESTS + "test_eps_comes_with_the_batch",
    ),
    Mutation(
        "padding counts in the mean activation",
        CRITERIA,
        "np.asarray(batch.weights) > 0, []",
        "np.asarray(batch.weights) >= 0, []",
        PRUNING_TESTS + "test_criteria_by_hand",
    ),
    Mutation(
        "the teacher gets a tenth and the text nine",
        DISTILLATION,
        "log_probs = share * token_log_probs(z, teacher) + (1 - share) * token_log_probs(",
        "log_probs = (1 - share) * token_log_probs(z, teacher) + share * token_log_probs(",
        DISTILLATION_TESTS + "test_the_loss_by_hand",
    ),
    Mutation(
        "the teacher reads across documents",
        DISTILLATION,
        "hidden(teacher, batch.tokens, cfg, attend=Causal(batch.documents))",
        "hidden(teacher, batch.tokens, cfg)",
        DISTILLATION_TESTS + "test_top_tokens_equal_the_argmax_of_all_logits",
    ),
]

"""Faults in pruning and distillation; see tests/mutations.py."""

from tools.mutate import faults

MUTATIONS = faults("""
afm_ref/pretraining/pruning/top_k.py
  soft top-k clips one entry too few
    - pivot = xp.take_along_axis(ordered, over.sum(axis=-1, keepdims=True)
    + pivot = xp.take_along_axis(ordered, xp.maximum(over.sum(axis=-1, keepdims=True) - 1, 0)
    tests/pretraining/test_top_k.py::test_by_hand
  the unclipped entries share k, not what the clipped ones leave
    - left = (k - clipped.sum(axis=-1, keepdims=True)).astype(z.dtype)
    + left = xp.full_like(pivot, k)
    tests/pretraining/test_top_k.py::test_sum_is_exactly_k_by_bisection
  a gradient goes through clipped entries
    - share > 0, weights * (t - (share * t).sum(axis=-1, keepdims=True)), 0.0
    + share >= 0, weights * (t - (share * t).sum(axis=-1, keepdims=True)), 0.0
    tests/pretraining/test_top_k.py::test_derivative_by_finite_differences
  the derivative forgets that the threshold moves
    - weights * (t - (share * t).sum(axis=-1, keepdims=True))
    + weights * t
    tests/pretraining/test_top_k.py::test_derivative_by_finite_differences
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
    tests/pretraining/test_distillation.py::test_the_loss_by_hand
  the teacher reads across documents
    - hidden(teacher, batch.tokens, cfg, attend=Causal(batch.documents))
    + hidden(teacher, batch.tokens, cfg)
    tests/pretraining/test_distillation.py::test_top_tokens_equal_the_argmax_of_all_logits
""")

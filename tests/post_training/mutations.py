"""Faults in afm_ref/post_training; see tests/mutations.py."""

from tools.mutate import Mutation

ROWS = "afm_ref/post_training/rows.py"

MUTATIONS = [
    Mutation(
        "DPO forgets its reference",
        "afm_ref/post_training/losses.py",
        "ratios = sequence_log_probs(params, pairs.rows, cfg) - pairs.reference  # [R]",
        "ratios = sequence_log_probs(params, pairs.rows, cfg)",
        "tests/post_training/test_trl_golden.py::test_losses_equal_trl",
    ),
    Mutation(
        "log sigmoid has a wrong slope at zero",
        "afm_ref/post_training/losses.py",
        "return -xp.logaddexp(xp.zeros_like(x), -x)",
        "return xp.minimum(x, xp.zeros_like(x)) - xp.log1p(xp.exp(-xp.abs(x)))",
        "tests/post_training/test_losses.py::test_the_first_step_has_its_true_slope",
    ),
    Mutation(
        "IPO aims at 1 / tau and not at 1 / (2 tau)",
        "afm_ref/post_training/losses.py",
        "return (wide(h) - 1 / (2 * tau)) ** 2",
        "return (wide(h) - 1 / tau) ** 2",
        "tests/post_training/test_trl_golden.py::test_losses_equal_trl",
    ),
    Mutation(
        "chosen and rejected are swapped",
        "afm_ref/post_training/losses.py",
        "chosen, rejected = ratios[pairs.places]",
        "rejected, chosen = ratios[pairs.places]",
        "tests/post_training/test_trl_golden.py::test_losses_equal_trl",
    ),
    Mutation(
        "the reward is read at the last position, padding or not",
        ROWS,
        "last = xp.asarray(self.lengths)[:, None, None] - 1",
        "last = 0 * xp.asarray(self.lengths)[:, None, None] + self.tokens.shape[1] - 1",
        "tests/post_training/test_reward_model.py::test_heads_read_the_last_real_token",
    ),
    Mutation(
        "the soft label is ignored",
        "afm_ref/post_training/reward_model.py",
        "label if soft else xp.ones_like(label)",
        "xp.ones_like(label)",
        "tests/post_training/test_reward_model.py::test_loss_equals_its_definition",
    ),
    Mutation(
        "grades of chosen and rejected responses are mixed up",
        "afm_ref/post_training/reward_model.py",
        "xp.moveaxis(xp.asarray(pairs.grades), -1, 0)",
        "xp.moveaxis(xp.asarray(pairs.grades), -1, 0)[:, ::-1]",
        "tests/post_training/test_reward_model.py::test_loss_equals_its_definition",
    ),
    Mutation(
        "padding is part of the response",
        ROWS,
        "tokens[row, : len(ids)], response[row, start : len(ids)] = ids, True",
        "tokens[row, : len(ids)], response[row, start:] = ids, True",
        "tests/post_training/test_rows.py::test_padding_leaks_nowhere",
    ),
    Mutation(
        "the mask of the response is not shifted with its targets",
        ROWS,
        "return self.response[:, 1:]\n",
        "return self.response[:, :-1]\n",
        "tests/post_training/test_rows.py::test_probabilities_of_all_responses_sum_to_one",
    ),
    Mutation(
        "one teacher for all prompts instead of the best for each",
        "afm_ref/post_training/committee.py",
        "choice = best_per_prompt(pool.rewards)",
        "m = best_member(pool.rewards)\n"
        "        choice = Best(np.full(len(prompts), m), pool.rewards[m].argmax(axis=1))",
        "tests/post_training/test_committee.py::test_rounds_by_hand",
    ),
    Mutation(
        "the committee looks at more samples than a single teacher",
        "afm_ref/post_training/committee.py",
        "value(np.s_[:, :, : N // M])",
        "value(np.s_[:, :, :N])",
        "tests/post_training/test_committee.py::test_budgets_are_equal",
    ),
    Mutation(
        "the reward model of the round before picks the winners",
        "afm_ref/post_training/committee.py",
        "pool = pool_of(committee, reward, tools, prompts, n, seeds[3])",
        "pool = pool_of(committee, done[-1].reward if done else reward, tools, prompts, n, seeds[3])",
        "tests/post_training/test_committee.py::test_rounds_by_hand",
    ),
    Mutation(
        "the best of n is drawn with replacement",
        "afm_ref/post_training/responses.py",
        "weights = [math.comb(i, n - 1) / math.comb(m, n) for i in range(m)]",
        "weights = [((i + 1) / m) ** n - (i / m) ** n for i in range(m)]",
        "tests/post_training/test_responses.py::test_expected_best_over_all_subsets",
    ),
    Mutation(
        "a solution that never ended is kept as a demonstration",
        "afm_ref/post_training/hybrid.py",
        "if r.ended and tasks.success(s.record, r.text)]",
        "if tasks.success(s.record, r.text)]",
        "tests/post_training/test_hybrid.py::test_solutions_are_kept_by_the_verifier",
    ),
    Mutation(
        "pairs that only fill a batch up are learnt from",
        "afm_ref/post_training/losses.py",
        """np.where(
                np.arange(len(filled)) < len(numbers), self.weights[filled], np.float32(0)
            ),""",
        "self.weights[filled],",
        "tests/post_training/test_losses.py::test_loss_is_that_of_the_pairs",
    ),
    Mutation(
        "a batch's pairs point at the rows as they were numbered before",
        "afm_ref/post_training/losses.py",
        "np.array([[row[i] for i in side] for side in self.places[:, filled]])",
        "self.places[:, filled] % len(row)",
        "tests/post_training/test_losses.py::test_loss_is_that_of_the_pairs",
    ),
    Mutation(
        "a response sees its neighbours",
        ROWS,
        """return super().mask(positions, key_positions) & (
            (of_key == of_query) | (of_key == 0)
        )""",
        "return super().mask(positions, key_positions) & (of_key == of_key)",
        "tests/post_training/test_rows.py::test_a_response_does_not_see_its_neighbours",
    ),
    Mutation(
        "positions run on from one response to the next",
        ROWS,
        "np.tile(np.arange(R - 1), K)",
        "np.arange(K * (R - 1))",
        "tests/post_training/test_rows.py::test_numbers_are_those_of_padded_rows[3]",
    ),
    Mutation(
        "a round's rows are as long as its longest, whatever was asked for",
        "afm_ref/post_training/losses.py",
        "pairs = pairs_of(preferences, tokenizer, multiple=multiple)",
        "pairs = pairs_of(preferences, tokenizer)",
        "tests/post_training/test_losses.py::test_rows_are_as_long_as_a_multiple",
    ),
]

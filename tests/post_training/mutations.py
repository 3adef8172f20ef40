"""Faults in afm_ref/post_training; see tests/mutations.py."""

from tools.mutate import faults

MUTATIONS = faults("""
afm_ref/post_training/losses.py
  DPO forgets its reference
    - ratios = sequence_log_probs(params, pairs.rows, cfg) - pairs.reference  # [R]
    + ratios = sequence_log_probs(params, pairs.rows, cfg)
    tests/post_training/test_losses.py::test_losses_equal_trl
  log sigmoid has a wrong slope at zero
    - return -xp.logaddexp(xp.zeros_like(x), -x)
    + return xp.minimum(x, xp.zeros_like(x)) - xp.log1p(xp.exp(-xp.abs(x)))
    tests/post_training/test_losses.py::test_the_first_step_has_its_true_slope
  IPO aims at 1 / tau and not at 1 / (2 tau)
    - return (wide(h) - 1 / (2 * tau)) ** 2
    + return (wide(h) - 1 / tau) ** 2
    tests/post_training/test_losses.py::test_losses_equal_trl
  chosen and rejected are swapped
    - chosen, rejected = ratios[pairs.places]
    + rejected, chosen = ratios[pairs.places]
    tests/post_training/test_losses.py::test_losses_equal_trl
  pairs that only fill a batch up are learnt from
    - np.where(
    -                 np.arange(len(filled)) < len(numbers), self.weights[filled], np.float32(0)
    -             ),
    + self.weights[filled],
    tests/post_training/test_losses.py::test_loss_is_that_of_the_pairs
  a batch's pairs point at the rows as they were numbered before
    - np.array([[row[i] for i in side] for side in self.places[:, filled]])
    + self.places[:, filled] % len(row)
    tests/post_training/test_losses.py::test_loss_is_that_of_the_pairs
  a round's rows are as long as its longest, whatever was asked for
    - pairs = pairs_of(preferences, tokenizer, multiple=multiple)
    + pairs = pairs_of(preferences, tokenizer)
    tests/post_training/test_losses.py::test_rows_are_as_long_as_a_multiple
afm_ref/post_training/rows.py
  the reward is read at the last position, padding or not
    - last = xp.asarray(self.lengths)[:, None, None] - 1
    + last = 0 * xp.asarray(self.lengths)[:, None, None] + self.tokens.shape[1] - 1
    tests/post_training/test_losses.py::test_heads_read_the_last_real_token
  padding is part of the response
    - tokens[row, : len(ids)], response[row, start : len(ids)] = ids, True
    + tokens[row, : len(ids)], response[row, start:] = ids, True
    tests/post_training/test_rows.py::test_padding_leaks_nowhere
  the mask of the response is not shifted with its targets
    - return self.response[:, 1:]
    + return self.response[:, :-1]
    tests/post_training/test_rows.py::test_probabilities_of_all_responses_sum_to_one
  a response sees its neighbours
    - said = xp.concatenate([read, said], axis=2)
    + said = xp.concatenate([read, said[:, [*range(1, n), 0]]], axis=2)
    tests/post_training/test_rows.py::test_a_response_does_not_see_its_neighbours
  positions run on from one response to the next
    - np.tile(np.arange(R - 1), n)
    + np.arange(n * (R - 1))
    tests/post_training/test_rows.py::test_numbers_are_those_of_padded_rows[3]
afm_ref/post_training/reward_model.py
  the soft label is ignored
    - label if soft else xp.ones_like(label)
    + xp.ones_like(label)
    tests/post_training/test_losses.py::test_loss_equals_its_definition
  grades of chosen and rejected responses are mixed up
    - xp.moveaxis(xp.asarray(pairs.grades), -1, 0)
    + xp.moveaxis(xp.asarray(pairs.grades), -1, 0)[:, ::-1]
    tests/post_training/test_losses.py::test_loss_equals_its_definition
afm_ref/post_training/committee.py
  one teacher for all prompts instead of the best for each
    - choice = best_per_prompt(pool.rewards)
    + m = best_member(pool.rewards)
    +         choice = Best(np.full(len(prompts), m), pool.rewards[m].argmax(axis=1))
    tests/post_training/test_committee.py::test_rounds_by_hand
  the committee looks at more samples than a single teacher
    - value(np.s_[:, :, : N // M])
    + value(np.s_[:, :, :N])
    tests/post_training/test_committee.py::test_budgets_are_equal
  the reward model of the round before picks the winners
    - pool = pool_of(committee, reward, tools, prompts, n, seeds[3])
    + pool = pool_of(committee, done[-1].reward if done else reward, tools, prompts, n, seeds[3])
    tests/post_training/test_committee.py::test_rounds_by_hand
afm_ref/post_training/responses.py
  the best of n is drawn with replacement
    - weights = [math.comb(i, n - 1) / math.comb(m, n) for i in range(m)]
    + weights = [((i + 1) / m) ** n - (i / m) ** n for i in range(m)]
    tests/post_training/test_preferences.py::test_expected_best_over_all_subsets
afm_ref/post_training/hybrid.py
  a solution that never ended is kept as a demonstration
    - if r.ended and tasks.success(s.record, r.text)]
    + if tasks.success(s.record, r.text)]
    tests/post_training/test_members.py::test_solutions_are_kept_by_the_verifier
afm_ref/teaching/chapters/post_training.py
  what a judge brings is not held against one sample
    - return np.array([GAINS[what](run) - run["best_of"][0] for run in of_seeds])
    + return np.array([GAINS[what](run) for run in of_seeds])
    tests/teaching/chapters/test_post_training.py::test_judges_stand_at_their_accuracy_and_gain_over_one_sample
  the committee's lead is not paired by seed
    - return {arm: mean_interval(of["committee"] - of[arm]) for arm in RIVALS}
    + return {arm: mean_interval(of["committee"] - of[arm][::-1]) for arm in RIVALS}
    tests/teaching/chapters/test_post_training.py::test_the_committees_lead_is_paired_by_seed
""")

"""Faults in afm_ref/rlhf; see tests/mutations.py."""

from tools.mutate import faults

MUTATIONS = faults("""
afm_ref/rlhf/advantages.py
  the mean of the others is divided by n
    - return n / (n - 1) * (rewards
    + return (rewards
    tests/rlhf/test_mdloo.py::test_gradient_is_exact_by_enumeration
  the penalty rewards leaving the reference
    - return rewards - beta * (log_probs
    + return rewards + beta * (log_probs
    tests/rlhf/test_mdloo.py::test_losses_equal_trl
afm_ref/rlhf/mdloo.py
  the step is drawn away from the previous iterate
    - return xp.exp(log_rho) * advantages - gamma * bregman(log_rho)
    -
    + return xp.exp(log_rho) * advantages + gamma * bregman(log_rho)
    +
    tests/rlhf/test_mdloo.py::test_gradient_is_exact_by_enumeration
  no gradient goes through rho
    - return xp.exp(log_rho) * advantages - gamma * bregman(log_rho)
    -
    + return __import__("jax").lax.stop_gradient(xp.exp(log_rho)) * advantages - gamma * bregman(log_rho)
    +
    tests/rlhf/test_mdloo.py::test_gradient_is_exact_by_enumeration
  the divergence brings a baseline of gamma along
    - return rho * log_rho - rho + 1
    -
    + return rho * log_rho
    +
    tests/rlhf/test_mdloo.py::test_gradient_of_one_sample
  the trust region is around the reference
    - each = mdloo(log_probs, wide(batch.old).sum(-1)
    + each = mdloo(log_probs, wide(batch.reference).sum(-1)
    tests/rlhf/test_mdloo.py::test_gradient_is_exact_by_enumeration
afm_ref/rlhf/rollout.py
  a part has responses of other prompts
    - numbers[:, None] * n + np.arange(n)
    + numbers[:, None] + np.arange(n)
    tests/rlhf/test_train.py::test_parts_are_an_iteration_dealt_out
  the reference is the previous iterate
    - self.read(response_log_probs, self.reference, said.rows)
    + self.read(response_log_probs, policy, said.rows)
    tests/rlhf/test_train.py::test_experience_by_hand[mdloo]
  the previous iterate is the policy of each step
    - if inner == 0 or self.experience is None:
    + if True:
    tests/rlhf/test_train.py::test_numbers_stay_fixed_within_an_iteration
  the n responses of a prompt are dealt to different groups
    - self.algorithm.advantages(R.reshape(rewards.shape)).reshape(-1)
    + self.algorithm.advantages(R.reshape(rewards.shape[::-1]).T).T.reshape(-1)
    tests/rlhf/test_train.py::test_experience_by_hand[mdloo]
afm_ref/rlhf/train.py
  GRPO's penalty stands in the reward as well as in the loss
    - "grpo": Algorithm(
    -         mdloo.grpo_loss, ("epsilon", "beta"), advantages.standardised, penalised=False
    -     ),
    + "grpo": Algorithm(mdloo.grpo_loss, ("epsilon", "beta"), advantages.standardised),
    tests/rlhf/test_train.py::test_experience_by_hand[grpo]
afm_ref/rlhf/rollout.py
  every iteration pads to its own longest row
    - share(heads, tokens, self.prompt_length, s.max_new_tokens)
    + share(heads, tokens, max(map(len, heads)), s.max_new_tokens)
    tests/rlhf/test_train.py::test_rows_have_one_length_that_holds_all
afm_ref/rlhf/mdloo.py
  PPO learns from the padding
    - gain, real = _within(batch.rows, clipped(log_rho, batch.advantages, epsilon))
    + gain, real = clipped(log_rho, batch.advantages, epsilon), batch.rows.real
    tests/rlhf/test_mdloo.py::test_padding_and_prompt_leak_nowhere[ppo]
  PPO's critic learns from the padding
    - error, real = _within(batch.rows, error)
    + real = batch.rows.real
    tests/rlhf/test_mdloo.py::test_padding_and_prompt_leak_nowhere[ppo]
  the clip takes the larger of the two
    - return xp.minimum(rho * advantages
    + return xp.maximum(rho * advantages
    tests/rlhf/test_mdloo.py::test_clip_has_no_slope_where_it_should_not
afm_ref/post_training/rows.py
  a value sees the token that it is before
    - return hidden(params, self.tokens[:, :-1], cfg)[0]
    + return hidden(params, self.tokens[:, 1:], cfg)[0]
    tests/rlhf/test_mdloo.py::test_a_value_does_not_see_the_token_it_is_before
afm_ref/rlhf/advantages.py
  rewards are standardised by n
    - rewards.std(axis=1, ddof=1, keepdims=True)
    + rewards.std(axis=1, keepdims=True)
    tests/rlhf/test_bandit.py::test_standardised_is_bounded
afm_ref/rlhf/bandit.py
  the price of guessing the mean is forgotten
    - variance += (p @ centred**2 * (p @ squares) + g @ g) / (n * (n - 1))
    + pass
    tests/rlhf/test_bandit.py::test_variances_by_enumeration[2]
afm_ref/teaching/exercises/registry.py
  an exercise's own judge is not heard
    - numbers = case.judge(got)
    + numbers = ""
    tests/teaching/test_exercises.py::test_the_best_step_passes_and_its_neighbours_do_not
afm_ref/teaching/exercises/rlhf.py
  the checker of 8.4 forgets the mean of the slope of log pi
    - scores = np.eye(len(p))[groups] - p
    + scores = np.eye(len(p))[groups]
    tests/teaching/test_exercises.py::test_what_harms_is_decided_as_the_closed_form_decides
afm_ref/rlhf/advantages.py
  DPO prefers the worst response
    - rewards.argmax(axis=1, keepdims=True), 1.0, axis=1)
    + rewards.argmax(axis=1, keepdims=True), -1.0, axis=1)
    tests/rlhf/test_bandit.py::test_advantages_by_hand
afm_ref/rlhf/rollout.py
  DPO learns from responses of its own
    - policy_of(params) if self.algorithm.online else self.reference
    + policy_of(params)
    tests/rlhf/test_train.py::test_experience_by_hand[dpo]
afm_ref/whole_road/judge.py
  a pair points at the responses to another prompt of its step
    - SAMPLES * i + groups[n].index(y)
    + SAMPLES * (i ^ 1) + groups[n].index(y)
    tests/whole_road/test_judge.py::test_a_pass_reads_every_preference_once_at_its_rows
  the reward model's rewards keep the spread that they have
    - return judge._replace(preference=judge.preference * np.float32(truth / rewards))
    + return judge
    tests/whole_road/test_judge.py::test_rewards_get_the_spread_of_utilities
afm_ref/whole_road/online_rl.py
  whoever is asked for, the utility judges
    - shops(bench, on.records, judge)
    + shops(bench, on.records, "utility")
    tests/whole_road/test_online_rl.py::test_the_judge_is_the_one_that_is_asked_for
afm_ref/whole_road/road.py
  a step counts as done before it is measured
    - resumable.finished(self.step(name), partial(self._fill, step))
    + self.step(name).exists() or self._fill(step, self.step(name))
    tests/whole_road/test_run.py::test_killed_and_called_again_it_gives_the_same_results
  a step that is done takes away what a killed one had kept
    - if not self.step(name).exists():
    + if True:
    tests/whole_road/test_run.py::test_killed_and_called_again_it_gives_the_same_results
afm_ref/teaching/chapters/rlhf.py
  what comes soon has the start's own samples in it
    - np.mean(run["reward"][1:4])
    + np.mean(run["reward"][:3])
    tests/teaching/chapters/test_rlhf.py::test_leads_are_paired_by_seed
""")

"""Faults in afm_ref/rlhf; see tests/mutations.py."""

from tools.mutate import Mutation

LOSSES, ADVANTAGES, BANDIT = (f"afm_ref/rlhf/{name}.py" for name in ("mdloo", "advantages", "bandit"))
ROLLOUT, TRAIN = "afm_ref/rlhf/rollout.py", "afm_ref/rlhf/train.py"
EXERCISES = "afm_ref/teaching/exercises/"

MUTATIONS = [
    Mutation(
        "the mean of the others is divided by K",
        ADVANTAGES,
        "return K / (K - 1) * (rewards",
        "return (rewards",
        "tests/rlhf/test_mdloo.py::test_gradient_is_exact_by_enumeration",
    ),
    Mutation(
        "the penalty rewards leaving the reference",
        ADVANTAGES,
        "return rewards - beta * (log_probs",
        "return rewards + beta * (log_probs",
        "tests/rlhf/test_trl_rl_golden.py::test_losses_equal_trl",
    ),
    Mutation(
        "the step is drawn away from the previous iterate",
        LOSSES,
        "return xp.exp(log_rho) * advantages - gamma * bregman(log_rho)\n",
        "return xp.exp(log_rho) * advantages + gamma * bregman(log_rho)\n",
        "tests/rlhf/test_mdloo.py::test_gradient_is_exact_by_enumeration",
    ),
    Mutation(
        "no gradient goes through rho",
        LOSSES,
        "return xp.exp(log_rho) * advantages - gamma * bregman(log_rho)\n",
        'return __import__("jax").lax.stop_gradient(xp.exp(log_rho)) * advantages - gamma * bregman(log_rho)\n',
        "tests/rlhf/test_mdloo.py::test_gradient_is_exact_by_enumeration",
    ),
    Mutation(
        "the divergence brings a baseline of gamma along",
        LOSSES,
        "return rho * log_rho - rho + 1\n",
        "return rho * log_rho\n",
        "tests/rlhf/test_mdloo.py::test_gradient_of_one_sample",
    ),
    Mutation(
        "the trust region is around the reference",
        LOSSES,
        "each = mdloo(log_probs, wide(batch.old).sum(-1)",
        "each = mdloo(log_probs, wide(batch.reference).sum(-1)",
        "tests/rlhf/test_mdloo.py::test_gradient_is_exact_by_enumeration",
    ),
    Mutation(
        "the reference is the previous iterate",
        ROLLOUT,
        "self.read(response_log_probs, self.reference, said.rows)",
        "self.read(response_log_probs, policy, said.rows)",
        "tests/rlhf/test_train.py::test_experience_by_hand[mdloo]",
    ),
    Mutation(
        "the previous iterate is the policy of each step",
        ROLLOUT,
        "if inner == 0 or self.experience is None:",
        "if True:",
        "tests/rlhf/test_train.py::test_numbers_stay_fixed_within_an_iteration",
    ),
    Mutation(
        "the K responses of a prompt are dealt to different groups",
        ROLLOUT,
        "self.algorithm.advantages(R.reshape(rewards.shape)).reshape(-1)",
        "self.algorithm.advantages(R.reshape(rewards.shape[::-1]).T).T.reshape(-1)",
        "tests/rlhf/test_train.py::test_experience_by_hand[mdloo]",
    ),
    Mutation(
        "GRPO's penalty stands in the reward as well as in the loss",
        TRAIN,
        """"grpo": Algorithm(
        mdloo.grpo_loss, ("epsilon", "beta"), advantages.standardised, penalised=False
    ),""",
        '"grpo": Algorithm(mdloo.grpo_loss, ("epsilon", "beta"), advantages.standardised),',
        "tests/rlhf/test_train.py::test_experience_by_hand[grpo]",
    ),
    Mutation(
        "every iteration pads to its own longest row",
        ROLLOUT,
        "share(heads, tokens, self.prompt_length, s.max_new_tokens)",
        "share(heads, tokens, max(map(len, heads)), s.max_new_tokens)",
        "tests/rlhf/test_train.py::test_rows_have_one_length_that_holds_all",
    ),
    Mutation(
        "PPO learns from the padding",
        LOSSES,
        "each, real = _within(batch.rows, each)\n    return -each.sum(), real.sum()",
        "_, real = _within(batch.rows, each)\n    return -each.sum(), real.sum()",
        "tests/rlhf/test_mdloo.py::test_padding_and_prompt_leak_nowhere[ppo]",
    ),
    Mutation(
        "the clip takes the larger of the two",
        LOSSES,
        "return xp.minimum(rho * advantages",
        "return xp.maximum(rho * advantages",
        "tests/rlhf/test_mdloo.py::test_clip_has_no_slope_where_it_should_not",
    ),
    Mutation(
        "a value sees the token that it is before",
        "afm_ref/post_training/rows.py",
        "return hidden(params, self.tokens[:, :-1], cfg)[0]",
        "return hidden(params, self.tokens[:, 1:], cfg)[0]",
        "tests/rlhf/test_mdloo.py::test_a_value_does_not_see_the_token_it_is_before",
    ),
    Mutation(
        "rewards are standardised by K",
        ADVANTAGES,
        "rewards.std(axis=1, ddof=1, keepdims=True)",
        "rewards.std(axis=1, keepdims=True)",
        "tests/rlhf/test_advantages.py::test_standardised_is_bounded",
    ),
    Mutation(
        "the price of guessing the mean is forgotten",
        BANDIT,
        "return float(variance + price)",
        "return float(variance)",
        "tests/rlhf/test_bandit.py::test_variances_by_enumeration[2]",
    ),
    Mutation(
        "an exercise's own judge is not heard",
        EXERCISES + "registry.py",
        "numbers = case.judge(got)",
        'numbers = ""',
        "tests/teaching/test_exercises.py::test_the_best_step_passes_and_its_neighbours_do_not",
    ),
    Mutation(
        "the checker of 8.4 forgets the mean of the slope of log pi",
        EXERCISES + "rlhf.py",
        "scores = np.eye(len(p))[groups] - p ",
        "scores = np.eye(len(p))[groups] ",
        "tests/teaching/test_exercises.py::test_what_harms_is_decided_as_the_closed_form_decides",
    ),
    Mutation(
        "DPO prefers the worst response",
        ADVANTAGES,
        "rewards.argmax(axis=1, keepdims=True), 1.0, axis=1)",
        "rewards.argmax(axis=1, keepdims=True), -1.0, axis=1)",
        "tests/rlhf/test_advantages.py::test_by_hand",
    ),
    Mutation(
        "DPO learns from responses of its own",
        ROLLOUT,
        "policy_of(params) if self.algorithm.online else self.reference",
        "policy_of(params)",
        "tests/rlhf/test_train.py::test_experience_by_hand[dpo]",
    ),
    Mutation(
        "whoever is asked for, the utility judges",
        "afm_ref/whole_road/online_rl.py",
        "shops(bench, on.records, judge)",
        'shops(bench, on.records, "utility")',
        "tests/whole_road/test_online_rl.py::test_the_judge_is_the_one_that_is_asked_for",
    ),
    Mutation(
        "a step counts as done before it is measured",
        "afm_ref/whole_road/road.py",
        "resumable.finished(self.step(name), partial(self._fill, step))",
        "self.step(name).exists() or self._fill(step, self.step(name))",
        "tests/whole_road/test_run.py::test_killed_and_called_again_it_gives_the_same_results",
    ),
    Mutation(
        "a step that is done takes away what a killed one had kept",
        "afm_ref/whole_road/road.py",
        "if not self.step(name).exists():",
        "if True:",
        "tests/whole_road/test_run.py::test_killed_and_called_again_it_gives_the_same_results",
    ),
]

"""Faults in the stages of pre-training; see tests/mutations.py."""

from tools.mutate import Mutation

STAGES, MIXING, COMPUTE = "afm_ref/pretraining/stages.py", "afm_ref/data/mixing.py", "afm_ref/pretraining/compute.py"
LOSSES, LONG_CONTEXT = "afm_ref/pretraining/losses.py", "afm_ref/pretraining/long_context.py"
LONG_QA, COMMAND = "afm_ref/data/long_qa.py", "afm_ref/cli/pretrain.py"
TESTS = "tests/pretraining/test_"

MUTATIONS = [
    Mutation(
        "RoPE's rule forgets the 2 pi",
        STAGES,
        "(math.log(T / (2 * math.pi)) / math.log(T_train / (2 * math.pi)))",
        "(math.log(T) / math.log(T_train))",
        f"{TESTS}stages.py::test_the_rule_gives_the_published_base",
    ),
    Mutation(
        "a stage trains with the RoPE base of the one before",
        STAGES,
        "            loss(stage, cfg),\n",
        "            loss(stage, stages[max(number - 1, 0)].config(cfg)),\n",
        f"{TESTS}stages.py::test_a_stage_changes_what_it_should_and_nothing_else",
    ),
    Mutation(
        "an optimizer that is carried on goes on with the old schedule's count",
        STAGES,
        "lambda step: schedule(step - steps)",
        "lambda step: schedule(step)",
        f"{TESTS}stages.py::test_a_carried_optimizer_keeps_its_moments_and_begins_the_schedule_anew",
    ),
    Mutation(
        "all stages keep their checkpoints in one folder",
        STAGES,
        'Path(checkpoint) / f"{number}_{stage.name}"',
        "Path(checkpoint)",
        f"{TESTS}stages.py::test_stopped_anywhere_continues_to_the_same_numbers",
    ),
    Mutation(
        "a part that is behind is not caught up with",
        MIXING,
        "shares[i] * (n + 1) - counts[i]",
        "shares[i]",
        "tests/data/test_mixing.py::test_shares_are_within_the_bound_at_every_moment",
    ),
    Mutation(
        "the row that is due is not counted, as in Megatron-LM: a part of weight 0 is drawn",
        MIXING,
        "shares[i] * (n + 1) - counts[i]",
        "shares[i] * max(n, 1) - counts[i]",
        "tests/data/test_mixing.py::test_shares_are_within_the_bound_at_every_moment",
    ),
    Mutation(
        "so many facts are planned as if they were questions",
        LONG_QA,
        "(tokens - 2 - questions * question) / fact",
        "(tokens - 2 - questions * question) / question",
        "tests/data/test_long_qa.py::test_length_in_tokens_is_as_asked",
    ),
    Mutation(
        "the only question goes with the fact that does not fit",
        LONG_QA,
        "asked[asked < facts] if (asked < facts).any() else asked[:1] % facts",
        "asked[asked < facts]",
        "tests/data/test_long_qa.py::test_a_question_is_left_when_facts_do_not_fit",
    ),
    Mutation(
        "a tokenizer of another text is taken again",
        COMMAND,
        '{"text": _digest(texts), "vocab_size": size}',
        '{"vocab_size": size}',
        f"{TESTS}pretrain_command.py::test_a_trained_tokenizer_is_taken_again_for_the_same_text_and_size_alone",
    ),
    Mutation(
        "a tokenizer that nobody trained here is taken for one",
        COMMAND,
        "elif not about.exists():",
        "elif False:",
        f"{TESTS}pretrain_command.py::test_a_trained_tokenizer_is_taken_again_for_the_same_text_and_size_alone",
    ),
    Mutation(
        "malformed weights are noticed after curation",
        COMMAND,
        "    _check_models(args)\n    _check_mixtures(args)\n",
        "    _check_models(args)\n",
        f"{TESTS}pretrain_command.py::test_what_is_wrong_is_said_before_curation[mixture_code]",
    ),
    Mutation(
        "a config that is missing is noticed after curation",
        COMMAND,
        "    _check_models(args)\n    _check_mixtures(args)\n",
        "    _check_mixtures(args)\n",
        f"{TESTS}pretrain_command.py::test_what_is_wrong_is_said_before_curation[config_none.json]",
    ),
    Mutation(
        "all parts share one order of their rows' epochs by the place in the mixture",
        MIXING,
        "orders[k](int(i))[0]",
        "orders[k](int(places[0]))[0]",
        "tests/data/test_mixing.py::test_every_row_of_a_part_once_an_epoch",
    ),
    Mutation(
        "the z-loss rewards a large normaliser",
        LOSSES,
        "weighted(penalty - log_probs,",
        "weighted(-penalty - log_probs,",
        f"{TESTS}z_loss.py::test_equals_its_definition",
    ),
    Mutation(
        "an answer is measured one token late",
        LONG_CONTEXT,
        "slice(answer.asked[0] - 1, answer.asked[1] - 1)",
        "slice(answer.asked[0], answer.asked[1])",
        f"{TESTS}stages.py::test_answers_are_measured_where_they_stand",
    ),
    Mutation(
        "a teacher's forward pass costs as much as training",
        COMPUTE,
        "return 2.0 * n_parameters * tokens",
        "return 6.0 * n_parameters * tokens",
        f"{TESTS}compute.py::test_flops_of_the_on_device_core_stage",
    ),
]

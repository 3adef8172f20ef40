"""Faults in the stages of pre-training; see tests/mutations.py."""

from tools.mutate import faults

MUTATIONS = faults("""
afm_ref/pretraining/stages.py
  RoPE's rule forgets the 2 pi
    - (math.log(T / (2 * math.pi)) / math.log(T_train / (2 * math.pi)))
    + (math.log(T) / math.log(T_train))
    tests/pretraining/test_stages.py::test_the_rule_gives_the_published_base
  a stage trains with the RoPE base of the one before
    -             loss(stage, cfg),
    +             loss(stage, stages[max(number - 1, 0)].config(cfg)),
    tests/pretraining/test_stages.py::test_a_stage_changes_what_it_should_and_nothing_else
  an optimizer that is carried on goes on with the old schedule's count
    - lambda step: schedule(step - steps)
    + lambda step: schedule(step)
    tests/pretraining/test_stages.py::test_a_carried_optimizer_keeps_its_moments_and_begins_the_schedule_anew
  all stages keep their checkpoints in one folder
    - Path(checkpoint) / f"{number}_{stage.name}"
    + Path(checkpoint)
    tests/pretraining/test_stages.py::test_stopped_anywhere_continues_to_the_same_numbers
afm_ref/data/mixing.py
  a part that is behind is not caught up with
    - shares[i] * (n + 1) - counts[i]
    + shares[i]
    tests/data/test_packing.py::test_shares_are_within_the_bound_at_every_moment
  the row that is due is not counted, as in Megatron-LM: a part of weight 0 is drawn
    - shares[i] * (n + 1) - counts[i]
    + shares[i] * max(n, 1) - counts[i]
    tests/data/test_packing.py::test_shares_are_within_the_bound_at_every_moment
  all parts share one order of their rows' epochs by the place in the mixture
    - orders[k](int(i))[0]
    + orders[k](int(places[0]))[0]
    tests/data/test_packing.py::test_every_row_of_a_part_once_an_epoch
afm_ref/data/long_qa.py
  so many facts are planned as if they were questions
    - (tokens - 2 - questions * question) / fact
    + (tokens - 2 - questions * question) / question
    tests/data/test_long_qa.py::test_length_in_tokens_is_as_asked
  the only question goes with the fact that does not fit
    - asked[asked < facts] if (asked < facts).any() else asked[:1] % facts
    + asked[asked < facts]
    tests/data/test_long_qa.py::test_a_question_is_left_when_facts_do_not_fit
afm_ref/cli/pretrain.py
  a tokenizer of another text is taken again
    - {"text": _digest(texts), "vocab_size": size}
    + {"vocab_size": size}
    tests/pretraining/test_pretrain_command.py::test_a_trained_tokenizer_is_taken_again_for_the_same_text_and_size_alone
  a tokenizer that nobody trained here is taken for one
    - elif not about.exists():
    + elif False:
    tests/pretraining/test_pretrain_command.py::test_a_trained_tokenizer_is_taken_again_for_the_same_text_and_size_alone
  malformed weights are noticed after curation
    -     _check_models(args)
    -     _check_mixtures(args)
    +     _check_models(args)
    tests/pretraining/test_pretrain_command.py::test_what_is_wrong_is_said_before_curation[mixture_code]
  a config that is missing is noticed after curation
    -     _check_models(args)
    -     _check_mixtures(args)
    +     _check_mixtures(args)
    tests/pretraining/test_pretrain_command.py::test_what_is_wrong_is_said_before_curation[config_none.json]
afm_ref/pretraining/losses.py
  the z-loss rewards a large normaliser
    - weighted(penalty - log_probs,
    + weighted(-penalty - log_probs,
    tests/pretraining/test_z_loss.py::test_equals_its_definition
afm_ref/pretraining/long_context.py
  an answer is measured one token late
    - slice(answer.asked[0] - 1, answer.asked[1] - 1)
    + slice(answer.asked[0], answer.asked[1])
    tests/pretraining/test_stages.py::test_answers_are_measured_where_they_stand
afm_ref/pretraining/compute.py
  a teacher's forward pass costs as much as training
    - return 2.0 * n_parameters * tokens
    + return 6.0 * n_parameters * tokens
    tests/pretraining/test_compute.py::test_flops_of_the_on_device_core_stage
""")

"""LogitRules: penalties and bans against loops over the full forward pass."""

import jax
import numpy as np
import pytest

from afm_ref import generation
from afm_ref.generation import LogitRules, generate, stream
from afm_ref.generation.sampling import RuleArrays, ruled
from tests.generation.test_generate import NEW, ONE, PROMPTS, as_lists, loop, traced, without_layers  # noqa: F401
from tests.interop.models import random_params

RULES = {
    "a penalty": dict(repetition_penalty=1.4),
    "least new": dict(min_new_tokens=7),
    "the later of both": dict(min_new_tokens=2, min_length=12),
    "suppressed at first": dict(begin_suppress_tokens=(4, 1, 2)),
    "all": dict(repetition_penalty=1.2, min_new_tokens=3, suppress_tokens=(4,), begin_suppress_tokens=(9,)),
}
STOP = {2, 5, 6}


@pytest.mark.parametrize("name", RULES)
def test_rules_equal_a_loop_over_the_full_forward(name):
    params, n, rules = random_params(ONE, seed=0), 14, LogitRules(**RULES[name])
    stop = () if name == "a penalty" else STOP

    def rule(scores, text, made):
        scores, penalty = scores.copy(), rules.repetition_penalty
        for token in set(text):
            scores[token] *= 1 / penalty if scores[token] > 0 else penalty
        banned = {*rules.suppress_tokens} | ({*rules.begin_suppress_tokens} if made == 0 else set())
        banned |= {*stop} if made < rules.min_new_tokens or len(text) < rules.min_length else set()
        scores[list(banned)] = -np.inf
        return scores

    expected = [loop(params, ONE, prompt, n, stop, rule) for prompt in PROMPTS]
    assert min(lead for _, lead in expected) > 1e-4, "choose another seed: float32 may not decide this"
    got = as_lists(generate(params, ONE, PROMPTS, NEW, stop=stop, rules=rules))
    assert [row[:n] for row in got] == [row for row, _ in expected]
    free = [loop(params, ONE, prompt, n, stop) for prompt in PROMPTS]
    assert [row for row, _ in free] != [row for row, _ in expected], "the rule must show"


def test_logits_after_the_rules_worked_out_by_hand():
    """Row 0 stands at its first new token, row 1 later, both before the 9th position where a text may end."""
    rules = LogitRules(2.0, min_length=9, suppress_tokens=(0,), begin_suppress_tokens=(1,))
    arrays = RuleArrays.of(rules, [2], np.array([4, 3]), vocab_size=6)
    logits = jax.numpy.array([[1.0, 1.0, 1.0, 3.0, -3.0, -0.5]] * 2, "bfloat16")
    seen = np.array([[False, True, False, True, True, False], [False] * 6])
    got = ruled(logits, arrays, seen, np.array([4, 8], np.int32))
    assert got.dtype == np.float32
    off = -np.inf
    np.testing.assert_array_equal(got, [[off, off, off, 1.5, -6.0, -0.5], [off, 1.0, off, 3.0, -3.0, -0.5]])
    at_the_end = ruled(logits, arrays, seen, np.array([9, 9], np.int32))
    np.testing.assert_array_equal(at_the_end, [[off, 0.5, 1.0, 1.5, -6.0, -0.5], [off, 1.0, 1.0, 3.0, -3.0, -0.5]])


def test_streamed_and_sampled_rows_obey_too():
    params, prompts = random_params(ONE, seed=0), [PROMPTS[0]] * 3
    rules = LogitRules(1.2, suppress_tokens=tuple(range(8)), begin_suppress_tokens=(8, 9), min_new_tokens=5)
    settings = dict(temperature=3.0, seed=2, stop={10, 11}, rules=rules)
    rows = as_lists(generate(params, ONE, prompts, NEW, **settings))
    for row in rows:
        assert min(row) > 7 and row[0] not in (8, 9) and not {10, 11} & set(row[:5])
    said = {token for row in rows for token in row}
    assert {8, 9} & said and {10, 11} & said
    assert as_lists(generate(params, ONE, prompts[:1], NEW, samples=3, **settings)) == rows
    pieces = zip(*stream(params, ONE, prompts, NEW, chunk=3, **settings), strict=True)
    assert [np.concatenate(row).tolist() for row in pieces] == rows


def test_rules_are_values_of_one_program(traced):  # noqa: F811
    params, cfg = without_layers(124.0)
    generate(params, cfg, PROMPTS, 20, rules=LogitRules(repetition_penalty=1.1))
    once = list(traced)
    for rules in (LogitRules(min_length=3, suppress_tokens=(1, 2, 3)), LogitRules(2.0, 4, 5, (6,), (7, 8))):
        generate(params, cfg, PROMPTS, 19, stop=4, rules=rules)
    assert traced == once and len(once) == 2
    generate(params, cfg, PROMPTS, 19, rules=LogitRules())  # no rule: the program without them
    assert len(traced) == 4


@pytest.mark.parametrize(
    "rule, error, names",
    [
        ({"repetition_penalty": 0.0}, ValueError, "repetition_penalty"),
        ({"repetition_penalty": np.nan}, ValueError, "repetition_penalty"),
        ({"repetition_penalty": "1.5"}, TypeError, "repetition_penalty"),
        ({"min_new_tokens": -1}, ValueError, "min_new_tokens"),
        ({"min_length": 1.5}, TypeError, "min_length"),
        ({"suppress_tokens": ("a",)}, TypeError, "suppress_tokens"),
    ],
)
def test_rules_without_sense_are_named(rule, error, names):
    with pytest.raises(error, match=names):
        generation.generate(random_params(ONE), ONE, PROMPTS, 3, rules=LogitRules(**rule))

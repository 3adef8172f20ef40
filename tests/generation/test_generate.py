"""generate, rollouts and stream, with LogitRules too, against loops over the full forward pass and closed forms."""

import dataclasses
import functools

import jax
import ml_dtypes
import numpy as np
import pytest

from afm_ref.containers import Remat, group
from afm_ref.data import tokenizer as data_tokenizer
from afm_ref.generation import LogitRules, decoding, generate, rollouts, stream, stream_text, streaming
from afm_ref.generation.sampling import RuleArrays, ruled
from afm_ref.interop.foreign_tokenizer import ForeignTokenizer
from afm_ref.losses import token_log_probs
from afm_ref.transformer import forward
from tests.generation.test_sampling import brute_force, chi_square, chi_square_limit
from tests.interop.models import QWEN3, SMALL, logits_float64, map_weights, random_params
from tests.interop.tokenizer_files import sentencepiece_json

# Most tests share the shapes (3 rows, cache of 128) and thereby the compiled programs: compiling is what costs here.
NEW = 100
ONE = dataclasses.replace(QWEN3, n_layers=1)  # half as much to compile, where a test needs programs of its own
ATOL = 100 * 10 * np.finfo(np.float32).eps  # of float32 logits of size 10 after a few dozen roundings
PROMPTS = [[3, 1, 4, 1, 5], [9], [2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2]]


def loop(params, cfg, prompt, n, stop=(), rule=lambda scores, text, made: scores):
    """Return (greedy tokens until a stop token, the smallest lead of a winner), token by token in NumPy float64."""
    text, lead = list(prompt), np.inf
    while len(text) < len(prompt) + n:
        scores = rule(logits_float64(params, np.array([text]), cfg)[0, -1], text, len(text) - len(prompt))
        second, first = np.sort(scores)[-2:]
        lead = min(lead, first - second)
        text.append(int(scores.argmax()))
        if text[-1] in stop:
            break
    return text[len(prompt) :], lead


def as_lists(rows):
    return [row.tolist() for row in rows]


AFM = dataclasses.replace(SMALL, n_layers=1, tie_embeddings=False)


@pytest.mark.parametrize("cfg, seed", [(AFM, 6), (ONE, 3)], ids=["afm", "qwen3"])
def test_greedy_equals_argmax_over_the_full_forward(cfg, seed):
    """Of layers in a tuple and in containers, of prompts in a list."""
    params = random_params(cfg, seed)
    got = generate(params, cfg, PROMPTS, NEW)
    for row, prompt in zip(got, PROMPTS, strict=True):
        expected, lead = loop(params, cfg, prompt, 12)
        assert lead > 1e-4, "choose another seed: float32 may not decide this"
        assert row.dtype == np.int32
        assert row[:12].tolist() == expected
        assert len(row) == NEW and len(set(expected)) > 3, "choose another seed: a loop on one token shows little"
    contained = params._replace(layers=Remat(group(params.layers)))
    assert as_lists(generate(contained, cfg, PROMPTS, NEW)) == as_lists(got)


def test_an_array_is_a_batch_of_rows_and_streamed_pieces_join_to_them():
    params, settings = random_params(ONE, seed=0), dict(temperature=1.0, seed=7, stop={4, 5})
    square = np.array([PROMPTS[0], PROMPTS[0][::-1], PROMPTS[2][:5]])
    rows = as_lists(generate(params, ONE, square, 70, **settings))
    assert as_lists(generate(params, ONE, square.tolist(), 70, **settings)) == rows
    for chunk in (1, 3, 64):
        pieces = list(stream(params, ONE, square, 70, chunk=chunk, **settings))
        assert max(len(row) for piece in pieces for row in piece) <= chunk
        assert [np.concatenate(row).tolist() for row in zip(*pieces, strict=True)] == rows


def test_a_row_ends_with_its_first_stop_token():
    params = random_params(ONE, seed=0)
    free = as_lists(generate(params, ONE, PROMPTS, 100, temperature=1.0))
    for stop in (6, [11, 6, 0, 1, 2]):
        wanted = {stop} if stop == 6 else set(stop)
        cut = [next((i + 1 for i, t in enumerate(row) if t in wanted), len(row)) for row in free]
        got = generate(params, ONE, PROMPTS, 100, temperature=1.0, stop=stop)
        assert as_lists(got) == [row[:n] for row, n in zip(free, cut, strict=True)]
        assert len(set(cut)) > 1 and min(cut) < 100


def test_a_row_depends_on_seed_row_and_position_alone():
    params = random_params(ONE, seed=0)
    settings = dict(temperature=1.5, seed=11)
    a, _, c = rows = as_lists(generate(params, ONE, PROMPTS, NEW, **settings))
    others = as_lists(generate(params, ONE, [PROMPTS[0], PROMPTS[2], PROMPTS[2]], NEW - 9, **settings))
    assert others[0] == a[: NEW - 9] and others[2] == c[: NEW - 9]
    assert as_lists(generate(params, ONE, PROMPTS[:1], 20, **settings)) == [a[:20]]
    assert others[1] != others[2], "two rows with one prompt draw from different streams"
    assert as_lists(generate(params, ONE, PROMPTS, NEW, temperature=1.5, seed=12)) != rows


def test_sampled_frequencies_follow_the_model():
    """The first and the second token of many rows with one prompt, against the full forward's probabilities."""
    params, B, prompt, top_k, top_p = random_params(ONE, seed=0), 3000, [3, 1, 4], 8, 0.7
    rows = generate(params, ONE, [prompt], 2, samples=B, temperature=0.8, top_k=top_k, top_p=top_p, seed=1)
    pairs = np.stack(rows)
    most_common = int(np.bincount(pairs[:, 0]).argmax())
    seconds = pairs[pairs[:, 0] == most_common, 1]
    for drawn, context in ((pairs[:, 0], prompt), (seconds, [*prompt, most_common])):
        scores = logits_float64(params, np.array([context]), ONE)[0, -1]
        _, probabilities = brute_force(scores, 0.8, top_k, top_p)
        statistic, degrees = chi_square(np.bincount(drawn, minlength=ONE.vocab_size), probabilities)
        assert statistic < chi_square_limit(degrees)


def test_rollouts_return_the_log_probs_of_the_model_itself():
    params = random_params(ONE, seed=0)
    exact = map_weights(lambda w: w.astype(np.float64), params)
    got = rollouts(params, ONE, PROMPTS, NEW, temperature=2.0, seed=1, stop=4)
    for prompt, tokens, log_probs in zip(PROMPTS, got.tokens, got.log_probs, strict=True):
        text = np.concatenate([prompt, tokens])[None].astype(np.int32)
        expected = token_log_probs(forward(exact, text[:, :-1], ONE), text[:, 1:])[0, len(prompt) - 1 :]
        np.testing.assert_allclose(log_probs, expected, atol=ATOL)


@pytest.fixture
def traced(monkeypatch):
    """A list of the shapes of tokens that the model is traced with."""
    shapes, hidden = [], decoding.hidden
    counting = lambda params, tokens, *rest: shapes.append(tokens.shape) or hidden(params, tokens, *rest)  # noqa: E731
    monkeypatch.setattr(decoding, "hidden", counting)
    return shapes


def without_layers(rope_theta):
    """Return (params, a config of its own, for which nothing is compiled yet): layers take most of the time to compile
    and have no part in what is compiled again.
    """
    cfg = dataclasses.replace(SMALL, rope_theta=rope_theta)
    return random_params(cfg)._replace(layers=()), cfg


def test_one_compilation_serves_all_lengths_of_a_bucket(traced):
    params, cfg = without_layers(123.0)
    generate(params, cfg, [[1, 2, 3], [4]], 20)
    once = list(traced)
    assert once == [(2, 16), (2, 1)]  # prefill and decode, each traced once
    generate(params, cfg, [[5], [1, 2, 3, 4, 5, 6, 7]], 17, stop=3)
    list(stream(params, cfg, [[5] * 9, [1]], 19, chunk=5))
    assert traced == once
    generate(params, cfg, [[5], [6]], 20, temperature=0.7, top_p=0.9)  # drawing is another program
    generate(params, cfg, [[5], [6]], 20, temperature=1.7, top_p=0.5, seed=9)  # of which these are only values
    assert traced == once * 2
    generate(params, cfg, [[5] * 17, [6]], 20)
    assert traced == [*once * 2, (2, 32), (2, 1)]


def test_samples_are_those_of_the_prompt_repeated(traced):
    """The same rows, although each prompt goes through the model once."""
    cfg = dataclasses.replace(ONE, rope_theta=123.0)  # a config of its own: nothing is compiled for it yet
    params, prompts, settings = random_params(cfg), PROMPTS[1:], dict(temperature=2.0, seed=6, stop={4, 5})
    got = rollouts(params, cfg, prompts, NEW, samples=3, **settings)
    assert traced == [(2, 16), (6, 1)]
    repeated = rollouts(params, cfg, [prompt for prompt in prompts for _ in range(3)], NEW, **settings)
    assert traced == [(2, 16), (6, 1), (6, 16)]  # and the decoding is the same program
    assert as_lists(got.tokens) == as_lists(repeated.tokens)
    assert len({tuple(row) for row in as_lists(got.tokens)}) == 6
    np.testing.assert_allclose(np.concatenate(got.log_probs), np.concatenate(repeated.log_probs), rtol=0, atol=ATOL)
    with pytest.raises(ValueError, match="samples must be at least 1"):
        generate(params, cfg, prompts, NEW, samples=0)


def streamed(monkeypatch, tokenizer, prompt, ids, size=1):
    """Return the pieces in which a continuation of these ids is streamed."""
    chunks = [[np.array(ids[i : i + size])] for i in range(0, len(ids), size)]
    monkeypatch.setattr(streaming, "stream", lambda *args, **settings: iter(chunks))
    return list(stream_text(None, None, tokenizer, prompt, len(ids)))


class Bytes:
    """A tokenizer of bytes, hence with characters of several tokens."""

    def encode(self, text):
        return np.frombuffer(text.encode(), np.uint8).astype(np.int32)

    def decode(self, ids):
        return bytes(ids).decode("utf-8", errors="replace")


def test_text_streams_in_whole_characters(monkeypatch):
    text = "na\u00efve \u20ac \U0001f600!"
    ids = Bytes().encode(text).tolist()
    assert streamed(monkeypatch, Bytes(), "x", ids) == list(text)
    assert "".join(streamed(monkeypatch, Bytes(), "x", ids[:-2], 4)) == text[:-2] + "\ufffd"  # ends within the emoji
    euro = Bytes().encode("\u20ac").tolist()  # and a prompt may, too
    assert streamed(monkeypatch, Bytes(), [97, *euro[:2]], [euro[2], 98]) == ["\u20ac", "b"]
    assert streamed(monkeypatch, Bytes(), "a\ufffd", [98]) == ["b"]


def test_nothing_wanted_gives_nothing():
    got = generate(random_params(SMALL), SMALL, PROMPTS, 0)
    assert [(row.shape, row.dtype) for row in got] == [((0,), np.int32)] * 3
    assert list(stream(random_params(SMALL), SMALL, PROMPTS, 0)) == []


def test_bad_input_is_named_at_once():
    for tokens, n, settings, error, names in (
        (np.zeros((0, 3), int), 3, {}, ValueError, "batch is empty"),
        ([[1], []], 3, {}, ValueError, "prompt 1 is empty"),
        ([1, 2], 3, {}, ValueError, "wrap"),
        ("text", 3, {}, ValueError, "encode"),
        ([[1.0, 2.0]], 3, {}, TypeError, "integers"),
        ([[1, 17]], 3, {}, ValueError, "17"),
        ([[1]], -1, {}, ValueError, "max_new_tokens"),
        ([[1]], 3, {"temperature": -1.0}, ValueError, "temperature"),
        ([[1]], 3, {"stop": 17}, ValueError, "stop token 17"),
        ([[1]], 3, {"stop": {"a"}}, TypeError, "stop"),
        ([[1]], 3, {"seed": 1.5}, TypeError, "seed"),
    ):
        for function in (generate, stream):
            with pytest.raises(error, match=names):
                function(random_params(SMALL), SMALL, tokens, n, **settings)


@pytest.mark.parametrize("temperature, value", [(0.0, np.nan), (1.0, np.inf)])
def test_weights_that_are_no_numbers_are_named(value, temperature):
    params = random_params(ONE)
    params.layers[0].w_up[3, 2] = value
    with pytest.raises(FloatingPointError, match=r"layers\[0\]\.w_up"):
        generate(params, ONE, PROMPTS, NEW, temperature=temperature)


def test_weights_of_another_precision_trace_to_one_dtype():
    """A loop refuses a state whose dtypes change; the cache has the dtype of the weights."""
    in_bfloat16 = map_weights(lambda w: w.astype(ml_dtypes.bfloat16), random_params(ONE))
    *given, program = decoding._request(in_bfloat16, ONE, PROMPTS, 5, 1.0)
    prefill, decode = (functools.partial(f, program=program) for f in (decoding._prefill, decoding._decode))
    state, _ = jax.eval_shape(prefill, *given)
    after, tokens, log_probs = jax.eval_shape(decode, given[0], state, given[-1], 5)
    assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, state)
    assert (after.cache[0].k.dtype, tokens.dtype, log_probs.dtype) == (ml_dtypes.bfloat16, np.int32, np.float32)


def test_a_continuation_keeps_its_first_space(monkeypatch):
    """A SentencePiece tokenizer drops the space before a text, so that a continuation by itself would lose one."""
    tokenizer = ForeignTokenizer(sentencepiece_json())
    for size in (1, 2, 5):
        pieces = streamed(monkeypatch, tokenizer, "the", tokenizer.encode("cat sat on the mat").tolist(), size)
        assert "the" + "".join(pieces) == "the cat sat on the mat"
    assert streamed(monkeypatch, tokenizer, [1], tokenizer.encode("cat sat").tolist()) == ["cat", " sat"]


def test_bytes_of_a_foreign_tokenizer_come_when_their_run_is_over(monkeypatch):
    """U+20AC is the bytes E2 82 AC; followed by another byte that makes no character, all of the run is U+FFFD."""
    tokenizer = ForeignTokenizer(sentencepiece_json())
    euro, cat = tokenizer.encode("\u20ac").tolist()[1:], tokenizer.encode("cat").tolist()
    assert len(euro) == 3
    assert streamed(monkeypatch, tokenizer, "the", [*cat, *euro, *cat]) == [" cat", "\u20ac cat"]
    assert "".join(streamed(monkeypatch, tokenizer, "the", [*cat, *euro])) == " cat\u20ac"
    assert "".join(streamed(monkeypatch, tokenizer, "the", [*euro, euro[0], *cat])) == "\ufffd" * 4 + " cat"


def test_rows_beyond_the_tokenizer_are_streamed_as_no_text(monkeypatch):
    for tokenizer in (data_tokenizer.train(["the cat sat " * 9], 362), ForeignTokenizer(sentencepiece_json())):
        ids, rows = tokenizer.encode(" cat sat").tolist(), tokenizer.vocab_size
        text = tokenizer.decode([*tokenizer.encode("the"), *ids])
        padded = [rows, ids[0], rows + 999, *ids[1:]]
        assert "the" + "".join(streamed(monkeypatch, tokenizer, "the", padded)) == text


def test_a_text_begins_as_the_tokenizer_says(monkeypatch):
    """Its template's <s>, and special tokens that it names; ids given are taken as they are."""
    tokenizer, given = ForeignTokenizer(sentencepiece_json()), []
    monkeypatch.setattr(streaming, "stream", lambda params, cfg, tokens, *rest: given.extend(tokens) or iter([]))
    for prompt in ("the cat", "the cat</s>", [259, 260]):
        assert list(stream_text(None, None, tokenizer, prompt, 9)) == []
    assert [ids.tolist() for ids in given] == [[1, 259, 260], [1, 259, 260, 2], [259, 260]]


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


def test_rules_are_values_of_one_program(traced):
    params, cfg = without_layers(124.0)
    generate(params, cfg, PROMPTS, 20, rules=LogitRules(repetition_penalty=1.1))
    once = list(traced)
    for rules in (LogitRules(min_length=3, suppress_tokens=(1, 2, 3)), LogitRules(2.0, 4, 5, (6,), (7, 8))):
        generate(params, cfg, PROMPTS, 19, stop=4, rules=rules)
    assert traced == once and len(once) == 2
    generate(params, cfg, PROMPTS, 19, rules=LogitRules())  # no rule: the program without them
    assert len(traced) == 4


def test_rules_without_sense_are_named():
    numbers = [("repetition_penalty", 0.0), ("repetition_penalty", np.nan), ("min_new_tokens", -1)]
    kinds = [("repetition_penalty", "1.5"), ("min_length", 1.5), ("suppress_tokens", ("a",))]
    for error, name, value in [(ValueError, *bad) for bad in numbers] + [(TypeError, *bad) for bad in kinds]:
        with pytest.raises(error, match=name):
            generate(random_params(ONE), ONE, PROMPTS, 3, rules=LogitRules(**{name: value}))

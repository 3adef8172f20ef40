"""Long questions and answers, and worked sums: read again by regular expressions, not by what generated them."""

import re
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from afm_ref import assets
from afm_ref.data import corpora, long_qa, maths, tokenizer
from afm_ref.interop import hugging_face

TOK = hugging_face.load_tokenizer(assets.FOLDER)
DOCUMENTS = long_qa.long_qa_documents(12, 600, TOK, seed=3)
FACT = re.compile(r"The (\w+) of (\w+) is (\d+)\.")
QUESTION = re.compile(r"What is the (\w+) of (\w+)\? It is (\d+)\.")


def test_answers_are_what_was_told():
    """Each question's number is that of its fact; the spans in tokens hold it, both times; no pair is told twice."""
    for long in DOCUMENTS:
        facts, questions = FACT.findall(long.document.text), QUESTION.findall(long.document.text)
        told = {(thing, name): value for thing, name, value in facts}
        assert len(told) == len(facts) > 10 and len(questions) == len(long.answers) >= 4
        for (thing, name, value), answer in zip(questions, long.answers, strict=True):
            assert told[thing, name] == value and len(value) == 4
            for start, end in answer:
                assert TOK.decode(long.tokens[start:end]) == value
            before = TOK.decode(long.tokens[: answer.told[0]])
            assert before.endswith(f"The {thing} of {name} is ")
            assert answer.distance == answer.asked[0] - answer.told[0] > 0
        assert long.document.text.rindex("The ") < long.document.text.index("What is")  # the questions come last
    distances = [answer.distance for long in DOCUMENTS for answer in long.answers]
    assert min(distances) < 150 and max(distances) > 450  # spread over the document


@cache
def longest_sentences():  # in tokens: of a fact, of a question
    pairs = [(thing, name) for thing in long_qa.THINGS for name in long_qa.NAMES]
    forms = ("The {} of {} is {}. ", "What is the {} of {}? It is {}. ")
    return [max(len(TOK.encode(form.format(*pair, "7777"))) for pair in pairs) for form in forms]


@settings(max_examples=6)
@given(st.integers(110, 1200), st.integers(0, 99), st.sampled_from(["train", "held_out"]))
@example(120, 1, "train")
@example(4000, 0, "train")
def test_length_in_tokens_is_as_asked(tokens, seed, split):
    """At most as asked, and short by less than a fact and two tokens a sentence, or a fact and its question."""
    (long,) = long_qa.long_qa_documents(1, tokens, TOK, seed, split)
    text = long.document.text
    np.testing.assert_array_equal(long.tokens[1:-1], TOK.encode(text))
    fact, question = longest_sentences()
    count = len(FACT.findall(text)) + len(QUESTION.findall(text))
    assert tokens - fact - max(question, 2 * count) < len(long.tokens) <= tokens


def test_a_question_is_left_when_facts_do_not_fit():
    """Names differ much in a tokenizer of hardly more than letters; in 130 tokens 4 planned facts may not fit."""
    tok = tokenizer.train((document.text for document in corpora.topics()[:2]), 380)
    counts = []
    for long in long_qa.long_qa_documents(10, 130, tok):
        told = {(thing, name): value for thing, name, value in FACT.findall(long.document.text)}
        ((thing, name, value),) = QUESTION.findall(long.document.text)
        assert told[thing, name] == value and len(long.answers) == 1 and len(long.tokens) <= 130
        counts.append(len(told))
    assert counts[0] == 3 and set(counts) == {3, 4}  # the first leaves out the fact that was to be asked about


def test_the_same_arguments_give_the_same_documents():
    again = long_qa.long_qa_documents(3, 600, TOK, seed=3)
    assert [d.document for d in again] == [d.document for d in DOCUMENTS[:3]]
    other = {d.document.text for d in long_qa.long_qa_documents(3, 600, TOK, 3, "held_out")}
    assert not other & {d.document.text for d in DOCUMENTS}
    assert all(d.document.source == "long_qa" and d.document.name.startswith("generated-") for d in DOCUMENTS)


def test_digits_of_a_value():
    (long,) = long_qa.long_qa_documents(1, 300, TOK, digits=1)
    assert {len(value) for *_, value in FACT.findall(long.document.text)} == {1}
    assert all(end - start == 1 for answer in long.answers for start, end in answer)


def test_impossible_documents_are_refused():
    cases = [(1, 40, 4, "give room"), (1, 9**6, 4, "are 360 pairs"), (0, 600, 4, "at least 1"), (1, 600, 0, "at least")]
    for count, tokens, digits, message in cases:
        with pytest.raises(ValueError, match=message):
            long_qa.long_qa_documents(count, tokens, TOK, digits=digits)


def test_worked_sums_are_right():
    """Every equation in the text holds for Python; two digits show their working; no pair is in both splits."""
    pairs = {}
    for split in ("train", "held_out"):
        documents = maths.maths_documents(8, 1, split)
        text = "".join(document.text for document in documents)
        equations = re.findall(r"([\d+\- ]+) = (\d+)", text)
        assert len(equations) > 8 * maths.SUMS_A_DOCUMENT
        for left, right in equations:
            assert eval(left) == int(right)
        assert re.search(r"\d\d \+ \d\d: .*\+ 1 = .*so", text) and re.search(r"\d\d - \d\d: 1\d - .* - 1 = .*so", text)
        pairs[split] = set(re.findall(r"(\d+ [+-] \d+) = \d+\.\n", text))
        assert {document.source for document in documents} == {"maths"}
    assert not pairs["train"] & pairs["held_out"]
    assert maths.worked("58 - 32 =") == "58 - 32: 8 - 2 = 6, 5 - 3 = 2, so 58 - 32 = 26."
    assert maths.worked("52 - 38 =") == "52 - 38: 12 - 8 = 4, 5 - 3 - 1 = 1, so 52 - 38 = 14."
    assert maths.worked("4 + 9 =") == "4 + 9 = 13."
    with pytest.raises(ValueError, match="count is 0"):
        maths.maths_documents(0)

"""Long documents of facts with questions at their end, for context lengthening. A model
wrote this; no person did.

    The key of Ada is 4821. The badge of Ben is 1177. ...
    What is the key of Ada? It is 4821. ...

Apple's last stage adds synthetic long questions and answers; how they look is not stated,
so the form is ours. Where each answer and its fact stand is known: loss and accuracy of
answers can be measured against the distance.
"""

import itertools
from typing import NamedTuple

import numpy as np

from afm_ref._typing import Array, Int
from afm_ref.data.corpora import Document
from afm_ref.data.tasks import generator
from afm_ref.data.tasks.lexicon import NAMES, entries
from afm_ref.data.tokenizer import BOS, EOS

THINGS = entries("key|badge|locker|room|ticket|order|desk|seat|parcel|account|phone|file")
PAIRS = list(itertools.product(THINGS, NAMES))
QUESTION_SHARE = 0.25  # of the document's tokens


class Answer(NamedTuple):
    """Where a value is told and where it is asked for: [start, end) in characters, or in
    tokens.
    """

    told: tuple[int, int]
    asked: tuple[int, int]

    @property
    def distance(self) -> int:
        """How far back the answer lies, in the units of the spans."""
        return self.asked[0] - self.told[0]


class LongDocument(NamedTuple):
    """A document, its tokens between <|bos|> and <|eos|>, and the spans of its answers in
    those tokens.
    """

    document: Document
    tokens: Int[Array, " T"]
    answers: tuple[Answer, ...]


def long_qa_documents(
    count: int, tokens: int, tokenizer, seed: int = 0, split: str = "train", digits: int = 4
) -> list[LongDocument]:
    """Return documents of T <= `tokens` tokens: facts, and questions in the last fourth.

        tokens - T < longest fact + max(longest question, 2 * sentences)          with the shipped tokenizer

    Each fact gives a thing of a person a number of `digits` digits; no document says two
    things of one pair. The i-th document depends on (split, seed, i) and the arguments
    alone; all values are drawn anew, so nothing but the document itself tells an answer.
    Facts asked about lie anywhere in it. Raises ValueError for a length that does not hold
    four facts and a question, or more than all pairs fill.

    Source: TR24 section 3.2 (context lengthening adds synthetic long Q&A) [confirmed]; its
        form is ours [ours].
    Test: tests/data/test_long_qa.py::test_answers_are_what_was_told,
        tests/data/test_long_qa.py::test_length_in_tokens_is_as_asked,
        tests/data/test_long_qa.py::test_a_question_is_left_when_facts_do_not_fit
    """
    if count < 1 or digits < 1:
        raise ValueError(f"count {count} and digits {digits} must be at least 1")
    sizes = _sizes(tokens, tokenizer, digits)
    documents = []
    for i in range(count):
        rng = generator(400, split, seed, i)
        name = f"generated-{split}-long-{i}"
        documents.append(_document(name, rng, tokens, sizes, tokenizer, digits))
    return documents


def _sizes(tokens, tokenizer, digits):
    """Return (facts, questions) that fill so many tokens, by the mean fact and question
    there is.
    """
    value = "8" * digits  # a sentence by itself has up to two tokens more than in the text
    fact, question = (
        np.mean([len(tokenizer.encode(make(*pair, value))) for pair in PAIRS])
        for make in (_fact, _question)
    )
    questions = int(tokens * QUESTION_SHARE / question)
    facts = int((tokens - 2 - questions * question) / fact)
    if questions < 1 or facts < 4:
        raise ValueError(
            f"{tokens} tokens hold {facts} facts and {questions} questions: give room for 4 and 1"
        )
    if facts > len(PAIRS):
        raise ValueError(
            f"{tokens} tokens would need {facts} facts, there are {len(PAIRS)} pairs of thing and person"
        )
    return facts, questions


def _document(name, rng, tokens, sizes, tokenizer, digits):
    facts, questions = sizes
    pairs = [PAIRS[p] for p in rng.permutation(len(PAIRS))[:facts]]
    values = ["".join(map(str, rng.integers(0, 10, digits))) for _ in pairs]
    asked = rng.choice(facts, questions, replace=questions > facts)
    # the facts that do not fit are left out from the end, with the questions about them
    while True:
        # but a question there is
        kept = asked[asked < facts] if (asked < facts).any() else asked[:1] % facts
        text, spans = _text(pairs[:facts], values, kept)
        ids = np.concatenate([[BOS], tokenizer.encode(text), [EOS]]).astype(np.int32)
        if len(ids) <= tokens:
            break
        facts -= 1
    answers = tuple(
        Answer(*(_token_span(ids, tokenizer, span) for span in pair)) for pair in spans
    )
    return LongDocument(Document(text, "long_qa", name), ids, answers)


def _text(pairs, values, asked):
    """Return the text, and of each question the (told, asked) spans of its value, in
    characters.
    """
    text, told, spans = "", [], []
    for pair, value in zip(pairs, values):
        text += _fact(*pair, value)
        told.append((len(text) - 2 - len(value), len(text) - 2))  # before ". "
    text = text[:-1] + "\n"
    for k in asked:
        text += _question(*pairs[k], values[k])
        spans.append((told[k], (len(text) - 2 - len(values[k]), len(text) - 2)))
    return text[:-1] + "\n", spans


def _fact(thing, name, value):
    return f"The {thing} of {name} is {value}. "


def _question(thing, name, value):
    return f"What is the {thing} of {name}? It is {value}. "


def _token_span(ids, tokenizer, span):
    """Return the span in tokens of a span in characters; the text is ASCII, and a digit is
    a token of its own.
    """
    ends = np.cumsum(tokenizer.byte_lengths(ids))  # bytes of text up to and with each token
    start, end = (int(np.searchsorted(ends, at, side="right")) for at in span)
    return start, end

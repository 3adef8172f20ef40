"""How good a response is, in [0, 1], and whether it counts as a success.

Every metric gives 1 to the record's own reference and 0 to an empty response.
"""

import re
from difflib import SequenceMatcher

from afm_ref.data.tasks.lexicon import entries

BREVITY_FACTOR = 1.2  # a summary may be this many times as long as its reference
MARKS = {
    "formal": entries(
        "dear|good morning|good evening|kind regards|best wishes|yours sincerely|with thanks"
    ),
    "casual": entries("hey|hi|yo|hiya|cheers|thx|see ya|bye|gotta|wanna|u|sry|ugh"),
}


def score(record, response: str) -> float:
    """Return the metric of the record's task for a response, in [0, 1].

    Source: TR24 section 6 judges summaries and the like by graders; these automatic metrics
        are ours [ours].
    Test: tests/data/test_tasks.py::test_references_are_perfect_and_nothing_is_worthless
    """
    return METRICS[record.task](record, response.strip())


def success(record, response: str) -> bool:
    """Return whether a response does the whole task: nothing lost, nothing wrong, nothing
    left to correct.
    """
    return score(record, response) >= 1.0


def exact_match(record, response):
    """1 if the response is the reference, up to capitals, white space and a final full
    stop.
    """
    return float(_plain(response) == _plain(record.reference))


def summary(record, response):
    """The share of key facts that the response holds, scaled down by the share of its words
    beyond the allowance.
    """
    facts = record.fields["facts"]
    recall = _held(response, facts) / len(facts)
    allowed = BREVITY_FACTOR * len(record.reference.split())
    return recall * min(1.0, allowed / max(1, len(response.split())))


def errors_corrected(record, response):
    """The share of the errors that are gone, less the errors that came in: 1 for the
    reference, 0 for the input.

        score = max(0, 1 - errors(response) / errors(input)),  errors(x) = words of x or of the reference not in both

    Words are compared in order (longest matching blocks), so moved words count as errors.
    """
    before = _differences(record.fields["source"], record.reference)
    return max(0.0, 1.0 - _differences(response, record.reference) / before)


def style(record, response):
    """The mean of the facts kept and the style hit; the style needs two marks of the target
    and none of the other.
    """
    target = record.fields["target"]
    right = _held(response, MARKS[target])
    wrong = _held(response, MARKS["casual" if target == "formal" else "formal"])
    kept = _held(response, record.fields["facts"]) / len(record.fields["facts"])
    return kept * (min(right, 2) / 2) / (1 + wrong)


METRICS = {
    "summarise": summary,
    "proofread": errors_corrected,
    "tone": style,
    "answer": exact_match,
    "sums": exact_match,
}


def holds(text: str, phrase: str) -> bool:
    """Return whether a text holds a phrase, as whole words in any case."""
    return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, re.IGNORECASE) is not None


def _held(text, phrases):
    return sum(holds(text, phrase) for phrase in phrases)


def _plain(text):
    return " ".join(text.lower().split()).removesuffix(".")


def _differences(text, reference):
    a, b = text.split(), reference.split()
    matched = sum(
        block.size
        for block in SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
    )
    return len(a) + len(b) - 2 * matched

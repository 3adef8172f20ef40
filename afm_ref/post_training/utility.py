"""The latent utility: what the simulated annotators would see if they saw exactly, and what a reward model is to find.

Everything is computed from the task; nothing is learnt. So it can be asked whether a reward recovers it.
"""

import re

from ..data.tasks import Record, lexicon, score
from .responses import Response

GRADES = ("instruction_following", "conciseness", "truthfulness", "form")
# Ours. `form` stands where Apple's fourth grade, harmlessness, is: nothing in these tasks could do harm.
WEIGHTS = {"instruction_following": 0.6, "conciseness": 0.15, "truthfulness": 0.15, "form": 0.1}

# Without "the", and longest first: "the school play" speaks of a school play and of no school.
_LISTS = (lexicon.NAMES, lexicon.DAYS, lexicon.PLACES, lexicon.EVENTS, lexicon.THINGS)
_PHRASES = sorted({phrase.removeprefix("the ") for phrases in _LISTS for phrase in phrases}, key=len, reverse=True)
_CLAIM = re.compile(r"(?<!\w)(?:\d+:\d\d|" + "|".join(map(re.escape, _PHRASES)) + r")(?!\w)", re.IGNORECASE)


def qualities(record: Record, response: Response) -> dict[str, float]:
    """Return how good a response is in four respects, each in [0, 1].

        instruction_following = the task's metric (tasks.score)
        conciseness           = min(1, words of the reference / words of the response)
        truthfulness          = share of the names, days, times, places and things it speaks of that are in the prompt
                                (or in the reference: a corrected spelling); 1 if it speaks of none
        form                  = mean of: ended; one line; no word twice running

    A sum's digits are no such claims: there the metric says what is true. An empty response gets 0 in every respect:
    it is short because it says nothing.

    Source: TR24 section 4 (grades for instruction following, verbosity, truthfulness, harmlessness) [confirmed]; these
    measures, and form in the place of harmlessness [ours].
    Test: tests/post_training/test_utility.py::test_qualities_by_hand
    """
    words = response.text.lower().split()
    if not words:
        return dict.fromkeys(GRADES, 0.0)
    metric = score(record, response.text)
    known = f"{record.prompt}\n{record.reference}".lower()
    claims = [claim.lower() for claim in _CLAIM.findall(response.text)]
    grounded = sum(claim in known for claim in claims) / len(claims) if claims else 1.0
    shape = (response.ended, "\n" not in response.text.strip(), all(a != b for a, b in zip(words, words[1:])))
    return {
        "instruction_following": metric,
        "conciseness": min(1.0, len(record.reference.split()) / len(words)),
        "truthfulness": metric if record.task == "sums" else grounded,
        "form": sum(shape) / len(shape),
    }


def utility(record: Record, response: Response) -> float:
    """Return the latent utility, in [0, 1].

        U(x, y) = 0.6 instruction_following + 0.15 conciseness + 0.15 truthfulness + 0.1 form

    Source: none [ours].
    Test: tests/post_training/test_utility.py::test_references_have_the_highest_utility
    """
    found = qualities(record, response)
    return sum(weight * found[name] for name, weight in WEIGHTS.items())

"""Preferences: a strength and single-sided grades, from simulated annotators.

No person judged anything here: an annotator is a formula with noise around the latent
utility, which is computed from the task. So it can be asked whether a reward recovers it.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..data.tasks import Record, lexicon, score
from .responses import Response

# Ours. `form` stands in the place of harmlessness: nothing in these tasks could do harm.
WEIGHTS = {
    "instruction_following": 0.6,
    "conciseness": 0.15,
    "truthfulness": 0.15,
    "form": 0.1,
}
GRADES = tuple(WEIGHTS)

# Without "the", and longest first: "the school play" speaks of no school.
_LISTS = (lexicon.NAMES, lexicon.DAYS, lexicon.PLACES, lexicon.EVENTS, lexicon.THINGS)
_PHRASES = sorted(
    {phrase.removeprefix("the ") for phrases in _LISTS for phrase in phrases},
    key=len,
    reverse=True,
)
_CLAIM = re.compile(
    r"(?<!\w)(?:\d+:\d\d|" + "|".join(map(re.escape, _PHRASES)) + r")(?!\w)", re.IGNORECASE
)

LEVELS = ("significantly better", "better", "slightly better", "negligibly better")
SOFT_LABELS = (0.95, 0.85, 0.75, 0.65)  # the label p_l of each level
# Ours: what the seen difference of utilities exceeds for each level but the last.
THRESHOLDS = (0.3, 0.15, 0.05)
GRADE_CUTS = (0.5, 0.95)  # ours: of a quality, between grades 0 and 1, 1 and 2


class Preference(NamedTuple):
    """Two responses to a prompt, the better one first as an annotator saw it."""

    prompt: str
    chosen: Response
    rejected: Response
    level: int  # 0 .. 3, into LEVELS and SOFT_LABELS
    chosen_grades: tuple[int, ...]  # 0 .. 2 for each of GRADES, given by itself
    rejected_grades: tuple[int, ...]
    gap: float  # in latent utility: for measuring, never for training
    simulated: bool = True


class Annotator(NamedTuple):
    """How a simulated annotator errs. All numbers are ours; utilities run from 0 to 1."""

    noise: float = 0.1  # the scale of the logistic noise on a difference of utilities
    length_bias: float = 0.0  # added for each factor e of length in words
    position_bias: float = 0.0  # added to the response shown first
    lapse: float = 0.0  # the share of pairs in which a level and a side are chosen blindly
    grade_lapse: float = 0.0  # the share of single-sided grades given blindly


# A careful annotator, one who likes long answers, and a hasty one.
PANEL = (
    Annotator(noise=0.05, position_bias=0.01, lapse=0.01, grade_lapse=0.05),
    Annotator(noise=0.1, length_bias=0.05, position_bias=0.01, lapse=0.02, grade_lapse=0.1),
    Annotator(noise=0.2, length_bias=0.02, position_bias=0.05, lapse=0.08, grade_lapse=0.2),
)


def qualities(record: Record, response: Response) -> dict[str, float]:
    """Return how good a response is in four respects, each in [0, 1].

        instruction_following = the task's metric (tasks.score)
        conciseness           = min(1, words of the reference / words of the response)
        truthfulness          = share of its names, days, times, places and things that are
                                in the prompt or the reference; 1 if it has none
        form                  = mean of: ended; one line; no word twice running

    The truth of a sum is the metric's. An empty response gets 0 in every respect.

    Source: TR24 section 4 (grades for instruction following, verbosity, truthfulness,
        harmlessness) [confirmed]; these measures, and form in the place of harmlessness
        [ours].
    Test: tests/post_training/test_preferences.py::test_qualities_by_hand
    """
    words = response.text.lower().split()
    if not words:
        return dict.fromkeys(GRADES, 0.0)
    metric = score(record, response.text)
    known = f"{record.prompt}\n{record.reference}".lower()
    claims = [claim.lower() for claim in _CLAIM.findall(response.text)]
    grounded = sum(claim in known for claim in claims) / len(claims) if claims else 1.0
    shape = (
        response.ended,
        "\n" not in response.text.strip(),
        all(a != b for a, b in zip(words, words[1:])),
    )
    return {
        "instruction_following": metric,
        "conciseness": min(1.0, len(record.reference.split()) / len(words)),
        "truthfulness": metric if record.task == "sums" else grounded,
        "form": sum(shape) / len(shape),
    }


def utility(record: Record, response: Response) -> float:
    """Return the latent utility, in [0, 1].

    U(x, y) = 0.6 instruction_following + 0.15 conciseness + 0.15 truthfulness + 0.1 form
    """
    found = qualities(record, response)
    return sum(weight * found[name] for name, weight in WEIGHTS.items())


def seen_difference(
    annotator: Annotator, gap: float, first_words: int, second_words: int
) -> float:
    """Return d, the difference of utilities that the annotator sees before the noise."""
    longer = np.log((1 + first_words) / (1 + second_words))
    return float(gap + annotator.length_bias * longer + annotator.position_bias)


def level_probabilities(difference: float, noise: float, lapse: float = 0.0) -> np.ndarray:
    """Return the probability of each verdict: [2, 4], first or second better, by level.

        P(first better, level l) = (1 - lapse) P(t_l < d + noise e <= t_{l-1}) + lapse / 8
        e ~ Logistic(0, 1)

    difference: d of `seen_difference`; t_l are THRESHOLDS, then 0. Without lapses P(first
    better) = sigmoid(d / noise).

    Source: TR24 section 4 (four levels of strength) [confirmed]; logistic random utility
        (Bradley-Terry-Luce) [standard].
    Test: tests/post_training/test_preferences.py::test_verdicts_follow_their_distribution
    """
    edges = np.array([np.inf, *THRESHOLDS, 0.0])

    def above(t):
        return 0.5 * (1 + np.tanh((difference - t) / (2 * noise)))  # P(d + noise e > t)

    first = np.diff(above(edges))
    second = np.diff(1 - above(-edges))
    return (1 - lapse) * np.stack([first, second]) + lapse / 8


def grade(quality: float) -> int:
    """Return a quality in [0, 1] as one of three grades, 0 to 2."""
    return int(np.searchsorted(GRADE_CUTS, quality, side="right"))


def judge(
    record: Record, first: Response, second: Response, annotator: Annotator, rng
) -> Preference:
    """Return one annotator's verdict on two responses, shown in this order.

    Level and side are drawn from `level_probabilities`; each grade is that of the true
    quality or, with probability grade_lapse, any of the three.

    Source: TR24 section 4 (side by side with strength, and single-sided grades)
        [confirmed].
    Test: tests/post_training/test_preferences.py::test_verdicts_follow_their_distribution
    """
    if same(first, second):
        raise ValueError(
            f"both responses are {first.text[:40]!r}: there is nothing to prefer; `collect` leaves such out"
        )
    gap, odds = verdict_odds(record, first, second, annotator)
    side, level = divmod(int(rng.choice(8, p=odds.ravel() / odds.sum())), 4)
    graded = [(y, _grades(record, y, annotator, rng)) for y in (first, second)]
    if side == 1:
        graded, gap = graded[::-1], -gap
    responses, grades = zip(*graded)
    return Preference(record.prompt, *responses, level, *grades, gap)


def verdict_odds(
    record: Record, first: Response, second: Response, annotator: Annotator
) -> tuple[float, np.ndarray]:
    """Return (the gap in latent utility, the probability of each verdict [2, 4])."""
    gap = utility(record, first) - utility(record, second)
    words = (len(response.text.split()) for response in (first, second))
    return gap, level_probabilities(
        seen_difference(annotator, gap, *words), annotator.noise, annotator.lapse
    )


def mean_label(odds: np.ndarray) -> float:
    """Return sum_l P(first, l) p_l + P(second, l) (1 - p_l)."""
    labels = np.array(SOFT_LABELS)
    return float((odds * np.stack([labels, 1 - labels])).sum())


def same(first: Response, second: Response) -> bool:
    """Return whether two responses read the same, and both or neither came to an end."""
    return first.text == second.text and first.ended == second.ended


def collect(
    records: Sequence[Record],
    groups: Sequence[Sequence[Response]],
    panel=PANEL,
    seed: int = 0,
    pairs: int = 1,
) -> list[Preference]:
    """Return preferences between responses to a prompt: up to `pairs` different ones each.

    Pair, order on the screen and annotator are drawn from (seed, number of the prompt)
    alone. Responses that read the same are not compared.

    Source: TR24 section 4 (pairs sampled from the committee) [confirmed].
    Test: tests/post_training/test_preferences.py::test_collect_pairs_what_differs
    """
    found = []
    for number, (record, group) in enumerate(zip(records, groups, strict=True)):
        rng = np.random.default_rng((seed, number))
        usable = [(a, b) for i, a in enumerate(group) for b in group[:i] if not same(a, b)]
        for place in rng.permutation(len(usable))[:pairs]:
            first, second = usable[place] if rng.random() < 0.5 else usable[place][::-1]
            annotator = panel[int(rng.integers(len(panel)))]
            found.append(judge(record, first, second, annotator, rng))
    return found


def _grades(record, response, annotator, rng):
    found = qualities(record, response)
    return tuple(
        int(rng.integers(3)) if rng.random() < annotator.grade_lapse else grade(found[name])
        for name in GRADES
    )

"""Answers of mixed quality, as text has them that nobody has filtered: right, rambling, careless.

A program makes all three from a record's reference; no person wrote any of them. A policy
fine-tuned on them can answer rightly, and mostly does not: what rewards are to teach it is
which of its answers to give.
"""

from collections.abc import Sequence

import numpy as np

from ..data.tasks import Record, grammar, lexicon
from ..data.tasks.metrics import holds
from .responses import Response, written

SHARES = {"right": 0.2, "rambling": 0.4, "careless": 0.4}  # ours
FACTS = (lexicon.NAMES, *lexicon.FREE_SLOTS.values(), lexicon.EVENTS, lexicon.THINGS)


def rambling(record: Record, rng) -> str:
    """Return the reference, and a sentence behind it that nobody asked for."""
    return f"{record.reference.removesuffix('.')}. {grammar.small_talk(rng)}"


def careless(record: Record, rng) -> str:
    """Return the reference with one of its facts changed to another of its kind."""
    text = record.reference
    found = [(kind, fact) for kind in FACTS for fact in kind if holds(text, fact)]
    if not found:
        raise ValueError(f"no fact to be careless with in {text!r}")
    kind, fact = found[int(rng.integers(len(found)))]
    return text.replace(fact, grammar.pick(rng, [other for other in kind if other != fact]))


def answers(
    records: Sequence[Record], tokenizer, seed: int = 0, shares=SHARES
) -> list[tuple[str, Response]]:
    """Return (prompt, an answer) of each record, as SFT takes them, kinds drawn by shares."""
    kinds = {
        "right": lambda record, _: record.reference,
        "rambling": rambling,
        "careless": careless,
    }
    drawn = []
    for number, record in enumerate(records):
        rng = np.random.default_rng((seed, number))
        kind = rng.choice(list(shares), p=list(shares.values()))
        drawn.append((record.prompt, written(tokenizer, kinds[kind](record, rng))))
    return drawn

"""From documents of several kinds to the rows and mixtures of the three stages."""

from collections.abc import Mapping
from functools import lru_cache

from ..data.long_qa import long_qa_documents
from ..data.packing import Packed, pack

DEFAULT_WINDOWS = (128, 64, 32, 16)  # of the core stage; the last has eight times as much
LONGEST = 8  # windows of the core stage in that of the last
# from core to continued: the direction is Apple's
SHIFT = {"web": 0.5, "text": 0.5, "code": 2.0, "maths": 2.0}
LONG_QA, LONG_QA_SHARE = "long_qa", 0.3
LEAST_LONG_QA = 200  # tokens of a window that such documents need
LONGEST_LONG_QA = 4000  # tokens that the pairs of `data.long_qa` can fill
MOST_LONG_QA = 400


def by_source(documents) -> dict[str, list]:
    """Return {source: documents}, in order of the names of the sources."""
    return {
        source: [d for d in documents if d.source == source]
        for source in sorted({d.source for d in documents})
    }


def token_counts(parts: Mapping[str, list], tok) -> dict[str, int]:
    """Return the tokens of each part, <|bos|> and <|eos|> of each document with them."""
    return {
        name: sum(len(tok.encode(d.text, markers=d.markers)) + 2 for d in docs)
        for name, docs in parts.items()
    }


def choose_window(
    counts: Mapping[str, int], seq_len: int | None = None
) -> tuple[int, list[str]]:
    """Return (window of the core stage, parts too short for one row of the last stage,
    which are to be left out).

    Without seq_len the largest of DEFAULT_WINDOWS whose last stage some part fills a row
    of. Raises ValueError if no part does.
    """
    for window in DEFAULT_WINDOWS if seq_len is None else (seq_len,):
        short = [name for name, tokens in counts.items() if tokens < LONGEST * window + 1]
        if len(short) < len(counts):
            return window, short
    raise ValueError(
        f"corpus too short: its parts hold {dict(counts)} tokens, and a row of the last stage takes "
        f"{LONGEST * window + 1}: give more text"
        + ("" if seq_len is None else f", or --seq-len below {seq_len}")
    )


def default_mixtures(counts: Mapping[str, int], core: Mapping | None = None, continued: Mapping | None = None,
                     long_qa: bool = True) -> dict[str, dict[str, float]]:  # fmt: skip
    """Return {stage: {part: weight}}; core and continued replace what is said here.

    core: as much of each part as there is. continued: text and web halved, code and maths
    doubled, then to a sum of 1. lengthening: continued's, with LONG_QA_SHARE of long
    questions and answers.

    Source: TR24 section 3.2 (web down, code and maths up; long Q&A in the last)
        [confirmed].
    Test: tests/pretraining/test_stages.py::test_default_mixtures_by_hand
    """
    core = _to_one(core or counts)
    continued = _to_one(
        continued or {name: w * SHIFT.get(name, 1.0) for name, w in core.items()}
    )
    lengthening = continued
    if long_qa:
        rest = {name: (1 - LONG_QA_SHARE) * w for name, w in continued.items()}
        lengthening = rest | {LONG_QA: LONG_QA_SHARE}
    return {"core": core, "continued": continued, "lengthening": lengthening}


def rows_of(parts: Mapping[str, list], tok):
    """Return a function seq_len -> {part: Packed}, for `stages.run`; what it made last is
    kept.

    A part that does not fill a row is left out; `mix` refuses a mixture that needs it.
    """

    counts = token_counts(parts, tok)

    @lru_cache(maxsize=1)
    def rows(seq_len) -> dict[str, Packed]:
        return {
            name: pack(docs, tok, seq_len)
            for name, docs in parts.items()
            if counts[name] > seq_len
        }

    return rows


def long_questions(tok, window: int, tokens: int, seed: int = 0) -> list:
    """Return long documents of questions and answers for windows of that length, about
    `tokens` of them in all.
    """
    length = min(window, LONGEST_LONG_QA)
    # by long_qa's bound a document has 0.85 of 4000
    fills_a_row = -(-(window + 1) // int(0.8 * length))
    count = min(MOST_LONG_QA, max(4, -(-tokens // length), fills_a_row))
    return [long.document for long in long_qa_documents(count, length, tok, seed)]


def _to_one(weights):
    total = sum(weights.values())
    return {name: w / total for name, w in weights.items()} if total > 0 else dict(weights)

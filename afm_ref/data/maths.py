"""Maths text: sums with their working, generated. A program wrote all of it, and every
document says so in its name.
"""

import re

import numpy as np

from afm_ref.data.corpora import Document
from afm_ref.data.tasks import SPLITS, records

SUMS_A_DOCUMENT = 24


def maths_documents(count: int, seed: int = 0, split: str = "train") -> list[Document]:
    """Return documents of worked sums, each of SUMS_A_DOCUMENT lines; the sums are those of
    the task "sums".

        47 + 38: 7 + 8 = 15, 4 + 3 + 1 = 8, so 47 + 38 = 85.

    A pair of operands is in one split only, as in data.tasks. The text is generated, not
    written by people.

    Source: TR24 section 3.1 (14B tokens of maths text, a 3B set of questions) [confirmed];
        worked sums are ours [ours].
    Test: tests/data/test_long_qa.py::test_worked_sums_are_right
    """
    if count < 1:
        raise ValueError(f"count is {count}: give at least 1 document")
    documents = []
    for i in range(count):
        # difficulty 2 draws one digit as often as two
        number = int(
            np.random.SeedSequence((300, SPLITS.index(split), seed, i)).generate_state(1)[0]
        )
        lines = [
            worked(record.prompt)
            for record in records("sums", SUMS_A_DOCUMENT, number, split, 2)
        ]
        documents.append(
            Document("\n".join(lines) + "\n", "maths", f"generated-{split}-sums-{i}")
        )
    return documents


def worked(prompt: str) -> str:
    """Return the working of a sum such as "47 + 38 =", digit by digit where it has two
    digits.
    """
    terms = prompt.removesuffix(" =")
    a, sign, b = terms.split(" ")
    whole = f"{terms} = {_sum(terms)}."
    if len(a) == 1:
        return whole
    carry = int(a[1]) + int(b[1]) > 9 if sign == "+" else int(a[1]) < int(b[1])
    lent, moved = ("1" if carry and sign == "-" else ""), (f" {sign} 1" if carry else "")
    steps = (f"{lent}{a[1]} {sign} {b[1]}", f"{a[0]} {sign} {b[0]}{moved}")
    ones, tens = (f"{step} = {_sum(step)}" for step in steps)
    return f"{a} {sign} {b}: {ones}, {tens}, so {whole}"


def _sum(terms):
    """Return the value of "4 + 3 + 1": a sign belongs to the number after it."""
    return sum(map(int, re.findall(r"[+-]?\d+", terms.replace(" ", ""))))

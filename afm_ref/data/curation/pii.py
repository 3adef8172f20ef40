"""Personal data: found by pattern and check digit, masked by a tag.

The shape alone is not enough: a version number looks like an address and an ISBN like a card. So each kind has a
second test: the check digit of a card, the ranges that were never issued as social security numbers, the addresses
that are somebody's. What has no such pattern (names, street addresses) is not found.
"""

import ipaddress
import re
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from ..corpora import Document

EMAIL = r"(?<![\w.%+-])[A-Za-z0-9][\w.%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,24}(?![\w-])"
IPV4 = r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)"
CARD = r"(?<![\w.+-])[2-6](?:[ -]?\d){12,18}(?![\w-]|\.\d)"
SSN = r"(?<![\w.-])(?!000|666|9)\d{3}([- ])(?!00)\d\d\1(?!0000)\d{4}(?![\w-]|\.\d)"
PHONE = (
    r"(?<![\w.+-])(?:\+[1-9]\d{0,2}(?:[ .-]?\(?\d{1,4}\)?){2,6}"  # + country code
    r"|(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d([.-]| ))[2-9]\d\d[ .-]\d{4})(?![\w-]|\.\d)"  # North American
)
VERSION_BEFORE = re.compile(r"(?:\bv|\bversion|\brelease|\brev|\bsection|\bsec\.|§) ?$", re.IGNORECASE)


class Found(NamedTuple):
    """One piece of personal data: text[start:end]."""

    kind: str
    start: int
    end: int


def luhn(digits: str) -> bool:
    """Return whether a string of digits passes the check of payment cards.

        sum over digits d_i from the right, i = 0, 1, ...:  d_i if i is even, else the digits of 2 d_i  =  0 mod 10

    It notices every single wrong digit, so one random string in ten passes. Raises ValueError for other characters.

    Source: card numbers removed, Apple's post of June 2024 [confirmed]; the check, ISO/IEC 7812-1 [standard].
    Test: tests/data/curation/test_pii.py::test_luhn_notices_every_single_wrong_digit
    """
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"expected digits alone, got {digits!r}: take separators out first")
    values = [int(d) for d in reversed(digits)]
    return (sum(values[::2]) + sum(sum(divmod(2 * d, 10)) for d in values[1::2])) % 10 == 0


def _is_card(text, match):
    return luhn(re.sub(r"\D", "", match[0]))


def _is_address(text, match):
    if VERSION_BEFORE.search(text[max(0, match.start() - 12) : match.start()]):
        return False
    try:
        return ipaddress.ip_address(match[0]).is_global  # private and reserved ones are nobody's
    except ValueError:
        return False


def _is_phone(text, match):
    return 8 <= sum(c.isdigit() for c in match[0]) <= 15


KINDS = {  # in the order in which they may take a stretch of text
    "email": (re.compile(EMAIL), lambda text, match: True),
    "ip": (re.compile(IPV4), _is_address),
    "card": (re.compile(CARD), _is_card),
    "ssn": (re.compile(SSN), lambda text, match: True),
    "phone": (re.compile(PHONE), _is_phone),
}
TAGS = {kind: f"[{kind.upper()}]" for kind in KINDS}


def find(text: str) -> list[Found]:
    """Return the personal data of a text in order of place: e-mail, IPv4, card, social security and phone numbers.

    A social security number is ddd-dd-dddd without the parts never issued: 000, 666 and 900 to 999 in front, 00 in the
    middle, 0000 at the end. A card has 13 to 19 digits and passes `luhn`. An address is one that the Internet routes.

    Source: social security and card numbers, Apple's post of June 2024 [confirmed]; the other kinds and the patterns
    [ours]; the ranges of social security numbers are those of its administration [standard].
    Test: tests/data/curation/test_pii.py::test_planted_data_is_found,
    tests/data/curation/test_pii.py::test_lookalikes_stay
    """
    found = []
    for kind, (pattern, test) in KINDS.items():
        if kind == "email" and "@" not in text:
            continue
        new = [Found(kind, m.start(), m.end()) for m in pattern.finditer(text) if test(text, m)]
        found += [one for one in new if not any(one.start < old.end and old.start < one.end for old in found)]
    return sorted(found, key=lambda one: one.start)


def mask(text: str) -> tuple[str, Counter]:
    """Return the text with a tag such as [EMAIL] for each piece of personal data, and how many there were of each kind.

    Masking a masked text changes nothing.

    Source: none [ours].
    Test: tests/data/curation/test_pii.py::test_masking_twice_is_masking_once
    """
    pieces, at, found = [], 0, find(text)
    for kind, start, end in found:
        pieces += [text[at:start], TAGS[kind]]
        at = end
    return "".join([*pieces, text[at:]]), Counter(one.kind for one in found)


def count_tags(text: str) -> Counter:
    """Return how many tags of each kind a masked text has.

    Source: none [ours].
    Test: tests/data/curation/test_pii.py::test_masking_twice_is_masking_once
    """
    return Counter({kind: n for kind, tag in TAGS.items() if (n := text.count(tag))})


@dataclass(frozen=True)
class Masking:
    """The step: personal data is masked; no document is dropped.

    Source: personal data removed, Apple's post of June 2024 [confirmed]; masked and not dropped [ours].
    Test: tests/data/curation/test_pii.py::test_masking_twice_is_masking_once
    """

    def __call__(self, document: Document) -> Document:
        return document._replace(text=mask(document.text)[0])

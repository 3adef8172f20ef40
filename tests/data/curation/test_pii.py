"""Personal data: what is planted is found, what looks like it stays."""

import random
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afm_ref.data.corpora import Document
from afm_ref.data.curation import pii, planting

PLANTED = [
    ("mail bob.smith+news@mail.example.co.uk.", "mail [EMAIL]."),
    ("<a_b-1@example.com>, x", "<[EMAIL]>, x"),
    ("123-45-6789", "[SSN]"),
    ("(SSN: 899 99 9999)", "(SSN: [SSN])"),
    ("card 4111 1111 1111 1111!", "card [CARD]!"),
    ("5500-0055-5555-5559, 378282246310005", "[CARD], [CARD]"),
    ("from 8.8.8.8.", "from [IP]."),
    ("1.2.3.4:80", "[IP]:80"),
    ("(212) 555-0123 or 212-555-0123", "[PHONE] or [PHONE]"),
    ("1-212-555-0123, 212.555.0123", "[PHONE], [PHONE]"),
    ("+44 20 7946 0958; +1 (415) 555-2671", "[PHONE]; [PHONE]"),
    ("bob@example.com 123-45-6789 bob@example.com", "[EMAIL] [SSN] [EMAIL]"),
]
LOOKALIKES = [
    "version 1.2.3.4 and v10.20.30.40, release 1.2.3.4",
    "1.2.3.4.5 and 300.1.1.1 and 1.2.3",
    "at 192.168.0.1, 10.0.0.1, 127.0.0.1, 0.0.0.0, 255.255.255.255",
    "000-12-3456 666-12-3456 900-12-3456 123-00-4567 123-45-0000",
    "123-45 6789 and 1123-45-6789 and 123-45-67890 and 123456789",
    "ISBN 978-3-16-148410-0, 9783161484100 and 0-306-40615-2",
    "4111 1111 1111 1112",  # the check digit is wrong
    "2024-07-29T12:30:00, 29.07.2024, 1999-2001, 12:30-14:00",
    "123e4567-e89b-12d3-a456-426614174000 deadbeef 0x4111111111111111",
    "4111111111111111aa and id_4111111111111111",
    "3.14159265358979 and 1e-2123456789 and 2.2250738585072014e-308",
    "112-555-0123 and 212-155-0123 and 555-0123",  # no area code and no exchange begins with 0 or 1
    "a @ b, @decorator, user@localhost, x@y",
    "10.1109/5.771073 and arXiv 2407.21075",
]


@pytest.mark.parametrize("text, masked", PLANTED)
def test_planted_data_is_found(text, masked):
    assert pii.mask(text)[0] == masked


@pytest.mark.parametrize("text", LOOKALIKES)
def test_lookalikes_stay(text):
    assert pii.mask(text) == (text, {})


def luhn_by_hand(digits):
    """The check as a cashier would do it, one digit after the other."""
    total = 0
    for place, d in enumerate(digits[::-1]):
        d = int(d) * (2 if place % 2 else 1)
        total += d if d < 10 else d - 9
    return total % 10 == 0


@given(st.text("0123456789", min_size=1, max_size=19))
def test_luhn_equals_the_steps_by_hand(digits):
    assert pii.luhn(digits) == luhn_by_hand(digits)


@given(st.text("0123456789", min_size=12, max_size=18), st.data())
def test_luhn_notices_every_single_wrong_digit(start, data):
    valid = next(start + d for d in "0123456789" if pii.luhn(start + d))
    at = data.draw(st.integers(0, len(valid) - 1))
    other = data.draw(st.sampled_from([d for d in "0123456789" if d != valid[at]]))
    assert not pii.luhn(valid[:at] + other + valid[at + 1 :])


def test_luhn_asks_for_digits():
    for wrong in ("4111 1111", "", "12a", "²²"):
        with pytest.raises(ValueError, match="digits alone"):
            pii.luhn(wrong)


@given(st.lists(st.sampled_from(list(planting.MAKERS)), max_size=6), st.integers(0, 2**32 - 1))
def test_all_that_is_planted_is_counted(kinds, seed):
    rng = np.random.default_rng(seed)
    values = [planting.MAKERS[kind](rng) for kind in kinds]
    text = ", then ".join(f"a {value}" for value in values)
    masked, counts = pii.mask(text)
    assert counts == {kind: kinds.count(kind) for kind in set(kinds)}
    assert not any(value in masked for value in values)


@given(st.text("0123456789-.@ +()abv", max_size=80))
def test_masking_twice_is_masking_once(text):
    masked, counts = pii.mask(text)
    assert pii.mask(masked) == (masked, {})
    assert pii.count_tags(masked) == counts
    document = Document(text, "web", "n")
    assert pii.Masking()(document) == document._replace(text=masked)


@given(st.text("0123456789-.@ +()abv", max_size=80))
def test_what_is_between_stays(text):
    """The masked text is the old one but for the tags: a pattern made of it, with anything for a tag, fits."""
    masked, _ = pii.mask(text)
    pattern = "".join(
        ".+" if piece.startswith("[") else re.escape(piece) for piece in re.split(r"(\[[A-Z]+\])", masked)
    )
    assert re.fullmatch(pattern, text, re.DOTALL)


def test_long_runs_are_nobodys():
    """And searched at all: a pattern that goes back over a long run would take minutes here."""
    drawn = random.Random(0)
    for alphabet in ("a.", "1 ", "1-", "+1", "1.1.", "a@"):
        assert pii.mask(alphabet * 15_000) == (alphabet * 15_000, {})
        _, found = pii.mask("".join(drawn.choice(alphabet) for _ in range(30_000)))
        assert set(found) <= {"ssn"}  # 111 11 1111, among ones and spaces

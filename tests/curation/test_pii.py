"""Personal data: what is planted is found, what looks like it stays."""

import random
import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from afm_ref.curation import pii
from afm_ref.data.corpora import Document
from experiments.crawl import planting

PLANTED = [
    ("mail bob.smith+news@mail.example.co.uk. <a_b-1@example.com>, x", "mail [EMAIL]. <[EMAIL]>, x"),
    ("card 4111 1111 1111 1111! 5500-0055-5555-5559, 378282246310005", "card [CARD]! [CARD], [CARD]"),
    ("(212) 555-0123 or 212-555-0123, 1-212-555-0123, 212.555.0123", "[PHONE] or [PHONE], [PHONE], [PHONE]"),
    ("+44 20 7946 0958; +1 (415) 555-2671", "[PHONE]; [PHONE]"),
    ("(SSN: 899 99 9999) bob@example.com 123-45-6789 bob@example.com", "(SSN: [SSN]) [EMAIL] [SSN] [EMAIL]"),
    ("212-555-0123@example.com", "[EMAIL]"),  # and no telephone number in it
    # brackets of its own and of others
    ("(call +49 30 1234567) (+49) 30 1234567, Tel(+49) 30 1234567", "(call [PHONE]) [PHONE], Tel[PHONE]"),
    ("+49 (0)30 1234567 or +49 (0) 30 1234567 or +49 (30 1234567)", "[PHONE] or [PHONE] or [PHONE]"),
    ("(+1 415) 555-2671; (office: +1 (415) 555-2671)", "[PHONE]; (office: [PHONE])"),
    ("[+49 30 1234567] {+49.30.1234567} <+49-30-1234567>", "[[PHONE]] {[PHONE]} <[PHONE]>"),
    ("((212) 555-0123) and 212-555-0123) and Tel(212) 555-0123", "([PHONE]) and [PHONE]) and Tel[PHONE]"),
    ("(4111 1111 1111 1111) (bob@example.com) (8.8.8.8)", "([CARD]) ([EMAIL]) ([IP])"),
    ("> call +4930123456, * Bob +4930123456, (call +4930123456)", "> call [PHONE], * Bob [PHONE], (call [PHONE])"),
    ("root@8.8.8.8 ip=8.8.8.8 http://8.8.8.8/ 8.8.8.8-8.8.4.4", "root@[IP] ip=[IP] http://[IP]/ [IP]-[IP]"),
    ("row 5 +12125550134\ncontacts[0] +4930123456", "row 5 [PHONE]\ncontacts[0] [PHONE]"),
    ("Phone* +12125550134 (Required field* +4930123456)", "Phone* [PHONE] (Required field* [PHONE])"),
    ("phone = home +4930123456\nmobile = 0 +4930123456", "phone = home [PHONE]\nmobile = 0 [PHONE]"),
    ("Zürich 50% +4930123456, 24/7 +4930123456 (24/7 +4930123456)", "Zürich 50% [PHONE], 24/7 [PHONE] (24/7 [PHONE])"),
    ("(9-17 +4930123456) (mon - fri +4930123456)", "(9-17 [PHONE]) (mon - fri [PHONE])"),
    ("Berlin = Bob +4930123456", "Berlin = Bob [PHONE]"),
    # addresses that are not versions
    ("https://ipinfo.io/8.8.8.8 http://a.com/check/8.8.8.8", "https://ipinfo.io/[IP] http://a.com/check/[IP]"),
    ("/dev/tcp/8.8.8.8/4444 tcp/8.8.8.8:53 ip-8.8.8.8", "/dev/tcp/[IP]/4444 tcp/[IP]:53 ip-[IP]"),
    ("ip.addr == 8.8.8.8 ip.src==8.8.8.8 src_ip!=8.8.8.8", "ip.addr == [IP] ip.src==[IP] src_ip!=[IP]"),
    ("""if ip == "8.8.8.8": if ip != '8.8.8.8'""", """if ip == "[IP]": if ip != '[IP]'"""),
    ("routing table: 8.8.8.8, curl -v 8.8.8.8", "routing table: [IP], curl -v [IP]"),
    ("from 8.8.8.8. 1.2.3.4:80", "from [IP]. [IP]:80"),
    ("after version 2.0 and 9.9.9.9\ndeny 2.5.4.7; 1.3.6.7 hit", "after version 2.0 and [IP]\ndeny [IP]; [IP] hit"),
    ("8.8.8.8-dev.example.com 8.8.8.8-pre 8.8.8.8-10", "[IP]-dev.example.com [IP]-pre [IP]-10"),
    ("static-8.8.8.8.example.net cust-8.8.8.8.isp.example.net", "static-[IP].example.net cust-[IP].isp.example.net"),
    # spaces and hyphens that look like ASCII's, and other ways to write a number
    ("+49\xa030\xa01234567, 4111\u202f1111\u202f1111\u202f1111", "[PHONE], [CARD]"),
    ("4111\xa01111\xa01111\xa01111\u3000+49\u300030\u30001234567", "[CARD]\u3000[PHONE]"),
    ("212\u2011555\u20110134, 212\u2013555\u20130134, 123\u201045\u20106789", "[PHONE], [PHONE], [SSN]"),
    ("Telefon\u2013+49 30 1234567 \u2013 SSN\u2013123-45-6789", "Telefon\u2013[PHONE] \u2013 SSN\u2013[SSN]"),
    ("Tel.+49 30 1234567, +49 30/1234567, +49 30 / 1234567", "Tel.[PHONE], [PHONE], [PHONE]"),
    ("(212)-555-0134, +49 30 1234567 / 030 1234567", "[PHONE], [PHONE] / 030 1234567"),
    ("+49 (0)30 / 1234567, +49 (30)/1234567, +2 12/31/2024", "[PHONE], [PHONE], +2 12/31/2024"),
    # what stands beside an e-mail address
    ("_bob@example.com_ --bob@example.com bob@example.com--thanks", "_[EMAIL]_ --[EMAIL] [EMAIL]--thanks"),
    ("mailto:%20bob@example.com bob@example.com(home) bob@3x.com", "mailto:%20[EMAIL] [EMAIL](home) [EMAIL]"),
    # letters that need no space beside it
    ("请写信给bob@example.com或者打电话(212) 555-0123。", "请写信给[EMAIL]或者打电话[PHONE]。"),
    ("カード4111 1111 1111 1111で払い、8.8.8.8から", "カード[CARD]で払い、[IP]から"),
    ("bob@example.com으로, و8.8.8.8 ümit.öz@example.com", "[EMAIL]으로, و[IP] [EMAIL]"),
    # numbers beside it
    ("card 4111 1111 1111 1111 12/27\n4111111111111111 123", "card [CARD] 12/27\n[CARD] 123"),
    ("5500005555555559 0827 123\n4111 1111 1111 1111 0827 123", "[CARD] 0827 123\n[CARD] 0827 123"),
    ("3782 822463 10005 12/27\nrow 7 4111 1111 1111 1111", "[CARD] 12/27\nrow 7 [CARD]"),
    ("4111 1111 1111 1111 5500 0055 5555 5559", "[CARD] [CARD]"),
    ("4111 1111 1111 1111 0827 5500 0055 5555 5559 1126", "[CARD] 0827 [CARD] 1126"),
    ("no 3344 4111 1111 1111 1111\ncall (212) 555-0123 4111 1111 1111 1111", "no 3344 [CARD]\ncall [PHONE] [CARD]"),
    ("123-45-6789 4111 11111111 1111", "[SSN] [CARD]"),  # in odd groups, but alone once the other is masked
    ("Tel +1 212 555 0134 10001 New York", "Tel [PHONE] 10001 New York"),
    ("+12125550134 10001 or +1.212.555.0134 10001", "[PHONE] 10001 or [PHONE] 10001"),
    ("+44 20 7946 0958 100 200", "[PHONE] 200"),  # a telephone number has 15 digits at most
]
LOOKALIKES = [
    "version 1.2.3.4 and v10.20.30.40, release 1.2.3.4\n1.2.3.4.5 and 300.1.1.1 and 1.2.3",
    'Version: 1.2.3.4, version = "1.2.3.4", AssemblyVersion("1.2.3.4"), versions 1.2.3.4, 1.2.3.5 and 1.2.4.0',
    "nginx/1.2.3.4 nginx==1.2.3.4 nginx-1.2.3.4 1.2.3.4-rc1 1.2.3.4.tar.gz build 10.0.19041.1",
    "OIDs 1.3.6.1.4.1.311 and 1.3.6.1, 2.5.29.17, 2.5.4.3 and 1.2.840.113549.1.1.11",
    "x = 5 +1234567890, y = a +4930123456, z = 3 * +4930123456, a[5] +4930123456, f(5 +4930123456)",
    "return n +4930123456\nx = 5 * 2 +4930123456\nx = a + b +12345678901\nx = -5 +4930123456\nx = len(a) +4930123456",
    "x = 5  +4930123456\nx = 5\t+4930123456\nx = 5 +4930123456 +4930123457\nf(x, 5 +4930123456)\n[1, 5 +4930123456]",
    "return x * 5 +4930123456\nif (x > 5 +4930123456)\n5 * 2 +4930123456\n$x = $y +4930123456\ntotal += 5 +4930123456",
    # versions
    "__version__ = '4.5.6.7'\n<version>4.5.6.7</version>\nversion_info = 4.5.6.7\nversionName \"4.5.6.7\"",
    'version is 4.5.6.7\nVersion number 4.5.6.7\n"foo": "^4.5.6.7", "bar": "~4.5.6.7"\nfoo>=4.5.6.7,<5.0.0.1',
    "4.5.6.7-SNAPSHOT 4.5.6.7-1ubuntu2 4.5.6.7.post1 4.5.6.7.dev0 4.5.6.7+dfsg-1",
    "versions " + ", ".join(f"1.2.3.{i}" for i in range(4, 30)) + " and 1.2.4.0",
    "versions 1.2.3.4, 1.2.3.5, ..., 1.2.3.9\nChapter 1.2.3.4, Table 1.2.3.4, Figure 1.2.3.4, clause 1.2.3.4",
    "224.0.0.1 and 239.255.255.250 (of groups) at 192.168.0.1, 10.0.0.1, 127.0.0.1, 0.0.0.0, 255.255.255.255",
    "icon@2x.png, git@github.com:user/repo.git, q@k.transpose(-2, -1)\n2024年07月29日 12時30分, 2024년 7월 29일",
    "123-45 6789 and 1123-45-6789 and 123-45-67890 and 123456789\nISBN 978-3-16-148410-0, 9783161484100, 0-306-40615-2",
    "4111 1111 1111 1112",  # the check digit is wrong
    "order 3344 4111 1111 1111 1112, 4111111111111112 123",  # and in a run of numbers
    "123e4567-e89b-12d3-a456-426614174000 deadbeef 0x4111111111111111\n4111111111111111aa and id_4111111111111111",
    "2024-07-29T12:30:00, 29.07.2024, 1999-2001, 12:30-14:00\n3.14159265358979, 1e-2123456789, 2.2250738585072014e-308",
    # no such area, group or number; no area code and no exchange begins with 0 or 1
    "000-12-3456 666-12-3456 900-12-3456 123-00-4567 123-45-0000\n112-555-0123 and 212-155-0123 and 555-0123",
    "a @ b, @decorator, user@localhost, x@y\n10.1109/5.771073 and arXiv 2407.21075",
    # numbers that pass the check of cards, within longer runs
    "7 2000 0000 0000 0006 and 7 2000000000000006",  # of no issuer
    "7 41111 11111 111111 and 7 378 2822463 10005",  # not in the groups of a card
    "75 38 16 24 95 95 68 66 43 19 7 and 41 11 11 11 11 11 11 11 12",
    "+12.3456789012 45.123456 +52.3456789012 45.123456",
]


def test_planted_data_is_found():
    for text, masked in PLANTED:
        assert pii.mask(text)[0] == masked


def test_lookalikes_stay():
    for text in LOOKALIKES:
        assert pii.mask(text) == (text, {})


@given(st.text("0123456789", min_size=1, max_size=19))
def test_luhn_equals_the_steps_by_hand(digits):
    """The check as a cashier would do it, one digit after the other."""
    total = 0
    for place, d in enumerate(digits[::-1]):
        d = int(d) * (2 if place % 2 else 1)
        total += d if d < 10 else d - 9
    assert pii.luhn(digits) == (total % 10 == 0)


def test_luhn_asks_for_digits():
    for wrong in ("4111 1111", "", "12a", "²²"):
        with pytest.raises(ValueError, match="digits alone"):
            pii.luhn(wrong)


def test_other_forms_of_characters_are_what_they_stand_for():
    """Digits of other scripts; forms as wide as a Chinese character, where the rest stays as wide as it was."""
    for zero in "\uff10\u0660\u0966":  # full width, Arabic, Devanagari
        ones = chr(ord(zero) + 1) * 15
        assert pii.mask(f"a 4{ones}, 4{ones[1:]}{zero}") == (f"a [CARD], 4{ones[1:]}{zero}", {"card": 1})
    wide = {ord(c): ord(c) + 0xFEE0 for c in map(chr, range(0x21, 0x7F))}
    for value, tag in (("bob@example.com", "[EMAIL]"), ("(212)555-0123", "[PHONE]"), ("9.9.9.9", "[IP]")):
        assert pii.mask(f"（電話）{value.translate(wide)}。")[0] == f"（電話）{tag}。"


def mixed(seed):
    """Return a text of personal data, lookalikes, parts of them and noise, with and without something between."""
    drawn, rng = random.Random(seed), np.random.default_rng(seed)
    parts = ("12/27", "0827", "123", "10001 New York", "2024", "v", "section", "bob@", "+1", "(212)")
    pieces = []
    for _ in range(drawn.randrange(1, 7)):
        noise = "".join(drawn.choices("0123456789-.@ +()abv", k=drawn.randrange(1, 30)))
        other = drawn.choice((drawn.choice(LOOKALIKES), drawn.choice(PLANTED)[0], drawn.choice(parts), noise))
        pieces.append(drawn.choice((other, drawn.choice(list(planting.MAKERS.values()))(rng))))
    return "".join(piece + drawn.choice((" ", " ", ", ", "\n", "", "-", ".", "/", "+")) for piece in pieces)


def test_mixed_texts_hold_personal_data():
    kinds = [len(pii.mask(mixed(seed))[1]) for seed in range(200)]
    assert sum(n > 0 for n in kinds) > 120 and sum(n > 1 for n in kinds) > 60


@given(st.integers(0, 2**32 - 1).map(mixed))
@example("call (212) 555-0123 4111 1111 1111 1111")
@example("123-45-6789 4111 11111111 1111")
@example("(212) 555-0120+x = len(a) +4930123456")  # the tag says phone
@example("x = 8.8.8.8 +4930123456")
def test_masking_twice_is_masking_once(text):
    """And what is between stays: a pattern of the masked text with anything for a tag fits the old one."""
    masked, counts = pii.mask(text)
    assert pii.mask(masked) == (masked, {}) and pii.count_tags(masked) == counts
    assert pii.Masking()(Document(text, "web", "n")) == Document(masked, "web", "n")
    pieces = re.split(r"(\[[A-Z]+\])", masked)
    pattern = "".join(".+" if piece.startswith("[") else re.escape(piece) for piece in pieces)
    assert re.fullmatch(pattern, text, re.DOTALL)


@given(st.lists(st.sampled_from(list(planting.MAKERS)), max_size=5), st.integers(0, 2**32 - 1))
def test_numbers_beside_it_hide_nothing(kinds, seed):
    """Values with words between are counted; with such numbers, one space between, some of these may go with them."""
    drawn, rng = random.Random(seed), np.random.default_rng(seed)
    values = [planting.MAKERS[kind](rng) for kind in kinds]
    apart, counts = pii.mask(", then ".join(f"a {value}" for value in values))
    assert counts == {kind: kinds.count(kind) for kind in set(kinds)}
    beside = ("12/27", "123", "0827", "10001 New York", "7")
    close, _ = pii.mask(" ".join(f"{value} {drawn.choice(beside)}" for value in values))
    assert not any(value in apart + close for value in values)


def test_rows_of_fours_are_seldom_cards():
    """Of 2000 rows of eight random groups of four digits, about 240 have a card somewhere by issuer and check alone."""
    drawn = random.Random(0)
    rows = [" ".join(f"{drawn.randrange(10_000):04}" for _ in range(8)) for _ in range(2000)]
    assert sum(bool(pii.find(row)) for row in rows) <= 5


def test_tries_grow_with_the_length(monkeypatch):
    for unit in ("2 ", "22 ", "4111 ", "411111 ", "4111111111111112 "):
        tries = []
        monkeypatch.setattr(pii, "luhn", tries.append)  # None: no card
        pii.find(unit * 2000)
        assert len(tries) <= 4 * 2000


def test_long_runs_are_nobodys():
    """And searched at all: a pattern that goes back over a long run would take minutes here."""
    drawn = random.Random(0)
    for alphabet in ("a.", "1 ", "1-", "+1", "1.1.", "a@"):
        assert pii.mask(alphabet * 15_000) == (alphabet * 15_000, {})
        _, found = pii.mask("".join(drawn.choice(alphabet) for _ in range(30_000)))
        assert set(found) <= {"ssn"}  # 111 11 1111, among ones and spaces

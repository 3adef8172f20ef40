"""Personal data: found by pattern and check digit, masked by a tag.

The shape alone is not enough: a version number looks like an address and an ISBN like a
card. So each kind has a second test: the check digit of a card, the ranges that were never
issued as social security numbers, the addresses that are somebody's. What has no such
pattern (names, street addresses) is not found.

Other numbers may stand beside a card or a telephone number: an expiry date, a postcode, one
more card. So when the longest stretch fails its test, the shorter ones that end at a space
are tried, then those that begin later. As one number in ten passes the check digit, a card
in a longer run of numbers must also be printed as cards are (`GROUPS`), have the first
digits and the length of an issuer (`ISSUED`), and not stand in a row of fours: on each side
at most one more group of four digits, or another card. And a telephone number in front of
more numbers must not look like a decimal, nor one without gaps be a term of a sum.

Where version or address, sum or label cannot be told apart it is masked: what stays is
somebody's.
"""

import ipaddress
import re
from collections import Counter
from typing import NamedTuple

from ..data.corpora import Document

EMAIL = (  # but no icon@2x.png, git@github.com:user/repo.git, nor q@k.transpose(-2, -1)
    r"(?:(?<![^\W_])(?<!%)|(?<=%[\dA-F]{2}))(?!git@)[^\W_][\w.%+-]{0,63}@(?!\dx\.(?:png|jpe?g|gif|webp|svg))(?:[A-Za-z0-9-]{1,63}\.){1,5}"
    r"(?:[A-Za-z]{2,24}(?![^\W_]|\()|(?:com|org|net|edu|gov|[A-Za-z]{2})(?=\())"
)
IPV4 = r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)"
GROUPS = r"\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|\d{4}([ -])\d{6}\2\d{4,5}"
CARD = (
    r"(?<![\w.+-])(?=[2-6])"
    # any groups if no more digits stand beside them
    rf"(?:(?<!\d )\d(?:[ -]?\d){{12,18}}(?! \d)|{GROUPS})"
    r"(?![\w-]|\.\d)"
)
SSN = r"(?<![\w.-])(?!000|666|9)\d{3}([- ])(?!00)\d\d\1(?!0000)\d{4}(?![\w-]|\.\d)"
PHONE = (  # brackets in pairs: others are not its own
    # + country code
    r"(?:(?:\(\+[1-9]\d{0,2}(?:[ .-]?\d{1,4})?\)|(?<![\w+-])(?<!\d\.)\+[1-9]\d{0,2})"
    # area code / number
    r"(?:[ .-]?(?:\(0\))?[ .-]?(?:\(\d{2,5}\)|\d{2,5}) ?/ ?(?!\d\d?/))?"
    r"(?:[ .-]?(?:\(\d{1,4}(?:[ .-]\d{1,7}){0,3}\)|\d{1,4})){1,6}"
    r"|(?:(?<![\w.+-])(?:1[ .-]|(?=\d))|(?=\())(?:\([2-9]\d\d\)[ -]?|[2-9]\d\d([.-]| ))[2-9]\d\d[ .-]\d{4})"
    r"(?![\w-]|\.\d)"  # the last are North American
)
ISSUED = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}|35\d{14}"  # American Express, Diners Club, JCB
    r"|6(?:011|2\d\d|4[4-9]\d|5\d\d)\d{12,15}"  # Discover, UnionPay
)
NORTH_AMERICAN = re.compile(r"1[2-9]\d\d[2-9]\d{6}")
# +12125550134, +1 (212) 555-0134 or +1.212.555.0134, but no +12.34567890, a decimal
FOURS_BEFORE = re.compile(r"(?<![\w.-])\d{4} \d{4} $")
FOURS_BEHIND = re.compile(r" \d{4} \d{4}(?![\w-]|\.\d)")
PHONE_IN_RUN = re.compile(r"\+\d+|\+\d{1,3}[ (-][\d() /-]+|\+\d{1,3}(?:\.\d{1,4}){3,5}")
_BRACKETS = r"(?:\([^()\n]*\)|\[[^\[\]\n]*\])"
_NAMED = r"\$?(?:[a-z_][\w.]*|[A-Z][A-Z\d_]*\b)"  # no word with a capital: that is somebody
_TERM = rf"(?:{_NAMED}{_BRACKETS}*|\d[\w.]*|{_BRACKETS})"
_SUM = rf"[-+]?{_TERM}(?:\s*[-+*/%^<>=!][-+*/%^<>=!\s]*{_TERM})*"
SUM_BEFORE = re.compile(
    # x = a * 5 +4930123456
    rf"(?:(?:[\w\])][ \t]*[-+*/]?=(?!=)|\breturn\b)\s*{_SUM}(?:\s*[*/%^])?"
    # f(x, 5 +4930123456), but no (office +49..., and hours are 9-17 or 24/7
    rf"|[(\[=]\s*(?:{_SUM},\s*)*"
    rf"(?:-?\d[\w.]*|{_NAMED}{_BRACKETS}+|{_TERM}(?:\s*(?:[+*%^]|[<>=!]=?)\s*{_TERM})+)"
    r"|\d \* \d+)[ \t]*$"
)
LABEL = re.compile(
    "phone|fon|mobil|handy|cell|tel|fax|call|contact|kontakt|whatsapp|number|name|home|office",
    re.I,
)
# version="1.2.3.4", <version>1.2.3.4, version_info = 1.2.3.4, version is 1.2.3.4, OID
# 2.5.4.3
_VERSIONS = (
    r"(?:(?:(?<![\w-])(?:v|ver\.?|releases?|rev|builds?|firmware|oids?)|version\w*(?: is| number)?)[ \t:=>\"'(]{0,6}"
    r"|(?:\b(?:chapter|section|sec\.|table|figure|fig\.|clause)|§) ?|\"\s*:\s*\"[\^~])"
)
_HOSTS = (  # what stands before the address of a machine, and may look like a product
    "ip|addr|address|[a-z]*host|server|srv|client|node|peer|proxy|vpn|d?ns|tcp|udp|icmp|https?|ftp|ssh|smtp|sip|check|lookup"
    "|whois|ping|scan|ban|block|from|to|via|src|dst|source|remote|gateway|gw|router|static|dyn|pool|log|user|root|net|dev"
)
# nginx/1.2.3.4, nginx-1.2.3.4, nginx==1.2.3.4, but not in a path or an address
_PRODUCT = (
    rf"(?<![\w./\\:@$%&?=-])(?!(?:[^\W_]+[-._])*(?:{_HOSTS})(?:v?\d+)?[-._/=<>~!])"
    r"[a-z](?:[\w+-]*[-/]|[\w.-]*(?:\[[\w,-]*\])?[=<>~!]=)"
)
VERSION_BEFORE = re.compile(  # and lists of them
    rf"(?:{_VERSIONS}|{_PRODUCT})(?:(?:\d+(?:\.\d+){{3,}}|\.\.\.)(?:,[=<>~!]=?|,?\s(?:and|or|to)\s|[,;]\s))*$",
    re.I,
)
VERSION_BEHIND = re.compile(  # but 8.8.8.8-dev.example.com and 8.8.8.8-10 are addresses
    r"(?:-(?:alpha|beta|rc|snapshot)[.-]?\d*|[.-](?:post|dev|pre|rc)\d+|-\d[\w.]*(?:ubuntu|deb|el|fc)\d[\w.]*"
    r"|\+(?:dfsg|ds|git|build|deb)[\w.-]*)(?![\w-]|\.\w)|\.(?:tar|t?gz|zip|exe|msi|dll|jar|whl|deb|rpm)\b", re.I,
)  # fmt: skip
# a port, a net, or the rest of a name
HOST_BEHIND = re.compile(r"[:/]\d|(?:\.[a-z][\w-]*){2}", re.I)
SPACES = dict.fromkeys([0xA0, *range(0x2000, 0x200B), 0x202F, 0x3000], " ")
# as wide as Chinese characters
HALF_WIDTH = SPACES | {full: full - 0xFEE0 for full in range(0xFF01, 0xFF5F)}
DASH = re.compile(r"(?<=[\d)])[\u2010-\u2013](?=[\d(])")
# of scripts that write numbers without a space beside them
OTHER_LETTER = re.compile(r"[^\W\d_\0-\u058f]")


class Found(NamedTuple):
    """One piece of personal data: text[start:end]."""

    kind: str
    start: int
    end: int


def luhn(digits: str) -> bool:
    """Return whether a string of digits passes the check of payment cards.

        sum over digits d_i from the right, i = 0, 1, ...:  d_i if i is even, else the digits of 2 d_i  =  0 mod 10

    It notices every single wrong digit, so one random string in ten passes. Raises
    ValueError for other characters.

    Source: card numbers removed, Apple's post of June 2024 [confirmed]; the check, ISO/IEC
        7812-1 [standard].
    Test: tests/curation/test_pii.py::test_luhn_equals_the_steps_by_hand
    """
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(
            f"expected digits alone, got {digits!r}: take separators out first"
        )
    values = [int(d) for d in reversed(digits)]
    return (sum(values[::2]) + sum(sum(divmod(2 * d, 10)) for d in values[1::2])) % 10 == 0


def _beside(text, match, before, behind=0):
    """Return so many characters before a match, and behind it."""
    start, end = match.span()
    return text[max(0, start - before) : start], text[end : end + behind]


def _in_run(text, match):
    """Return whether more digits stand before or behind, one space away."""
    before, behind = _beside(text, match, 2, 2)
    return re.fullmatch(r"\d ", before) or re.fullmatch(r" \d", behind)


def _digits(piece):
    # int, as \d takes the digits of all scripts
    return "".join(str(int(c)) for c in piece if c.isdecimal())


def _is_issued(piece):
    digits = _digits(piece)
    return re.fullmatch(GROUPS, piece) and ISSUED.fullmatch(digits) and luhn(digits)


def _in_row_of_fours(text, match):
    """Return whether two more fours stand on a side that has no card, next to this one or
    one four away.
    """
    before, behind = _beside(text, match, 25, 25)
    cards_before = _is_issued(before[-20:-1]) or _is_issued(before[-25:-6])
    cards_behind = _is_issued(behind[1:20]) or _is_issued(behind[6:25])
    fours_before, fours_behind = FOURS_BEFORE.search(before), FOURS_BEHIND.match(behind)
    return (fours_before and not cards_before) or (fours_behind and not cards_behind)


def _is_card(text, match):
    if not _in_run(text, match):
        return luhn(_digits(match[0]))
    return _is_issued(match[0]) and not (" " in match[0] and _in_row_of_fours(text, match))


def _is_address(text, match):
    before, behind = _beside(text, match, 400, 40)
    # only a list is long: 165 us else
    before = before if before[-2:-1] in {",", "d", "r", "o"} else before[-50:]
    if VERSION_BEHIND.match(behind) or (
        VERSION_BEFORE.search(before) and not HOST_BEHIND.match(behind)
    ):
        return False
    try:
        address = ipaddress.ip_address(match[0])
        # private and reserved ones are nobody's
        return address.is_global and not address.is_multicast
    except ValueError:
        return False


def _is_phone(text, match):
    if match[0][0] == "+" and _in_run(text, match) and not PHONE_IN_RUN.fullmatch(match[0]):
        return False
    line = _beside(text, match, 80)[0].rpartition("\n")[2]
    if match[0][1:].isdigit() and SUM_BEFORE.search(line) and not LABEL.search(line):
        return False
    digits = _digits(match[0])
    return 8 <= len(digits) <= 15 and (
        match[0][:2] != "+1" or bool(NORTH_AMERICAN.fullmatch(digits))
    )


KINDS = {  # in the order in which they may take a stretch of text
    "email": (re.compile(EMAIL), lambda text, match: True),
    "ip": (re.compile(IPV4), _is_address),
    "card": (re.compile(CARD), _is_card),
    "ssn": (re.compile(SSN), lambda text, match: True),
    "phone": (re.compile(PHONE), _is_phone),
}
TAGS = {kind: f"[{kind.upper()}]" for kind in KINDS}
TAG = re.compile("|".join(map(re.escape, TAGS.values())))


def _search(pattern, test, text):
    """Yield (start, end) of the matches that pass the test, the longest at each start, none
    overlapping.
    """
    at = 0
    while match := pattern.search(text, at):
        start = match.start()
        while match and not test(text, match):
            end = text.rfind(" ", start, match.end())
            match = pattern.match(text, start, end) if end > start else None
        if match:
            yield match.span()
        at = match.end() if match else start + 1


def _replaced(text, found, by):
    """Return the text with by(kind, piece) in place of each piece that was found."""
    pieces = []
    at = 0
    for kind, start, end in found:
        pieces += [text[at:start], by(kind, text[start:end])]
        at = end
    return "".join([*pieces, text[at:]])


def find(text: str) -> list[Found]:
    """Return the personal data of a text in order of place: e-mail, IPv4, card, social
    security and phone numbers.

    A social security number is ddd-dd-dddd without the parts never issued: 000, 666 and 900
    to 999 in front, 00 in the middle, 0000 at the end. A card has 13 to 19 digits and
    passes `luhn`. An address is one that the Internet routes.

    Source: social security and card numbers, Apple's post of June 2024 [confirmed]; the
        other kinds and the patterns [ours]; the ranges of social security numbers are those
        of its administration, the first digits and lengths of cards those of their issuers
        [standard].
    Test: tests/curation/test_pii.py::test_planted_data_is_found,
    tests/curation/test_pii.py::test_lookalikes_stay,
    tests/curation/test_pii.py::test_numbers_beside_it_hide_nothing
    """
    found = []
    before = -1
    text = TAG.sub(lambda tag: "]" * len(tag[0]), text)
    if not text.isascii():
        text = OTHER_LETTER.sub(";", DASH.sub("-", text.translate(HALF_WIDTH)))
    while len(found) > before:  # what is taken may leave a number alone that stood in a run
        before = len(found)
        for kind, (pattern, test) in KINDS.items():
            if kind == "email" and "@" not in text:
                continue
            new = [Found(kind, *span) for span in _search(pattern, test, text)]
            # like tags to the patterns, but as long as what they stand for
            text = _replaced(text, new, lambda _, piece: "]" * len(piece))
            found += new
    return sorted(found, key=lambda one: one.start)


def mask(text: str) -> tuple[str, Counter]:
    """Return the text with a tag such as [EMAIL] for each piece of personal data, and how
    many there were of each kind.

    Masking a masked text changes nothing.
    """
    found = find(text)
    masked = _replaced(text, found, lambda kind, _: TAGS[kind])
    return masked, Counter(one.kind for one in found)


def count_tags(text: str) -> Counter:
    """Return how many tags of each kind a masked text has."""
    return Counter({kind: n for kind, tag in TAGS.items() if (n := text.count(tag))})


class Masking:
    """The step: personal data is masked; no document is dropped.

    Source: personal data removed, Apple's post of June 2024 [confirmed]; masked and not
        dropped [ours].
    Test: tests/curation/test_pii.py::test_masking_twice_is_masking_once
    """

    def __call__(self, document: Document) -> Document:
        return document._replace(text=mask(document.text)[0])

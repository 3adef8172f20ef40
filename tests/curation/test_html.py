"""Encodings of pages, and bodies out of boilerplate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref.curation import Dropped, html
from afm_ref.data.corpora import Document
from afm_ref.teaching import made_up_pages

SENTENCES = {  # model-written, on the same river; and the encodings that such pages have
    "Die Straße führt über große Hügel, vorbei an Häusern und Gärten bis zum Fluß. ": ("windows-1252",),
    "L'été, nous avons visité une forêt où les chênes étaient très âgés. ": ("iso-8859-1", "iso-8859-15"),
    "Zażółć gęślą jaźń, powiedział chłopiec, gdy wrócił późno do domu. ": ("iso-8859-2", "windows-1250"),
    "Река текла медленно, и на её берегах росли старые деревья. ": ("koi8-r", "windows-1251", "iso-8859-5"),
    "Το ποτάμι κυλούσε αργά και στις όχθες του μεγάλωναν παλιά δέντρα. ": ("windows-1253", "iso-8859-7"),
    "הנהר זרם לאט ועל גדותיו צמחו עצים עתיקים והילדים שיחקו ליד המים. ": ("windows-1255",),
    "كان النهر يجري ببطء وعلى ضفتيه أشجار قديمة ولعب الأطفال قرب الماء. ": ("windows-1256",),
    "Nehir yavaşça akıyordu ve kıyılarında yaşlı ağaçlar büyüyordu. ": ("windows-1254",),
    "川は ゆっくりと流れ、 岸辺には古い木が生えていました。 ": ("euc-jp", "shift_jis"),
    "河水缓缓流淌, 两岸生长着古老的树木。 孩子们在水边玩耍直到傍晚, 然后慢慢走回家去。 ": ("gb2312", "gb18030"),
    "河水緩緩流淌, 兩岸生長著古老的樹木。 孩子們在水邊玩耍直到傍晚, 然後慢慢走回家去。 ": ("big5",),
    "강은 천천히 흘렀고 강가에는 오래된 나무들이 자라고 있었다. ": ("euc-kr",),
    "แม่น้ำไหลช้าๆ และริมฝั่งมีต้นไม้เก่าแก่ ": ("cp874",),
}
ENCODED = [(text * 9, encoding) for text, others in SENTENCES.items() for encoding in ("utf-8", *others)]
HEADS = {
    "meta": '<html><head><meta charset="{}"></head><p>',
    "http-equiv": '<meta http-equiv="Content-Type" content="text/html; charset={}"><p>',
    "xml": '<?xml version="1.0" encoding="{}"?>\n<html><p>',
    "code": "#!/usr/bin/python\n# -*- coding: {} -*-\n# ",
    "wrong": '<meta charset="utf-8"><p>',
    "markup": "<html><head><script>" + "var a = 1;\n" * 900 + "</script></head><p>",
    "nothing": "",
}
TEXT = "Zoë says \u201cna\u00efve\u201d in the café \u2014 for 5 €"
STREET, FOX, CAT = "Straße für Häuser. " * 9, "The quick fox. " * 150, "吾輩は猫である。" * 20
RUSSIAN = next(text for text, others in SENTENCES.items() if "koi8-r" in others) * 50
BODY = "Tea is made from leaves that were dried & rolled.\n\nIt is < hot > when it comes, and some like it with milk."


def page(charset, text=TEXT):
    return f'<html><head><meta charset="{charset}"></head><body><p>{text}</p></body></html>'


READ = {  # {why: [(text, encoding, what stands behind it, charset of HTTP)]}
    "as declared, marked, or as browsers do": [
        (page("utf-8"), "utf-8"),
        (page(""), "utf-8", b"", "windows-1252"),
        (page("windows-1252"), "windows-1252"),
        (page("iso-8859-1"), "windows-1252"),
        (page("iso-8859-1", "Zoë’s café"), "windows-1252"),  # nearly valid under its own name, too
        (page("utf-8"), "windows-1252", b"", "no-such-charset"),  # both are wrong
        (page(""), "windows-1252", b"", "windows-1252"),
        (page("utf-8"), "utf-16"),
        (page("utf-8"), "utf-16-le", b"", "utf-16le"),
        (page("windows-1252"), "utf-8-sig", b"", "windows-1252"),
        ("\ufeff" + TEXT, "utf-16-be"),
        ("\ufeff" + "胜藏" * 9, "utf-16-le"),  # nearly valid UTF-8
        ("\ufeff" + "습" * 9, "utf-16-be"),
        # ringed numbers are none of Shift_JIS proper but of Windows' own, which pages call by the same name
        (page("shift_jis", "①川はゆっくりと流れる㈱"), "cp932"),
    ],
    "valid UTF-8 goes before a wrong declaration, as which it would read ZoÃ«": [(page("iso-8859-1", "Zoë"), "utf-8")],
    "nearly valid UTF-8 too, though every byte is a character of Latin-1": [
        ('<meta charset="iso-8859-1"><p>' + text, "utf-8", b"\xa9 2024") for text in SENTENCES
    ],
    "ISO-2022-JP is ASCII to the bit, and so valid UTF-8: its escapes tell it": [
        (page("iso-2022-jp", CAT), "iso2022_jp"),
        *((page("", CAT), "iso2022_jp", b"", declared) for declared in ("iso-2022-jp", None)),
    ],
    "it has no byte above 127: one of them is damage, declared or not, and the text is none of Latin-1": [
        (head + CAT, "iso2022_jp", bad)
        for head in ("", HEADS["meta"].format("iso-2022-jp"), HEADS["wrong"])
        for bad in (b" \xa9", b" \xff \x81")
    ],
    "colours of a terminal are no ISO-2022, nor is one escape in UTF-8": [
        ("\x1b[31m" + STREET, "utf-8"),
        ("Straße \x1b$B für Häuser. " * 9, "utf-8"),
    ],
    "a page that says UTF-8 and is not": [
        (HEADS["wrong"] + RUSSIAN, encoding) for encoding in ("windows-1251", "koi8-r", "iso-8859-5")
    ],
    "cut within a character, with a mark or damaged behind one": [
        (STREET, "utf-8", b"\xc3"),
        ("\ufeff" + STREET, "utf-16-le", b"\xdf"),
        ("\ufeff" + STREET, "utf-8", b" \xa9"),
    ],
    "UTF-16 without a mark; what says so in ASCII is none": [
        *(("<p>" + STREET, encoding) for encoding in ("utf-16-le", "utf-16-be")),
        ('<meta charset="utf-16"><p>A page in ASCII, ', "ascii", b"\xa9 2024"),
    ],
    "two bad bytes are no proof against an emoji, of which other encodings have none": [
        (FOX + "\U0001f600 ", "utf-8", bad) for bad in (b"\xa9 \xa9", b"\xa9\xa9")
    ],
    "declared, of too few bytes to detect it by; but not in a comment of HTML or a script": [
        (head + "Привет", "koi8-r")
        for head in (
            "# vim: set fileencoding=koi8-r\n",
            "# encoding: koi8-r\n",
            '@charset "koi8-r";\n',
            "/* -*- coding: koi8-r -*- */\n",
            ";; -*- coding: koi8-r -*-\n",
            '<!-- <meta charset="windows-1252"> --><meta charset="koi8-r">',
            """<script>s = '<meta charset="windows-1252">'</script><meta charset="koi8-r">""",
        )
    ],
}


@pytest.mark.parametrize("why", READ)
def test_encodings(why):
    def check(text, encoding, end=b"", declared=None):
        got = html.decode(text.encode(encoding) + end, declared)
        assert got == text.removeprefix("\ufeff") + end.decode("ascii", "replace"), (text[:60], encoding, end, declared)

    for case in READ[why]:
        check(*case)


def test_a_half_that_is_well_formed_is_kept():
    half = html.decode(HEADS["wrong"].encode() + RUSSIAN.encode() + RUSSIAN.encode("koi8-r"))
    assert RUSSIAN in half and "\ufffd" in half


def test_utf8_of_utf16_halves_is_one_error():
    """CESU-8 and Java's UTF-8: the rest of a page that says UTF-8, in ASCII or not, is as it was."""
    pair = "\ud83d\ude00".encode("utf-8", "surrogatepass")
    for raw in (pair, pair * 2, b"\xc0\x80"):
        for text in (FOX, next(iter(SENTENCES))):
            assert html.decode((HEADS["wrong"] + text).encode() + raw) == HEADS["wrong"] + text + "\ufffd"


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("text", "encoding"), ENCODED)
def test_a_bad_byte_spoils_nothing_but_itself(text, encoding, head):
    """Put between words, as a word: all other words are as they were."""
    page = HEADS[head].format(encoding) + text
    assert html.decode(page.encode(encoding)) == page
    words, first = page.encode(encoding).split(b" "), HEADS[head].count(" ") + 1
    for bad in (b"\xff", b"\x81", b"\xa9"):
        for places in ([first], [first + 2, first + 9, first + 12]):
            damaged = list(words)
            for place in places:
                damaged.insert(place, bad)
            got = html.decode(b" ".join(damaged)).split(" ")
            spoilt = [got.pop(place) for place in reversed(places)]
            assert " ".join(got) == page, (bad, places)
            if encoding == "utf-8":
                assert set(spoilt) == {"\ufffd"}


@given(st.binary(max_size=200), st.sampled_from([None, "utf-8", "shift_jis", "rot13", "", "hex"]))
@settings(max_examples=150, deadline=None)
def test_decode_never_raises(raw, declared):
    html.decode(raw, declared).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("style", made_up_pages.STYLES)
def test_boilerplate_goes_and_the_body_stays(style):
    """In the style whose classes say nothing some of it stays: what the recording measures."""
    page = made_up_pages.page(np.random.default_rng(0), "Tea", BODY, style)
    for sentence in BODY.split("\n\n"):
        assert sentence in html.extract(page) and sentence in html.extract(page, main_content=False)
    outside = ("cookie", "Sponsored", "Advertisement", "newsletter", "like:", "Example Media", "Imprint")
    assert any(word in html.extract(page, main_content=False) for word in outside)
    if style != "anonymous":
        assert html.extract(page) == BODY
    assert "window.page" not in html.extract(page, main_content=False)


def test_empty_bodies_are_dropped():
    for body in ("", "<p></p>", "<script>var x = 'words';</script>", "<!-- words -->", "<p>…</p>"):
        page = Document(f"<html><body>{body}</body></html>", "web", "a.html")
        assert html.Extraction()(page) == Dropped("empty body")


def test_depth_by_hand():
    for page, depth in (  # how many elements lie in each other of those that count
        ("words", 0),
        ("<div>" * 4, 4),
        ("<DIV><section class='a'>x</section><b>y</b></DIV>", 2),
        ("<div></div>" * 9, 1),
        ("<html><body><p>a<p>b<ul><li>c<li>d</ul><br><img src=x><a href=y>z</a>", 1),
        ("<div></span>" * 4, 4),  # an end tag of what is not open
        ("<!-- <div> -- <div> ---><div>", 1),
        ("<script>'<div>' + '<\\/div><div>'</script><STYLE>a<div></STYLE><scripts><div>", 2),
        ("<svg><path d='x'/><path/><g><path/></g></svg><path/>", 2),
        ("<div/><div/>", 2),  # no end in HTML
        ("a < b, <3 <div", 1),
    ):
        assert not html.is_deep(page, depth) and (depth == 0 or html.is_deep(page, depth - 1)), page


def test_pages_that_are_too_deep_are_not_even_parsed(monkeypatch):
    """The time that deep pages take would grow by the square: a few of them could hold up a run."""
    parsed = []
    monkeypatch.setattr(html, "extract", lambda page, main_content: parsed.append(page) or "text")
    deep = Document("<div>" * 513 + "text" + "</div>" * 513, "web", "a.html")
    for main_content in (True, False):
        assert html.Extraction(main_content)(deep) == Dropped("nested too deep")
    assert parsed == []
    assert html.Extraction()(deep._replace(text="<div>" * 512 + "text")).text == "text\n"
    for source in ("text", "code", "maths"):
        document = deep._replace(source=source)
        assert html.Extraction()(document) is document


def test_agreement_by_hand():
    """And of multisets of words: an empty side gives 0, two empty ones 1."""
    assert html.agreement("a b b c", "b, b; d a a") == (3 / 4, 3 / 5)
    assert html.agreement("", "a") == (0, 0) == html.agreement("a", "") and html.agreement("", "") == (1, 1)

"""Encodings of pages, and bodies out of boilerplate."""

import codecs

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref.curation import Dropped, html
from afm_ref.data.corpora import Document
from afm_ref.teaching import made_up_pages

TEXT = "Zoë says \u201cna\u00efve\u201d in the café \u2014 for 5 €"


def page_of(charset):
    return f'<html><head><meta charset="{charset}"></head><body><p>{TEXT}</p></body></html>'


def test_encodings():
    for encoding, meta, declared in (
        ("utf-8", "utf-8", None), ("utf-8", "", "windows-1252"),
        ("windows-1252", "windows-1252", None), ("windows-1252", "iso-8859-1", None),  # as browsers read it
        ("windows-1252", "utf-8", "no-such-charset"),  # both are wrong
        ("windows-1252", "", "windows-1252"), ("utf-16", "utf-8", None),  # with its byte order mark
        ("utf-16-le", "utf-8", "utf-16le"), ("utf-8-sig", "windows-1252", "windows-1252"),
    ):  # fmt: skip
        page = page_of(meta)
        assert html.decode(page.encode(encoding), declared) == page, (encoding, meta, declared)
    assert html.decode(codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be")) == TEXT
    # ringed numbers are none of Shift_JIS proper but of Windows' own, which pages call by the same name
    page = page_of("shift_jis").replace(TEXT, "①川はゆっくりと流れる㈱")
    assert html.decode(page.encode("cp932")) == page


def test_valid_utf8_goes_before_a_wrong_declaration():
    """Of bytes that are valid in both: as windows-1252 they would read ZoÃ«."""
    page = page_of("iso-8859-1").replace(TEXT, "Zoë")
    assert "ZoÃ«" in page.encode().decode("windows-1252")
    assert html.decode(page.encode()) == page


def test_escapes_are_no_utf8():
    """ISO-2022-JP is ASCII to the bit, and so valid UTF-8: its escapes tell it."""
    for meta, declared in (("iso-2022-jp", None), ("", "iso-2022-jp"), ("", None)):
        page = page_of(meta).replace(TEXT, "日本語の文章です。" * 3)
        raw = page.encode("iso2022_jp")
        assert raw.isascii() and html.decode(raw, declared) == page


@given(st.binary(max_size=200), st.sampled_from([None, "utf-8", "shift_jis", "rot13", "", "hex"]))
@settings(max_examples=150, deadline=None)
def test_decode_never_raises(raw, declared):
    html.decode(raw, declared).encode("utf-8", "surrogatepass")


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


def test_nearly_valid_utf8_goes_before_a_wrong_declaration():
    """Every byte is a character of Latin-1, so that it would fit."""
    for text in SENTENCES:
        page = '<meta charset="iso-8859-1"><p>' + text
        assert html.decode(page.encode() + b"\xa9 2024") == page + "\ufffd 2024"


def test_many_errors_lead_to_what_is_detected():
    """A page that says UTF-8 and is not; and one of which half is: the well-formed half is kept."""
    russian = next(text for text, others in SENTENCES.items() if "koi8-r" in others) * 50
    for encoding in ("windows-1251", "koi8-r", "iso-8859-5"):
        page = HEADS["wrong"] + russian
        assert html.decode(page.encode(encoding)) == page
    half = html.decode(HEADS["wrong"].encode() + russian.encode() + russian.encode("koi8-r"))
    assert russian in half and "\ufffd" in half


def test_escapes_and_marks_in_damaged_text():
    """Colours of a terminal are no ISO-2022; a page cut within a character keeps all others, in UTF-16 too."""
    text = "Straße für Häuser. " * 9
    assert html.decode(b"\x1b[31m" + text.encode()) == "\x1b[31m" + text
    assert html.decode((text + "ß").encode()[:-1]) == text + "\ufffd"
    assert html.decode(codecs.BOM_UTF8 + text.encode() + b" \xa9") == text + " \ufffd"
    assert html.decode(codecs.BOM_UTF16_LE + text.encode("utf-16-le") + b"\0") == text + "\ufffd"
    for encoding in ("utf-16-le", "utf-16-be"):  # without a mark
        assert html.decode(("<p>" + text).encode(encoding)) == "<p>" + text
    said = '<meta charset="utf-16"><p>A page in ASCII, '  # says so in ASCII, so it is none
    assert html.decode(said.encode() + b"\xa9 2024") == said + "\ufffd 2024"


def test_a_bad_byte_among_escapes():
    """ISO-2022-JP has no byte above 127: one of them is damage, declared or not, and the text is none of Latin-1."""
    text = "吾輩は猫である。" * 20
    for head in ("", HEADS["meta"].format("iso-2022-jp"), HEADS["wrong"]):
        for bad in (b" \xa9", b" \xff \x81"):
            assert html.decode((head + text).encode("iso2022_jp") + bad) == head + text + bad.decode("ascii", "replace")
    in_utf8 = "Straße \x1b$B für Häuser. " * 9
    assert html.decode(in_utf8.encode()) == in_utf8


def test_utf8_of_utf16_halves_is_one_error():
    """CESU-8 and Java's UTF-8: the rest of a page that says UTF-8, in ASCII or not, is as it was."""
    pair = "\ud83d\ude00".encode("utf-8", "surrogatepass")
    for raw in (pair, pair * 2, b"\xc0\x80"):
        for text in ("The quick fox. " * 150, next(iter(SENTENCES))):
            page = HEADS["wrong"] + text
            assert html.decode(page.encode() + raw) == page + "\ufffd"


def test_a_character_of_many_bytes_weighs_as_many():
    """Two bad bytes are no proof against an emoji, of which other encodings have none."""
    text = "The quick fox. " * 150 + "\U0001f600 "
    for bad in (b"\xa9 \xa9", b"\xa9\xa9"):
        assert html.decode(text.encode() + bad) == text + bad.decode("ascii", "replace")


def test_what_is_declared_and_what_is_not():
    """Of too few bytes to detect it by: a declaration in a comment of HTML or a script is none."""
    for head in (
        "# vim: set fileencoding=koi8-r\n", "# encoding: koi8-r\n", '@charset "koi8-r";\n',
        "/* -*- coding: koi8-r -*- */\n", ";; -*- coding: koi8-r -*-\n",
        '<!-- <meta charset="windows-1252"> --><meta charset="koi8-r">',
        """<script>s = '<meta charset="windows-1252">'</script><meta charset="koi8-r">""",
    ):  # fmt: skip
        page = head + "Привет"
        assert html.decode(page.encode("koi8-r")) == page


BODY = "Tea is made from leaves that were dried & rolled.\n\nIt is < hot > when it comes, and some like it with milk."


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

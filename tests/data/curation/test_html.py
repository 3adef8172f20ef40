"""Encodings of pages, and bodies out of boilerplate."""

import codecs

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref.data.corpora import Document
from afm_ref.data.curation import html, junk, pages
from afm_ref.data.curation.steps import Dropped

TEXT = "Zoë says \u201cna\u00efve\u201d in the café \u2014 for 5 €"


def page_of(charset):
    return f'<html><head><meta charset="{charset}"></head><body><p>{TEXT}</p></body></html>'


@pytest.mark.parametrize(
    "encoding, meta, declared",
    [
        ("utf-8", "utf-8", None),
        ("utf-8", "iso-8859-1", None),  # the declaration is wrong
        ("utf-8", "", "windows-1252"),
        ("windows-1252", "windows-1252", None),
        ("windows-1252", "iso-8859-1", None),  # as browsers read it
        ("windows-1252", "utf-8", "no-such-charset"),  # both are wrong
        ("windows-1252", "", "windows-1252"),
        ("utf-16", "utf-8", None),  # with its byte order mark
        ("utf-16-le", "utf-8", "utf-16le"),
        ("utf-8-sig", "windows-1252", "windows-1252"),
    ],
)
def test_encodings(encoding, meta, declared):
    page = page_of(meta)
    assert html.decode(page.encode(encoding), declared) == page


def test_valid_utf8_goes_before_a_wrong_declaration():
    """Of bytes that are valid in both: as windows-1252 they would read ZoÃ«."""
    page = page_of("iso-8859-1").replace(TEXT, "Zoë")
    assert "ZoÃ«" in page.encode().decode("windows-1252")
    assert html.decode(page.encode()) == page


def test_big_endian_mark():
    assert html.decode(codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be")) == TEXT


@pytest.mark.parametrize("meta, declared", [("iso-2022-jp", None), ("", "iso-2022-jp"), ("", None)])
def test_escapes_are_no_utf8(meta, declared):
    """ISO-2022-JP is ASCII to the bit, and so valid UTF-8: its escapes tell it."""
    page = page_of(meta).replace(TEXT, "日本語の文章です。" * 3)
    raw = page.encode("iso2022_jp")
    assert raw.isascii() and html.decode(raw, declared) == page


@given(st.binary(max_size=200), st.sampled_from([None, "utf-8", "shift_jis", "rot13", "", "hex"]))
@settings(max_examples=150, deadline=None)
def test_decode_never_raises(raw, declared):
    html.decode(raw, declared).encode("utf-8", "surrogatepass")


BODY = "Tea is made from leaves that were dried & rolled.\n\nIt is < hot > when it comes, and some like it with milk."


@pytest.mark.parametrize("style", pages.STYLES)
def test_boilerplate_goes_and_the_body_stays(style):
    """In the style whose classes say nothing some of it stays: what the recording measures."""
    page = pages.page(np.random.default_rng(0), "Tea", BODY, style)
    for sentence in BODY.split("\n\n"):
        assert sentence in html.extract(page) and sentence in html.extract(page, main_content=False)
    outside = ("cookie", "Sponsored", "Advertisement", "newsletter", "like:", "Example Media", "Imprint")
    assert any(word in html.extract(page, main_content=False) for word in outside)
    if style != "anonymous":
        assert html.extract(page) == BODY
    assert "window.page" not in html.extract(page, main_content=False)


def test_a_page_of_pydoc_keeps_its_prose():
    """Real HTML that another program laid out: the words of the module's first docstring are in its text."""
    import textwrap

    (_, page), *_ = junk.pydoc_pages("textwrap")
    _, recall = html.agreement(html.extract(page, main_content=False), textwrap.wrap.__doc__)
    assert recall == 1.0


@pytest.mark.parametrize("body", ["", "<p></p>", "<script>var x = 'words';</script>", "<!-- words -->", "<p>…</p>"])
def test_empty_bodies_are_dropped(body):
    page = Document(f"<html><body>{body}</body></html>", "web", "a.html")
    assert html.Extraction()(page) == Dropped("empty body")


DEPTHS = [  # (page, how many elements lie in each other of those that count)
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
]


@pytest.mark.parametrize("page, depth", DEPTHS, ids=[page[:20] for page, _ in DEPTHS])
def test_depth_by_hand(page, depth):
    assert not html.is_deep(page, depth) and (depth == 0 or html.is_deep(page, depth - 1))


def test_pages_that_are_too_deep_are_not_even_parsed(monkeypatch):
    """The time that deep pages take would grow by the square: a few of them could hold up a run."""
    parsed = []
    monkeypatch.setattr(html, "extract", lambda page, main_content: parsed.append(page) or "text")
    deep = Document("<div>" * 513 + "text" + "</div>" * 513, "web", "a.html")
    for main_content in (True, False):
        assert html.Extraction(main_content)(deep) == Dropped("nested too deep")
    assert parsed == []
    assert html.Extraction()(deep._replace(text="<div>" * 512 + "text")).text == "text\n"


def test_other_kinds_pass_as_they_are():
    for source in ("text", "code", "maths"):
        document = Document("<p>if a < b</p>", source, "a")
        assert html.Extraction()(document) is document
    assert html.Extraction()(Document("<p>Some text</p>", "web", "a")).text == "Some text\n"


def test_agreement_by_hand():
    assert html.agreement("a b b c", "b, b; d a a") == (3 / 4, 3 / 5)
    assert html.agreement("", "a") == (0, 0) == html.agreement("a", "") and html.agreement("", "") == (1, 1)


@given(st.lists(st.sampled_from("abc"), max_size=9), st.lists(st.sampled_from("abc"), max_size=9))
def test_agreement_equals_matching_words_one_by_one(ours, true):
    left, matched = list(true), 0
    for word in ours:
        if word in left:
            left.remove(word)
            matched += 1
    if ours or true:
        found = html.agreement(" ".join(ours), " ".join(true))
        assert found == (matched / max(1, len(ours)), matched / max(1, len(true)))

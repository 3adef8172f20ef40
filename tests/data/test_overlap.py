"""The removal of shared word runs against a brute-force comparison of strings."""

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref.data import overlap
from afm_ref.data.corpora import Document

WORDS = st.sampled_from(["a", "B", "b", "c,", "d.", "e"])
PARAGRAPHS = st.lists(st.lists(WORDS, min_size=1, max_size=30).map(" ".join), min_size=1, max_size=6)
TEXTS = st.lists(PARAGRAPHS.map("\n\n".join), min_size=1, max_size=4)


def brute_force(train, held_out, n):
    """Shared runs, found by looking for ' w1 w2 ... ' in the normalised other text."""
    old, new = ([re.sub(r"[^\w]", " ", d.text.lower()).split() for d in side] for side in (train, held_out))
    runs = {f" {' '.join(words[i : i + n])} " for words in new for i in range(len(words) - n + 1)}
    return [run for run in runs if any(run in f" {' '.join(words)} " for words in old)]


def documents(texts):
    return [Document(text, "docstrings", str(i)) for i, text in enumerate(texts)]


@given(train=TEXTS, held_out=TEXTS, n=st.integers(4, 7))
@settings(max_examples=20)
def test_nothing_is_shared_after_removal(train, held_out, n):
    train, held_out = documents(train), documents(held_out)
    kept = overlap.remove_shared(train, held_out, n)
    assert not brute_force(kept, held_out, n)
    for document in kept:
        origin = train[int(document.name.split("#")[0])].text
        assert document.text.strip("\n") in origin


def test_only_the_paragraphs_that_share_are_removed():
    clean = [f"{word} " * 3 + " ".join(f"{word}{i}" for i in range(40)) for word in ("oak", "elm", "ash", "fir")]
    stolen = "words that the held out side has in exactly this order, and no others; all thirteen"
    train = documents(["\n\n".join([clean[0], clean[1], "so: " + stolen.upper(), clean[2], clean[3]]), clean[0]])
    kept = overlap.remove_shared(train, documents(["before\n" + stolen.replace(" ", "\n")]))
    assert [document.text for document in kept] == [*("\n\n".join(c) + "\n" for c in (clean[:2], clean[2:])), clean[0]]


def test_a_run_across_paragraphs_takes_both():
    """Twelve words may be shared, thirteen not; a conversation is dropped whole."""
    left, right = ([f"{side}{i}" for i in range(40)] for side in ("left", "right"))
    train = documents([" ".join(left) + "\n\n" + " ".join(right)])
    for words, kept in ((12, train), (13, [])):
        assert overlap.remove_shared(train, documents([" ".join(left[34:] + right[: words - 6])])) == kept
    chat = [Document("<|user|>" + "x " * 100 + "\n\n" + " ".join(left) + "<|end|>", "tasks", "t", markers=True)]
    assert overlap.remove_shared(chat, documents([" ".join(left)])) == []


FORMS = [  # (as it is usually written, the same text in other characters)
    ("Über größere Hügel führte die Straße né après Ñandú", "NFD"),
    ("강은 천천히 흘렀고 강가에는 나무들이 자랐다", "NFD"),
    ("the final office of Waffle", "the ﬁnal oﬃce of Waﬄe"),
    ("a soft hyphen ends no word", "a so\u00adft hy\u200bphen en\u2060ds no wo\ufeffrd"),
    ("Tokyo 2024 ガイド", "Ｔｏｋｙｏ\xa0２０２４ ｶﾞｲﾄﾞ"),
]


@pytest.mark.parametrize(("text", "other"), FORMS)
def test_forms_of_unicode_are_the_same_words(text, other):
    other = unicodedata.normalize("NFD", text) if other == "NFD" else other
    assert text != other and overlap.words(other) == overlap.words(text) == text.lower().split()


def test_a_copy_in_another_form_is_removed_and_what_stays_is_as_it_was():
    stolen = "Über größere Hügel führte die schöne Straße, vorbei an Häusern, Gärten, Büschen, Mühlen und Flüssen"
    others = [" ".join(f"grün{word}{i}" for i in range(30)) for word in ("a", "b")]
    train = unicodedata.normalize("NFD", "\n\n".join([others[0], stolen, others[1]]))
    kept = overlap.remove_shared(documents([train]), documents([stolen]))
    assert [d.text for d in kept] == [unicodedata.normalize("NFD", text) + "\n" for text in others]

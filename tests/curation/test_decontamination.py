"""Collisions and decisions against brute force on strings; the same hashes everywhere."""

import pickle
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afm_ref.curation import Dropped, decontamination
from afm_ref.curation.decontamination import Benchmarks, Decontamination
from afm_ref.data.corpora import Document

TEXTS = st.lists(st.sampled_from(["a", "B", "b,", "c", "c."]), max_size=14).map(" ".join)
RANGES = st.tuples(st.integers(1, 4), st.integers(0, 4)).map(lambda pair: (pair[0], sum(pair)))


def runs(text, low, high):
    """All runs of low to high words of a text, as strings, by another way to take it apart."""
    words = re.sub(r"[^\w]", " ", text.lower()).split()
    return {" ".join(words[i : i + n]) for n in range(low, high + 1) for i in range(len(words) - n + 1)}


@given(st.lists(TEXTS, min_size=1, max_size=3), TEXTS, RANGES)
@settings(max_examples=60)
def test_collisions_equal_brute_force(benchmarks, text, lengths):
    wanted = set().union(*(runs(b, *lengths) for b in benchmarks))
    if not wanted:
        with pytest.raises(ValueError, match="no benchmark text has"):
            Benchmarks(benchmarks, *lengths)
        return
    found = Benchmarks(benchmarks, *lengths)
    assert sum(map(len, found.runs)) == len(wanted)
    shared = found.collisions(text)
    assert len(shared) == len(wanted & runs(text, *lengths))
    for run in wanted & runs(text, *lengths):  # each of them by its own hash
        words = decontamination.word_hashes(run)
        assert decontamination._start(words, np.arange(1), len(words))[0] in shared


@given(st.lists(TEXTS, min_size=1, max_size=2), st.lists(TEXTS, max_size=6), RANGES, st.integers(1, 4))
@settings(max_examples=60)
def test_decisions_equal_brute_force(benchmarks, corpus, lengths, threshold):
    wanted = set().union(*(runs(b, *lengths) for b in benchmarks))
    if not wanted:
        return
    counts = Counter(run for text in corpus for run in runs(text, *lengths) & wanted)
    expected = [any(counts[run] < threshold for run in runs(text, *lengths) & wanted) for text in corpus]
    found = Benchmarks(benchmarks, *lengths)
    half = len(corpus) // 2
    summed = decontamination.count(found, corpus[:half]) + decontamination.count(found, corpus[half:])
    assert summed == decontamination.count(found, corpus)
    assert sorted(summed.values()) == sorted(counts.values())
    step = Decontamination(found, summed, threshold)
    documents = [Document(text, "web", str(i)) for i, text in enumerate(corpus)]
    assert [step(d) == Dropped("benchmark text") for d in documents] == expected
    assert all(step(d) is d for d, dropped in zip(documents, expected, strict=True) if not dropped)


def test_thirteen_words_alone_miss_short_and_edited_items_and_four_alone_take_common_phrases():
    item = "how many of the ninety seven green bottles are left on the wall when nine of them fall"
    edited = "how many of the ninety five green bottles are left on a wall when nine of these fall"
    short, common = "who discovered penicillin in 1928", "how many of the people who voted stayed"
    texts, both = (item, edited, short, common), [item, short]
    thirteen, four, full = Benchmarks(both, 13, 13), Benchmarks(both, 4, 4), Benchmarks(both)
    assert [len(thirteen.collisions(text)) > 0 for text in texts] == [True, False, False, False]
    assert [len(four.collisions(text)) > 0 for text in texts] == [True, True, True, True]
    counts = decontamination.count(full, [*texts, *(f"how many of the x{i}" for i in range(9))])
    step, documents = Decontamination(full, counts, 10), [Document(text, "web", "n") for text in texts]
    assert [isinstance(step(d), Dropped) for d in documents] == [True, True, True, False]


def test_hashes_are_the_same_in_another_process():
    line = "from afm_ref.curation.decontamination import Benchmarks\n"
    line += "print(*Benchmarks(['a b c d e'], 4, 5).collisions('A b c d é e'))"
    there = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True).stdout
    assert there.split() == [str(h) for h in Benchmarks(["a b c d e"], 4, 5).collisions("A b c d é e")] != []
    step = pickle.loads(pickle.dumps(Decontamination(Benchmarks(["a b c d"]), Counter())))
    assert step(Document("a b c d", "web", "n")) == Dropped("benchmark text")


def test_bad_input():
    for texts, lengths, message in (
        (["a b c d e"], (0, 4), "1 <= low <= high"), (["a b c d e"], (5, 4), "1 <= low <= high"),
        (["only three words"], (4, 13), "has 4 words"), ([], (4, 13), "has 4 words"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            Benchmarks(texts, *lengths)
    with pytest.raises(ValueError, match="at least 1"):
        Decontamination(Benchmarks(["a b c d"]), {}, 0)

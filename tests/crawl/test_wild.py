"""A small crawl: what the truth says is planted is there, and nothing else; the same seed gives the same bytes."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afm_ref.curation import decontamination, html, pages, pii
from afm_ref.data import corpora
from afm_ref.teaching import made_up_pages
from experiments.crawl import planting, wild


@pytest.fixture(scope="module", autouse=True)
def few_messages():
    """Less to generate than a real crawl asks for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planting, "EVERYDAY", 100)
        yield


@pytest.fixture(scope="module")
def documents():
    found = corpora.topics()[:60]
    for name, path in corpora.modules():
        if name in ("textwrap", "bisect", "heapq", "queue", "string", "csv"):
            found += corpora.module_documents(name, path.read_text(encoding="utf-8"), set())
    return found


@pytest.fixture(scope="module")
def crawl(documents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wild") / "crawl"
    wild.write(folder, 1.0, 3, documents)
    return folder


@pytest.fixture(scope="module")
def truth(crawl):
    return {row["name"]: row for row in wild.read_truth(crawl)}


@pytest.fixture(scope="module")
def bodies(crawl, truth):
    """The text of each document, read as a pipeline would."""
    found = {}
    for name, row in truth.items():
        file, _, line = name.partition("#")
        text = html.decode((crawl / file).read_bytes())
        text = json.loads(text.split("\n")[int(line)])["text"] if line else text
        found[name] = html.extract(text) if row["source"] == "web" else text.strip()
    return found


def test_every_document_has_one_line_of_truth(crawl, truth):
    files = {path.relative_to(crawl).as_posix() for path in (crawl / "pages").rglob("*") if path.is_file()}
    assert {name.partition("#")[0] for name in truth} == files
    assert len(wild.read_truth(crawl)) == len(truth) > 150
    assert sum(path.stat().st_size for path in (crawl / "pages").rglob("*.*")) == pytest.approx(1e6, rel=0.15)
    assert {row["planted"] for row in truth.values()} >= {"clean", "near", "exact", "junk", "pii", "benchmark", "empty"}
    assert {path.name for path in crawl.iterdir()} == {"pages", "benchmarks.jsonl", "truth.jsonl"}


def test_kinds_are_told_from_names_and_texts(truth, bodies):
    """Of bodies but junk and copies with half of their words replaced."""
    for name, row in truth.items():
        if row["source"] != "web" and row.get("edited", 0) < 0.2:
            assert pages.kind_of(name.partition("#")[0], bodies[name]) == row["source"], name


def of(truth, planted):
    return [row for row in truth.values() if row["planted"] == planted]


def test_what_is_planted_is_there(crawl, truth, bodies):
    anonymous = {name for name, row in truth.items() if row.get("style") == "anonymous"}
    for row in of(truth, "exact"):
        if not {row["name"], row["original"]} & anonymous:
            assert row["original"] in truth and truth[row["original"]]["planted"] == "clean"
            ours, original = (bodies[name].replace(wild.ACCENTS, "") for name in (row["name"], row["original"]))
            assert ours == original
    items = [json.loads(line)["text"] for line in (crawl / "benchmarks.jsonl").read_text().splitlines()]
    assert all(items[row["benchmark"]] in bodies[row["name"]] for row in of(truth, "benchmark"))
    assert all(pii.mask(bodies[row["name"]])[1] == row["pii"] for row in of(truth, "pii"))
    assert all(bodies[row["name"]] == "" for row in of(truth, "empty") if row["name"] not in anonymous)
    assert {row["junk"] for row in of(truth, "junk")} <= {*made_up_pages.GENERATED, *made_up_pages.UNSEEN}


def test_nothing_else_is_there(crawl, truth, bodies):
    items = [json.loads(line)["text"] for line in (crawl / "benchmarks.jsonl").read_text().splitlines()]
    benchmarks = decontamination.Benchmarks(items, 13, 13)
    clean = [bodies[row["name"]] for row in of(truth, "clean") if row["source"] != "code"]
    assert not decontamination.count(benchmarks, clean)


def test_near_copies_differ_where_they_say(truth, bodies):
    compared = 0
    for row in of(truth, "near"):
        names = row["name"], row["original"]
        if any(truth[name].get("style") == "anonymous" for name in names):
            continue
        ours, original = (bodies[name].replace(wild.ACCENTS, "").split() for name in names)
        assert len(ours) == len(original)
        assert np.mean([a != b for a, b in zip(ours, original, strict=True)]) == pytest.approx(row["edited"])
        compared += 1
    assert compared >= 5


def test_encodings_are_as_the_truth_says(crawl, truth, bodies):
    wrong = [row for row in truth.values() if row.get("encoding", 0) != row.get("declared", 0)]
    assert wrong
    for row in wrong:
        raw = (crawl / row["name"]).read_bytes()
        assert f'charset="{row["declared"]}"'.encode() in raw
        raw.decode(row["encoding"])
        assert wild.ACCENTS in bodies[row["name"]] or row["planted"] == "empty"


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_seed_decides_every_byte(documents, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        wild.write(tmp_path / name, 0.05, seed, documents=documents)
    a, b, c = (files_of(tmp_path / name) for name in "abc")
    assert a == b and a != c


def test_a_style_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="no style"):
        made_up_pages.page(np.random.default_rng(0), "t", "b", "modern")


@given(st.lists(st.sampled_from(["a", "bb", "c."]), min_size=1, max_size=30), st.floats(0, 1), st.integers(0, 99))
def test_edits_replace_the_share_that_they_say(words, share, seed):
    text = "\n".join(words)
    edited, done = planting.edit(np.random.default_rng(seed), text, share, ["a", "x", "yy"])
    assert edited.count("\n") == text.count("\n")
    changed = sum(a != b for a, b in zip(edited.split("\n"), words, strict=True))
    assert changed == round(share * len(words)) and done == changed / len(words)


def test_made_up_data_is_within_the_rules():
    rng = np.random.default_rng(0)
    for kind, make in planting.MAKERS.items():
        for _ in range(50):
            assert Counter(found.kind for found in pii.find(f"a {make(rng)} b")) == {kind: 1}

"""A small crawl: what the truth says is planted is there, and nothing else; the same seed gives the same bytes."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afm_ref.curation import decontamination, html, pages, pii
from afm_ref.data import corpora
from afm_ref.teaching import made_up_pages
from experiments.crawl import planting, wild


@pytest.fixture(scope="module")
def documents():
    found = corpora.topics()[:60]
    for name, path in corpora.modules():
        if name in ("textwrap", "bisect", "heapq", "queue", "string", "csv"):
            found += corpora.module_documents(name, path.read_text(encoding="utf-8"), set())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planting, "EVERYDAY", 100)  # less to generate than a real crawl asks for
        yield found


@pytest.fixture(scope="module")
def crawl(documents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wild") / "crawl"
    wild.write(folder, 1.0, 3, documents)
    return folder


@pytest.fixture(scope="module")
def truth(crawl):
    """What the truth says of each document, and its "body", read as a pipeline would."""
    rows = wild.read_truth(crawl)
    for row in rows:
        file, _, line = row["name"].partition("#")
        text = html.decode((crawl / file).read_bytes())
        text = json.loads(text.split("\n")[int(line)])["text"] if line else text
        row["body"] = html.extract(text) if row["source"] == "web" else text.strip()
    return {row["name"]: row for row in rows}


def test_every_document_has_one_line_of_truth(crawl, truth):
    files = {path.relative_to(crawl).as_posix() for path in (crawl / "pages").rglob("*") if path.is_file()}
    assert {name.partition("#")[0] for name in truth} == files
    assert len(wild.read_truth(crawl)) == len(truth) > 150
    assert sum(path.stat().st_size for path in (crawl / "pages").rglob("*.*")) == pytest.approx(1e6, rel=0.15)
    assert {row["planted"] for row in truth.values()} >= {"clean", "near", "exact", "junk", "pii", "benchmark", "empty"}
    assert {path.name for path in crawl.iterdir()} == {"pages", "benchmarks.jsonl", "truth.jsonl"}


def of(truth, planted):
    return [row for row in truth.values() if row["planted"] == planted]


def test_what_is_planted_is_there_and_nothing_else(crawl, truth):
    items = [json.loads(line)["text"] for line in (crawl / "benchmarks.jsonl").read_text().splitlines()]
    assert all(items[row["benchmark"]] in row["body"] for row in of(truth, "benchmark"))
    assert all(pii.mask(row["body"])[1] == row["pii"] for row in of(truth, "pii"))
    assert all(row["body"] == "" for row in of(truth, "empty") if row.get("style") != "anonymous")
    assert {row["junk"] for row in of(truth, "junk")} <= {*made_up_pages.GENERATED, *made_up_pages.UNSEEN}
    for row in truth.values():  # but copies with half of their words replaced are of their kind
        if row["source"] != "web" and row.get("edited", 0) < 0.2:
            assert pages.kind_of(row["name"].partition("#")[0], row["body"]) == row["source"]
    clean = [row["body"] for row in of(truth, "clean") if row["source"] != "code"]
    assert not decontamination.count(decontamination.Benchmarks(items, 13, 13), clean)


def test_copies_differ_where_they_say(truth):
    edited = []
    for row in of(truth, "near") + of(truth, "exact"):
        original = truth[row["original"]]
        if "anonymous" not in (row.get("style"), original.get("style")):
            ours, theirs = (one["body"].replace(wild.ACCENTS, "").split() for one in (row, original))
            changed = np.mean([a != b for a, b in zip(ours, theirs, strict=True)])
            assert original["planted"] == "clean" and changed == pytest.approx(row.get("edited", 0))
            edited.append("edited" in row)
    assert edited.count(True) >= 5 and edited.count(False) >= 5


def test_encodings_are_as_the_truth_says(crawl, truth):
    wrong = [row for row in truth.values() if row.get("encoding", 0) != row.get("declared", 0)]
    assert wrong
    for row in wrong:
        raw = (crawl / row["name"]).read_bytes()
        assert f'charset="{row["declared"]}"'.encode() in raw
        raw.decode(row["encoding"])
        assert wild.ACCENTS in row["body"] or row["planted"] == "empty"


def test_the_seed_decides_every_byte(documents, tmp_path):
    written = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        wild.write(tmp_path / name, 0.05, seed, documents=documents)
        files = (path for path in (tmp_path / name).rglob("*") if path.is_file())
        written.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
    assert written[0] == written[1] != written[2]


@given(st.lists(st.sampled_from(["a", "bb", "c."]), min_size=1, max_size=30), st.floats(0, 1), st.integers(0, 99))
def test_edits_replace_the_share_that_they_say(words, share, seed):
    text = "\n".join(words)
    edited, done = planting.edit(np.random.default_rng(seed), text, share, ["a", "x", "yy"])
    assert edited.count("\n") == text.count("\n")
    changed = sum(a != b for a, b in zip(edited.split("\n"), words, strict=True))
    assert changed == round(share * len(words)) and done == changed / len(words)

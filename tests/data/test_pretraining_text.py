"""The mixture of real and generated text, on a part of the standard library."""

import re

import pytest

from afm_ref.data import corpora, overlap, pretraining_text

SHARES = {"english": 0.4, "code": 0.2, "everyday": 0.25, "tasks": 0.15}


@pytest.fixture(scope="module")
def small():
    """Some modules of middle size, of both sides, and the beginning of every topic."""
    found = [(name, path) for name, path in corpora.modules() if 4000 < path.stat().st_size < 60_000]
    modules = found[::12] + [m for m in found if corpora.is_held_out(corpora.Document("", "code", m[0]))][:3]
    topics = [document._replace(text=document.text[:1000]) for document in corpora.topics()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpora, "modules", lambda stdlib=None: sorted(set(modules)))
        patch.setattr(corpora, "topics", lambda: list(topics))
        patch.setattr(pretraining_text, "HELD_OUT_GENERATED", 60)
        yield


@pytest.fixture(scope="module")
def mixed(small):
    return pretraining_text.pretraining_documents(seed=1, weights=SHARES, progress=False)


def test_shares_are_as_stated(mixed):
    train, held_out = mixed
    total = pretraining_text.size_bytes(train)
    for part, share in SHARES.items():
        sources = pretraining_text.ENGLISH if part == "english" else (part,)
        size = pretraining_text.size_bytes([document for document in train if document.source in sources])
        assert size / total == pytest.approx(share, abs=0.02), part
    assert {document.source for document in held_out} == {"topics", "docstrings", "code", "everyday", "tasks"}
    real = ("topics", "docstrings", "code")
    ours, other = ({re.split("[#@]", d.name)[0] for d in side if d.source in real} for side in mixed)
    assert ours and other and not ours & other  # no document is on both sides


def test_a_share_of_zero_leaves_a_part_out_and_the_seed_decides_all(small):
    weights = {"english": 1, "code": 1, "everyday": 0, "tasks": 0}
    train, held_out = found = pretraining_text.pretraining_documents(weights=weights, progress=False)
    assert {document.source for document in train} == {"topics", "docstrings", "code"}
    assert not {document.source for document in held_out} & {"everyday", "tasks"}
    assert pretraining_text.pretraining_documents(weights=weights, progress=False) == found


def test_mixture_shares_no_13_gram(mixed):
    """By brute force: every run of 13 words of every held-out text is looked for in one string of all training text."""
    train, held_out = mixed
    flat = " \n ".join(" ".join(re.findall(r"\w+", document.text.lower())) for document in train)
    looked_for = 0
    for document in held_out:
        found = re.findall(r"\w+", document.text.lower())
        for i in range(0, len(found) - 12, 5):  # a shared stretch of 17 words cannot slip through
            assert f" {' '.join(found[i : i + 13])} " not in flat, document.name
            looked_for += 1
    assert looked_for > 1000
    assert not overlap.ngrams(train) & overlap.ngrams(held_out)


@pytest.mark.parametrize("weights", [{"english": 1}, {**SHARES, "code": -1}, {**SHARES, "english": 0}])
def test_bad_weights_are_refused(weights):
    with pytest.raises(ValueError, match="weights need a share"):
        pretraining_text.pretraining_documents(weights=weights)


def test_folder_of_the_user(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(" ".join(f"{name}{i}" for i in range(200)))
    train, held_out = pretraining_text.folder_documents(tmp_path)
    assert sorted(document.name for document in train + held_out) == ["a.txt", "b.txt", "c.txt"] and held_out
    (tmp_path / "d").mkdir()
    for name, message in (("one", "at least two files"), ("two", "repeat each other")):
        (tmp_path / "d" / f"{name}.txt").write_text((tmp_path / "a.txt").read_text())
        with pytest.raises(ValueError, match=message):
            pretraining_text.folder_documents(tmp_path / "d")


def test_pieces_put_together_are_the_document():
    text = "\n\n".join(f"def f{i}():\n    return {i}" for i in range(2000)) + "\n"
    pieces = pretraining_text.pieces(corpora.Document(text, "code", "m"))
    assert len(pieces) > 3
    assert "\n".join(piece.text for piece in pieces) == text and all(p.text.startswith("def ") for p in pieces)

"""python -m afm_ref pretrain on a small folder: distilled, interrupted and resumed, from raw files; and its plans."""

import json

import numpy as np
import pytest

from afm_ref import assets, training
from afm_ref.__main__ import main
from afm_ref.config import AFMConfig
from afm_ref.curation import shards
from afm_ref.data import corpora, tokenizer
from afm_ref.interop import hugging_face, palettized, palettizing
from afm_ref.losses import Batch
from afm_ref.pretraining import stages
from afm_ref.quantization import dequantize
from afm_ref.transformer import Causal, forward, init
from tests.curation import languages

MICRO = dict(d_model=8, n_layers=1, n_heads=1, n_kv_heads=1, head_dim=8, d_ff=8, vocab_size=2048)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of shards: language reference and one module, some 10,000 tokens; a teacher; a dozen raw files."""
    root = tmp_path_factory.mktemp("pretrain")
    for name in ("texts", "raw"):
        (root / name).mkdir()
    documents = [doc._replace(source="text") for doc in corpora.topics()[:24]]
    module = dict(corpora.modules())["textwrap"].read_text(encoding="utf-8")
    shards.write(shards.path_of(root / "texts", 0), [*documents, corpora.Document(module, "code", "textwrap.py")])
    for doc in corpora.topics()[30:42]:
        (root / "raw" / f"{doc.name}.txt").write_text(doc.text, encoding="utf-8")
    for name, size in (("micro", 2048), ("small", 2040), ("large", 2050)):
        (root / f"{name}.json").write_text(json.dumps(MICRO | {"vocab_size": size}))
    cfg = AFMConfig(**MICRO)
    hugging_face.save(root / "teacher", init(cfg, 1), cfg, tokenizer=hugging_face.load_tokenizer(assets.FOLDER))
    return root


def call(folder, out, *more, steps=12, corpus="texts"):
    line = ["pretrain", "--corpus", str(folder / corpus), "--out", str(folder / out), "--steps", str(steps)]
    line += ["--config", str(folder / "micro.json"), "--batch", "4", "--seq-len", "32", "--checkpoint-every", "3"]
    return main([*line, *more])


def before_training(monkeypatch, question=lambda planned, rows, **options: None):
    """Set what is asked of stages.run's arguments, before it stops as by Ctrl-C."""

    def run(params, cfg, planned, rows, seed, **options):
        question(planned, rows, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "run", run)


def distilled(folder, out):
    """Call it with what a resumed run has most to get right: a teacher, and an optimizer that is carried on."""
    return call(folder, out, "--teacher", str(folder / "teacher"), "--optimizer", "carried")


@pytest.fixture(scope="module")
def whole(folder):
    assert distilled(folder, "whole") == 0
    return folder / "whole"


def test_it_leaves_a_model_that_loads_with_the_base_of_the_last_stage(whole, capsys):
    params, cfg = hugging_face.load(whole / "model")
    assert cfg.rope_theta == pytest.approx(500_000 ** (np.log(256 / 6.2832) / np.log(64 / 6.2832)), rel=1e-4)
    assert (cfg.d_model, cfg.vocab_size) == (8, 2048) and params.embed.shape == (2048, 8)
    assert (whole / "loss.png").read_bytes()[:4] == b"\x89PNG"
    assert [len(training.History.load(whole / f"history_{name}.json")) for name in stages.NAMES] == [6, 3, 3]
    assert main(["generate", "--model", str(whole / "model"), "--max-new-tokens", "1", "--prompt", "The"]) == 0
    assert capsys.readouterr().out


def test_interrupted_and_resumed_it_is_the_same_model(folder, whole, monkeypatch, capsys):
    """Ctrl-C twice, between two checkpoints: at the fifth step of twelve, in the stage with a teacher, and the eighth.

    At the eighth, in the second stage, the moments are those that the first stage has handed on.
    """
    advance, calls = training.loop._Loop.advance, []

    def interrupted(run):
        calls.append(1)
        if len(calls) in (5, 9):  # the fifth step is called for a second time
            raise KeyboardInterrupt
        advance(run)

    monkeypatch.setattr(training.loop._Loop, "advance", interrupted)
    for _ in range(2):
        assert distilled(folder, "stopped") == 130 and "the same command continues" in capsys.readouterr().err
        assert not (folder / "stopped" / "model").exists()
    assert distilled(folder, "stopped") == 0 and len(calls) == 12 + 2
    out = capsys.readouterr()
    assert "code: " in out.out or "text: " in out.out
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (folder / "stopped" / "model" / name).read_bytes() == (whole / "model" / name).read_bytes()


def test_a_teacher_changes_the_core_stage_alone(folder, monkeypatch):
    """Distilled from a palettized model, whose tokens are those of its dense weights; later stages are plain."""
    palettizing.palettize_folder(folder / "teacher", folder / "small_teacher", 4, progress=False)
    params, cfg = palettized.load(folder / "small_teacher")
    tokens = np.random.default_rng(0).integers(0, cfg.vocab_size, (2, 9), dtype=np.int32)
    batch = Batch(tokens, tokens, np.ones(tokens.shape, np.float32), np.zeros(tokens.shape, np.int32))
    expected = forward(dequantize(params), tokens, cfg, None, Causal(batch.documents)).argmax(-1)

    def question(planned, rows, loss, batches, **options):
        core, *later = planned
        assert loss(core, cfg).func.__name__ == "mixed_target"
        np.testing.assert_array_equal(batches(core, None, lambda step: batch)(0).teacher, expected)
        assert {loss(stage, cfg).func.__name__ for stage in later} == {"next_token"}
        assert {batches(stage, None, "drawn") for stage in later} == {"drawn"}

    before_training(monkeypatch, question)
    assert call(folder, "distilled", "--teacher", str(folder / "small_teacher")) == 130


def test_other_languages_are_kept_if_asked_for(folder, monkeypatch, capsys):
    """Else the error says which rules they broke. No English questions are added to them."""
    (folder / "german").mkdir()
    for i, end in enumerate("abcdefghij"):  # of words of their own, or they would repeat each other
        text = " ".join(word + end for word in languages.document("german", i).split())
        (folder / "german" / f"{i}.txt").write_text(text, encoding="utf-8")

    def question(planned, rows, **options):
        assert {name for stage in planned for name in stage.weights} == {"text"}

    def told(out, *more):
        return call(folder, out, *more, corpus="german"), capsys.readouterr().err

    before_training(monkeypatch, question)
    status, said = told("no_german")
    assert status == 2 and "--quality" not in said.splitlines()[-1]  # it would change nothing
    assert all(part in said.splitlines()[-1] for part in ("kept nothing", "10 no stop words", "--language any"))
    for out, more, wanted, part in (
        ("no_german", (), 2, "other settings"),
        ("any_german", (), 130, "Not checked"),
        ("x", ("--mixture", "text=1,long_qa=1"), 2, "there will be no rows of ['long_qa']"),
    ):
        status, said = told(out, "--language", "any", *more)
        assert status == wanted and part in said
    assert shards.is_curated(folder / "any_german" / "curated")


def test_unfinished_curation_is_no_corpus_but_its_own_run_goes_on(folder, monkeypatch, capsys):
    """Raw files are curated first. Ctrl-C when the only shard is written, not yet counted: it may yet be replaced."""
    write = shards.write

    def stopped(*args):
        write(*args)
        raise KeyboardInterrupt

    def question(planned, rows, **options):
        assert {name for stage in planned for name in stage.weights} <= {"text", "code", "maths", "long_qa"}
        assert rows(16)["text"].tokens.shape[1] == 17

    before_training(monkeypatch, question)
    with monkeypatch.context() as patch:
        patch.setattr(shards, "write", stopped)
        assert call(folder, "half", "--quality", "0", corpus="raw") == 130
    assert shards.path_of(folder / "half" / "curated", 0).exists()
    assert call(folder, "of_half", corpus="half/curated") == 2
    assert "half/curated is unfinished" in capsys.readouterr().err and not (folder / "of_half").exists()
    for name in ("half", "at_once"):
        assert call(folder, name, "--quality", "0", corpus="raw") == 130
    resumed, whole = (list(shards.read(folder / name / "curated")) for name in ("half", "at_once"))
    assert resumed == whole and len(whole) > 5


def test_a_trained_tokenizer_is_taken_again_for_the_same_text_and_size_alone(folder, monkeypatch, capsys):
    train, sizes = tokenizer.train, []

    def counted(texts, size):
        sizes.append(size)
        return train(texts, size)

    def trained(size, corpus="texts"):
        (folder / "sized.json").write_text(json.dumps(MICRO | {"vocab_size": size}))
        more = ("--train-tokenizer", "--config", str(folder / "sized.json"))
        return call(folder, "trained", *more, corpus=corpus), capsys.readouterr().err

    before_training(monkeypatch)
    monkeypatch.setattr(tokenizer, "train", counted)
    path = folder / "trained" / "tokenizer.json"
    (folder / "fewer").mkdir()
    shards.write(shards.path_of(folder / "fewer", 0), list(shards.read(folder / "texts"))[:-2])
    assert trained(500)[0] == 130
    first = path.read_bytes()
    assert trained(500)[0] == 130 and sizes == [500]
    for size, corpus_, what in ((490, "texts", "vocab_size was 500 and is 490"), (500, "fewer", "text was ")):
        status, said = trained(size, corpus_)
        assert status == 2 and what in said and "holds a tokenizer of another run" in said
    (folder / "trained" / "tokenizer_trained_on.json").unlink()  # as of a tokenizer that nobody trained here
    assert trained(500)[0] == 2 and path.read_bytes() == first and sizes == [500]
    path.unlink()
    assert trained(490)[0] == 130 and sizes == [500, 490]
    assert len(hugging_face.load_tokenizer(folder / "trained").token_bytes) == 490


WRONG = {
    "--steps 5": "at least 10",
    "--batch 0": "--batch is 0",
    "--seq-len 3": "--seq-len is 3",
    "--seed -1": "--seed is -1",
    "--learning-rate nan": "--learning-rate is nan",
    "--z-loss -1": "--z-loss is -1",
    "--z-loss 1e-6 --teacher teacher": "give one of them",
    "--config none.json": "no file at none.json",
    "--config small.json": "below the tokenizer's 2048",
    "--teacher none": "none/config.json does not exist",
    "--teacher teacher --config large.json": "the teacher knows 2048 tokens and the student 2050",
    "--mixture code": "--mixture 'code': give parts and weights as in",
    "--mixture code=-1": "--mixture: weights of a mixture must be finite and at least 0",
    "--mixture text=1,text=2": "give each part once",
    "--continued-mixture poems=1": "--continued-mixture: there will be no rows of ['poems']",
}


@pytest.mark.parametrize("more", WRONG, ids=lambda more: more.strip("-").replace(" ", "_"))
def test_what_is_wrong_is_said_before_curation(folder, more, capsys, monkeypatch):
    """Nothing is on disk after it."""
    monkeypatch.chdir(folder)
    assert call(folder, "early", *more.split(), corpus="raw") == 2
    assert WRONG[more] in capsys.readouterr().err and not (folder / "early").exists()


def test_what_only_the_shards_can_tell_is_said_before_training(folder, capsys, monkeypatch):
    monkeypatch.setattr(stages, "run", lambda *_, **__: pytest.fail("a stage was trained before the refusal"))
    for more, said in (("--continued-mixture poems=1", "['poems']"), ("--seq-len 100000", "below 100000")):
        assert call(folder, "bad", *more.split()) == 2 and said in capsys.readouterr().err

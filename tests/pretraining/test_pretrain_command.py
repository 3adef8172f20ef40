"""python -m afm_ref pretrain on a small folder: whole, interrupted and resumed, distilled; and its plans."""

import json

import jax
import numpy as np
import pytest

from afm_ref import assets, training
from afm_ref.__main__ import main
from afm_ref.data import corpora
from afm_ref.data.curation import shards
from afm_ref.interop import hugging_face
from afm_ref.pretraining import corpus, stages

MICRO = dict(d_model=8, n_layers=1, n_heads=1, n_kv_heads=1, head_dim=8, d_ff=8, vocab_size=2048)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of shards: language reference and one module, some 10,000 tokens; and a cache of compiled programs."""
    root = tmp_path_factory.mktemp("pretrain")
    documents = [doc._replace(source="text") for doc in corpora.topics()[:24]]
    path = dict(corpora.modules())["textwrap"]
    documents.append(corpora.Document(path.read_text(encoding="utf-8"), "code", "textwrap.py"))
    (root / "texts").mkdir()
    shards.write(shards.path_of(root / "texts", 0), documents)
    (root / "micro.json").write_text(json.dumps(MICRO))
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(root / "compiled"))
    yield root
    jax.config.update("jax_compilation_cache_dir", before)


def call(folder, out, *more, steps=12, corpus="texts"):
    line = ["pretrain", "--corpus", str(folder / corpus), "--out", str(folder / out), "--steps", str(steps)]
    line += ["--config", str(folder / "micro.json"), "--batch", "4", "--seq-len", "32", "--checkpoint-every", "2"]
    return main([*line, *more])


@pytest.fixture(scope="module")
def whole(folder):
    assert call(folder, "whole") == 0
    return folder / "whole"


def test_it_leaves_a_model_that_loads_with_the_base_of_the_last_stage(whole):
    params, cfg = hugging_face.load(whole / "model")
    assert cfg.rope_theta == pytest.approx(500_000 ** (np.log(256 / 6.2832) / np.log(64 / 6.2832)), rel=1e-4)
    assert (cfg.d_model, cfg.vocab_size) == (8, 2048) and params.embed.shape == (2048, 8)
    assert (whole / "loss.png").read_bytes()[:4] == b"\x89PNG"
    lengths = [len(json.loads((whole / f"history_{name}.json").read_text())["loss"])
               for name in ("core", "continued", "lengthening")]  # fmt: skip
    assert lengths == [6, 3, 3]


def test_generate_reads_it(whole, capsys):
    assert main(["generate", "--model", str(whole / "model"), "--max-new-tokens", "2", "--prompt", "The"]) == 0
    assert capsys.readouterr().out


def test_interrupted_and_resumed_it_is_the_same_model(folder, whole, monkeypatch, capsys):
    """Ctrl-C in the second stage, at the eighth step of twelve, between two checkpoints."""
    advance, calls = training._Run.advance, []

    def interrupted(run):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        advance(run)

    monkeypatch.setattr(training._Run, "advance", interrupted)
    assert call(folder, "stopped") == 130 and "the same command continues" in capsys.readouterr().err
    assert not (folder / "stopped" / "model").exists()
    monkeypatch.setattr(training._Run, "advance", advance)
    assert call(folder, "stopped") == 0
    out = capsys.readouterr()
    assert "code: " in out.out or "text: " in out.out
    names = ("model.safetensors", "config.json", "tokenizer.json")
    for name in names:
        assert (folder / "stopped" / "model" / name).read_bytes() == (whole / "model" / name).read_bytes()


def test_a_teacher_of_another_vocabulary_is_refused(folder, whole, capsys):
    (folder / "large.json").write_text(json.dumps(MICRO | {"vocab_size": 2050}))
    line = ["pretrain", "--corpus", str(folder / "texts"), "--out", str(folder / "other"), "--teacher"]
    assert main([*line, str(whole / "model"), "--config", str(folder / "large.json")]) == 2
    assert "the teacher knows 2048 tokens and the student 2050" in capsys.readouterr().err


def test_a_teacher_changes_the_core_stage_alone(folder, whole, capsys, monkeypatch):
    """Distilled from a model: the first loss is that of 0.9 of the teacher's token; later stages have the plain one."""
    seen = {}

    def run(*args, loss, batches, **options):
        for stage in args[2]:
            drawn = batches(stage, None, lambda step: "batch")
            seen[stage.name] = (loss(stage, args[1]).func.__name__, drawn.__qualname__.split(".")[0])
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "run", run)
    assert call(folder, "distilled", "--teacher", str(whole / "model")) == 130
    assert seen["core"] == ("mixed_target", "taught")
    assert seen["continued"][0] == seen["lengthening"][0] == "next_token" and seen["continued"][1] != "taught"


def test_raw_files_are_curated_first(folder, monkeypatch, capsys):
    """Two text files and a page of markup, without the classifier; stopped before any training."""
    raw = folder / "raw"
    raw.mkdir()
    for doc in corpora.topics()[30:42]:
        (raw / f"{doc.name}.txt").write_text(doc.text, encoding="utf-8")

    def run(params, cfg, planned, rows, *args, **options):
        assert {name for stage in planned for name in stage.weights} <= {"text", "code", "maths", "long_qa"}
        assert rows(16)["text"].tokens.shape[1] == 17
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "run", run)
    assert call(folder, "from_raw", "--quality", "0", corpus="raw") == 130
    assert shards.is_curated(folder / "from_raw" / "curated")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--steps", "5"], "at least 10"),
        (["--batch", "0"], "--batch is 0"),
        (["--mixture", "code"], "parts and weights as in"),
        (["--mixture", "code=-1"], "at least 0"),
        (["--mixture", "poems=1"], r"no rows of ['poems']"),
        (["--continued-mixture", "poems=1"], r"no rows of ['poems']"),
        (["--seq-len", "100000"], "or --seq-len below 100000"),
    ],
)
def test_bad_settings_are_refused_in_a_line(folder, more, message, capsys, monkeypatch):
    monkeypatch.setattr(stages, "run", lambda *_, **__: pytest.fail("a stage was trained before the refusal"))
    assert call(folder, "bad", *more) == 2
    assert message in capsys.readouterr().err


def test_long_questions_fill_a_row_of_any_window():
    """Documents are of 4000 tokens at most, however long the window is, and at least so many tokens in all."""
    tok = hugging_face.load_tokenizer(assets.FOLDER)
    for window, tokens in ((300, 1000), (9000, 100)):
        found = corpus.token_counts({"long_qa": corpus.long_questions(tok, window, tokens)}, tok)["long_qa"]
        assert found > window and found > 0.9 * tokens


def test_windows_shrink_to_what_the_corpus_fills():
    assert corpus.choose_window({"text": 5000, "code": 1025}) == (128, [])
    assert corpus.choose_window({"text": 5000, "code": 1024}) == (128, ["code"])
    assert corpus.choose_window({"text": 600}) == (64, [])
    assert corpus.choose_window({"text": 129}) == (16, [])
    with pytest.raises(ValueError, match=r"corpus too short.*129: give more text$"):
        corpus.choose_window({"text": 128})


def test_default_mixtures_by_hand():
    """text : code = 300 : 100. Continued: 0.75 / 2 and 0.25 * 2, that is 3 : 4. Lengthening: 0.7 of it and 0.3."""
    found = corpus.default_mixtures({"text": 300, "code": 100})
    assert found["core"] == pytest.approx({"text": 0.75, "code": 0.25})
    assert found["continued"] == pytest.approx({"text": 3 / 7, "code": 4 / 7})
    assert found["lengthening"] == pytest.approx({"text": 0.3, "code": 0.4, "long_qa": 0.3})
    given = corpus.default_mixtures({"text": 1}, {"text": 1, "code": 3}, {"code": 2}, long_qa=False)
    assert given == {"core": {"text": 0.25, "code": 0.75}, "continued": {"code": 1}, "lengthening": {"code": 1}}

"""python -m afm_ref curate: what it writes, what it says, and going on after Ctrl-C."""

import json
import re

import pytest

from afm_ref.__main__ import main
from afm_ref.curation import minhash, run, shards
from afm_ref.curation.recipe import Recipe
from afm_ref.curation.report import Report
from tests.curation import languages

SENTENCE = "The captain of ship {0} was late in port {1} and they have kept letter {0}{1} of the year {2}."


@pytest.fixture
def curate(tmp_path):
    """Run the command on three texts and return its exit status; out is tmp_path / "out"."""
    (tmp_path / "pages").mkdir()
    for i in range(3):
        text = "\n\n".join(SENTENCE.format(10 * i + j, 99 - i - j, 1700 + 30 * i + j) for j in range(9 + i))
        (tmp_path / "pages" / f"{i}.txt").write_text(text if i else "short")
    command = ["curate", str(tmp_path / "pages"), "--out", str(tmp_path / "out"), "--quality", "0"]
    return lambda *options: main([*command, *map(str, options)])


def test_it_writes_shards_a_report_and_figures(curate, tmp_path, capsys):
    out, drawn = tmp_path / "out", {"funnel.png", "drops.png", "lengths.png", "s_curve.png"}
    assert curate() == 0
    said = capsys.readouterr().out
    assert "too short" in said and "near-duplicates" in said and str(out) in said
    written = {path.name for path in out.iterdir()}
    assert written == drawn | {"report.json", "report.md", "part-00000.jsonl.gz", "dropped-00000.jsonl.gz"}
    text = (out / "report.md").read_text()
    assert Report.load(out / "report.json").table() in text and "](funnel.png)" in text
    assert curate() == 0 and {path.name for path in out.iterdir()} == written  # again: the same


def test_a_folder_of_which_nothing_can_be_read_has_a_report(curate, tmp_path, capsys):
    """Without figures, of which none would show anything."""
    for i in range(3):
        (tmp_path / "pages" / f"{i}.txt").write_bytes(b"\0\0")
    assert curate() == 0
    said = capsys.readouterr().out
    assert "not usable: 3 binary" in said and "shards: 0" in said and "figures" not in said
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"report.json", "report.md", "dropped-00000.jsonl.gz"}


def test_ctrl_c_and_the_same_command_again(curate, tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(run, "_settle", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert curate("--chunk-mb", "0.001") == 130
    assert "the same command continues" in capsys.readouterr().err
    assert curate("--chunk-mb", "0.001") == 0 and shards.is_curated(tmp_path / "out")


def test_options_reach_the_run(curate, tmp_path):
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "and they have kept letter"}) + "\n")
    assert curate("--threshold", 0.9, "--memory-mb", 0, "--benchmarks", tmp_path / "b.jsonl", "--whole-pages") == 0
    found = Report.load(tmp_path / "out" / "report.json")
    assert found.settings["threshold"] == 0.9 and (found.settings["bands"], found.settings["rows"]) != (16, 8)
    assert found.settings["main_content"] is False and found.settings["index_bytes"] == 0
    assert found.shards == 0 and "benchmark text" in found.steps["decontamination"].dropped


def test_other_languages_are_kept_if_asked_for_and_their_loss_is_told(tmp_path, capsys):
    """Another language in the same folder is refused, like all other settings."""
    (tmp_path / "pages").mkdir()
    for i in range(6):
        (tmp_path / "pages" / f"{i}.txt").write_text(languages.document("japanese", i), encoding="utf-8")
    page = "<body><main><p>" + "<p>".join(languages.SENTENCES["japanese"])
    (tmp_path / "pages" / "page.html").write_text(page, encoding="utf-8")
    command = ["curate", str(tmp_path / "pages"), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "shards: 0" in said and "7 documents broke its rules" in said and "--language any" in said
    assert main([*command, "--language", "any"]) == 2 and "other settings" in capsys.readouterr().err
    command[-1] += "2"
    assert main([*command, "--language", "any"]) == 0
    said = capsys.readouterr().out
    assert "Not checked" in said and "safety" not in said and "quality " not in said.split("Not checked")[0]
    kept = [d.text for d in shards.read(command[-1])]
    assert len(kept) >= 2 and kept[0] == languages.document("japanese", 0)


def test_near_duplicates_without_spaces():
    """One letter in each clause is another: as words the clauses have nothing in common, as letters much."""
    half_width = "ｶﾜﾊﾕｯｸﾘﾄﾅｶﾞﾚ､ｷｼﾍﾞﾆﾊﾌﾙｲｷｶﾞﾊｴﾃｲﾏｼﾀ｡ｺﾄﾞﾓﾀﾁﾊﾐｽﾞﾍﾞﾃﾞﾕｳｶﾞﾀﾏﾃﾞｱｿﾋﾞ､ｿﾚｶﾗﾕｯｸﾘｱﾙｲﾃｶｴﾘﾏｼﾀ｡"
    for text, more in ((languages.document("japanese"), "ね"), (half_width, "ﾈ")):
        edited = re.sub("[。、｡､]", more + r"\g<0>", text)
        both = ((r.shingles(text), r.shingles(edited)) for r in (Recipe(), Recipe(language="any")))
        words, letters = (minhash.jaccard(*pair) for pair in both)
        assert words == 0 and letters > 0.5


def test_bad_input_is_one_line(curate, tmp_path, capsys):
    for option, value, message in (
        ("--out", tmp_path / "pages" / "out", "must lie apart"), ("--memory-mb", -1, "--memory-mb is -1.0"),
        ("--benchmarks", "nowhere.jsonl", "no benchmarks at nowhere.jsonl"), ("--quality", 2, "quality must be"),
        ("--threshold", 1, "threshold must be between 0 and 1"), ("--processes", 0, "processes must be"),
    ):  # fmt: skip
        assert curate(option, value) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()

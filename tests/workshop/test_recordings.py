"""Recorded numbers are those that the text prints, and that the shipped model still gives."""

import json
from pathlib import Path

import pytest

from afm_ref import assets, evaluation
from afm_ref.data import packing, pretraining_text, tasks
from experiments import train_tiny

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def test_readme_prints_the_recording():
    table = assets.recording("train_tiny")["numbers"]["held_out_bits_per_byte"]
    for part, row in table.items():
        numbers = [row[column] for column in ("model", "five_gram", "xz_given_training_text")]
        assert f"| {part} | " + " | ".join(f"{number:.2f}" for number in numbers) + " |" in README
    assert table["english"]["model"] < 0.95 * min(
        table["english"][other] for other in ("five_gram", "xz_given_training_text")
    )


@pytest.mark.parametrize("path", sorted(assets.RECORDED.glob("*.json")), ids=lambda path: path.stem)
def test_no_recording_names_a_folder_of_the_machine_that_made_it(path):
    text = path.read_text(encoding="utf-8")
    assert "/tmp" not in text and not Path(json.loads(text)["config"].get("folder", "")).is_absolute()


def test_one_cell_is_recomputed():
    """On generated text, which no Python version changes. One percent is far above float32, far below any effect."""
    params, cfg, tok = assets.load_tiny()
    documents = tasks.everyday_documents(pretraining_text.HELD_OUT_GENERATED, train_tiny.SEED, "held_out")
    rows = packing.pack_for_evaluation(documents, tok, train_tiny.SEQ_LEN)
    batches = packing.evaluation_batches(rows, 16)
    bits = evaluation.bits_per_byte(params, cfg, batches, rows.text_bytes, progress=False)
    recorded = assets.recording("train_tiny")["numbers"]["held_out_bits_per_byte"]["everyday"]["model"]
    assert bits == pytest.approx(recorded, rel=0.01)

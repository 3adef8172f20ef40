"""What chapter 2 shows of a longer window as recorded: of the shipped model, whole, and still what the code gives."""

import numpy as np
import pytest

from afm_ref import assets
from afm_ref.data import long_qa
from afm_ref.lora import files
from afm_ref.pretraining import long_context
from experiments import lengthening, stages

RECORDING = assets.recording("lengthening")
CONFIG, RUNS, SEEDS = RECORDING["config"], RECORDING["numbers"]["runs"], RECORDING["seeds"]


def test_a_cell_is_recomputed():
    """The shipped model's first answers in generated documents, which no Python version changes."""
    params, cfg, tok = assets.load_tiny()
    assert files.fingerprint(params) == CONFIG["base"]
    questions = long_qa.long_qa_documents(CONFIG["answers"], stages.LONG_QA_TOKENS, tok, split="held_out")[:2]
    found = long_context.answer_losses(params, cfg, questions)
    recorded = RUNS["before_old"]["answers"][: len(found)]
    assert [x.distance for x in found] == [row[0] for row in recorded]
    assert [x.nats for x in found] == pytest.approx([row[1] for row in recorded], abs=0.0015)  # three places recorded


def test_runs_are_complete():
    assert len(SEEDS) >= 3
    arguments = lengthening.arguments([f"--seeds={len(SEEDS)}", f"--first-seed={SEEDS[0]}"])
    assert set(RUNS) == set(lengthening.jobs(None, arguments))
    for run in RUNS.values():
        assert {len(nats) for nats in run["by_position"].values()} == {len(CONFIG["edges"]) - 1}
        assert np.isfinite([*run["by_position"].values()]).all()


def test_the_base_is_that_of_the_rule_and_the_stage_as_short_as_apples():
    _, cfg, _ = assets.load_tiny()
    stage = lengthening.stage_of(cfg, CONFIG["steps"], True)
    assert stage.rope_theta == pytest.approx(CONFIG["new_base"])
    assert lengthening.stage_of(cfg, CONFIG["steps"], False).rope_theta == cfg.rope_theta
    trained = assets.recording("train_tiny")["numbers"]["tokens"]
    assert stage.tokens / trained == pytest.approx(100e9 / (6.3e12 + 1e12), rel=0.05)

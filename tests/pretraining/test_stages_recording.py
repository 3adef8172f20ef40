"""What chapter 4 shows as recorded of the stages and of a longer window: whole, fair, still what the code gives."""

import numpy as np
import pytest

from afm_ref import assets, transformer
from afm_ref.config import AFMConfig
from afm_ref.data import long_qa
from afm_ref.lora import files
from afm_ref.pretraining import long_context
from afm_ref.pretraining.long_context import rope_base
from experiments import lengthening, stages

RECORDING = assets.recording("stages")
CONFIG, NUMBERS, SEEDS = RECORDING["config"], RECORDING["numbers"], RECORDING["seeds"]
RUNS, LONGER = NUMBERS["runs"], assets.recording("lengthening")
ARGUMENTS = stages.arguments(["--answers", "2", "--long-documents", "1"])


def test_runs_are_complete():
    assert len(SEEDS) >= 3
    assert set(RUNS) == set(stages.jobs(None, ARGUMENTS))
    assert CONFIG["model"] == stages.CFG.to_dict() == AFMConfig.from_dict(CONFIG["model"]).to_dict()
    assert CONFIG["new_base"] == pytest.approx(rope_base(500_000, 256, 1024))


def test_every_variant_was_measured_at_every_position():
    measured = ("continued", "base_only", "lengthened", "lengthened_old_base")
    for run in ({name: RUNS[f"stages_{seed}"][name] for name in measured} for seed in SEEDS):
        for found in run.values():
            for nats in found["by_position"].values():
                assert len(nats) == len(CONFIG["edges"]) - 1 and np.isfinite(nats).all()
            # the same documents, so the same distances
            assert [row[0] for row in found["answers"]] == [row[0] for row in run["continued"]["answers"]]
            assert len(found["answers"]) > 50


def test_all_sweeps_and_penalties_start_alike():
    """Of a seed: log Z before the first step is that of the same fresh weights, whatever the weight of the z-loss."""
    for seed in SEEDS:
        assert len({RUNS[f"z_{z:g}_{seed}"]["log_z"][0] for z in stages.Z_WEIGHTS}) == 1
        shares = [RUNS[f"sweep_{share:g}_{seed}"]["share"] for share in stages.CODE_SHARES]
        assert shares == list(stages.CODE_SHARES)


def test_a_cell_is_recomputed():
    """log Z of the fresh weights, by NumPy on random tokens: about ln V + 1/2, for logits of variance near 1."""
    cfg, params = stages.CFG, transformer.init(stages.CFG, SEEDS[0])
    tokens = np.random.default_rng(0).integers(6, cfg.vocab_size, (2, 128)).astype(np.int32)
    log_z = np.log(np.exp(transformer.forward(params, tokens, cfg).astype(np.float64)).sum(axis=-1))
    # two means over hundreds of positions of other tokens: closer than one position is to their mean
    assert log_z.mean() == pytest.approx(RUNS[f"z_0_{SEEDS[0]}"]["log_z"][0], abs=log_z.std())
    # the variance of V draws has a standard deviation of sqrt(2 / V), here 0.03; half of it would count
    assert log_z.mean() == pytest.approx(np.log(cfg.vocab_size) + 0.5, abs=3 * np.sqrt(2 / cfg.vocab_size))


def test_a_mixtures_ends_are_the_best_for_their_own_part():
    """No code at all is better for English than nothing but code, and the other way round, in every seed."""
    for seed in SEEDS:
        none, all_code = (RUNS[f"sweep_{share:g}_{seed}"]["bits_per_byte"] for share in (0, 1))
        assert none["english"] < all_code["english"] and none["code"] > all_code["code"]


def test_answers_of_the_shipped_model_are_recomputed():
    """The shipped model's first answers in generated documents, which no Python version changes."""
    params, cfg, tok = assets.load_tiny()
    assert files.fingerprint(params) == LONGER["config"]["base"]
    questions = long_qa.long_qa_documents(LONGER["config"]["answers"], stages.LONG_QA_TOKENS, tok, split="held_out")[:2]
    found = long_context.answer_losses(params, cfg, questions)
    recorded = LONGER["numbers"]["runs"]["before_old"]["answers"][: len(found)]
    assert [x.distance for x in found] == [row[0] for row in recorded]
    assert [x.nats for x in found] == pytest.approx([row[1] for row in recorded], abs=0.0015)  # three places recorded


def test_runs_of_lengthening_are_complete():
    seeds, runs = LONGER["seeds"], LONGER["numbers"]["runs"]
    arguments = lengthening.arguments([f"--seeds={len(seeds)}", f"--first-seed={seeds[0]}"])
    assert len(seeds) >= 3 and set(runs) == set(lengthening.jobs(None, arguments))
    for run in runs.values():
        assert {len(nats) for nats in run["by_position"].values()} == {len(LONGER["config"]["edges"]) - 1}
        assert np.isfinite([*run["by_position"].values()]).all()


def test_the_base_is_that_of_the_rule_and_the_stage_as_short_as_apples():
    _, cfg, _ = assets.load_tiny()
    stage = lengthening.stage_of(cfg, LONGER["config"]["steps"], True)
    assert stage.rope_theta == pytest.approx(LONGER["config"]["new_base"])
    assert lengthening.stage_of(cfg, LONGER["config"]["steps"], False).rope_theta == cfg.rope_theta
    trained = assets.recording("train_tiny")["numbers"]["tokens"]
    assert stage.tokens / trained == pytest.approx(100e9 / (6.3e12 + 1e12), rel=0.05)

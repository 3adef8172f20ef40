"""What chapter 8 shows as recorded, and the adapters that ship: still those of the shipped model."""

import argparse

import pytest

from afm_ref import assets, evaluation
from afm_ref.lora import files
from experiments import lora, rank

RECORDING = assets.recording("lora")
CONFIG, NUMBERS = RECORDING["config"], RECORDING["numbers"]


def test_shipped_adapters_are_of_the_shipped_model():
    mine = files.fingerprint(assets.load_tiny()[0])
    assert CONFIG["base"] == mine
    for task in lora.FEATURES:
        adapter = files.load(lora.SHIPPED / f"{task}.safetensors")
        assert (adapter.base, adapter.rank, len(adapter.matrices)) == (mine, 16, 28)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["matrix_tone_0", "base"])
def test_a_cell_is_recomputed(name):
    """The loss of the tone adapter on tone. One percent is far above the file's 16 bits, far below any effect."""
    bench = lora.Bench(argparse.Namespace(**CONFIG))
    bench.held_out = {"tone": bench.held_out["tone"]}
    adapter = files.load(lora.SHIPPED / "tone.safetensors")
    recorded = {run: NUMBERS["runs"][run]["nats"]["tone"] for run in ("matrix_tone_0", "base")}
    params = bench.params if name == "base" else files.put(bench.params, adapter)
    assert bench.nats(params)["tone"] == pytest.approx(recorded[name], rel=0.01)
    assert recorded["matrix_tone_0"] < 0.5 * recorded["base"]


def test_intervals_are_those_of_the_runs():
    runs, seeds = NUMBERS["runs"], RECORDING["seeds"]
    for task, leads in NUMBERS["intervals"]["own_minus_base"].items():
        base = runs["base"]["scores"][task]["score"]
        gains = [runs[f"matrix_{task}_{seed}"]["scores"][task]["score"] - base for seed in seeds]
        assert leads == pytest.approx(evaluation.mean_interval(gains), abs=1e-4)
    assert len(seeds) >= 3


def test_the_base_of_the_rank_study_is_recomputed():
    """The instruct model's loss on 300 held-out records a task, before training. One percent is far above float32."""
    recorded = assets.recording("rank")
    bench = rank.Bench(rank.arguments([]))
    assert recorded["config"]["base"] == files.fingerprint(bench.params)
    assert bench.nats(bench.params) == pytest.approx(recorded["numbers"]["runs"]["base"]["nats"], rel=0.01)

"""What chapter 5 shows as recorded, and the adapters that ship: still those of the shipped model."""

import argparse

import numpy as np
import pytest

from afm_ref import assets, evaluation
from afm_ref.lora import files
from experiments import lora

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
    for name, interval in NUMBERS["intervals"]["sweep_nats"].items():
        means = [np.mean(list(runs[f"{name}_{seed}"]["nats"].values())) for seed in seeds]
        assert interval == pytest.approx(evaluation.mean_interval(means), abs=1e-4)
    assert len(seeds) >= 3

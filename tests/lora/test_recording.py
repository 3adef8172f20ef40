"""What chapter 5 shows as recorded, and the adapters that ship: still those of the shipped model."""

import argparse
import json
from pathlib import Path

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


def tone_bench():
    """Return the bench with the records of tone alone."""
    bench = lora.Bench(argparse.Namespace(**CONFIG))
    bench.held_out = {"tone": bench.held_out["tone"]}
    return bench


def test_a_cell_is_recomputed():
    """The loss of the tone adapter on tone. One percent is far above the file's 16 bits, far below any effect."""
    bench = tone_bench()
    adapted = files.put(bench.params, files.load(lora.SHIPPED / "tone.safetensors"))
    recorded = NUMBERS["runs"]["matrix_tone_0"]["nats"]["tone"]
    assert bench.nats(adapted)["tone"] == pytest.approx(recorded, rel=0.01)
    assert recorded < 0.5 * NUMBERS["runs"]["base"]["nats"]["tone"]


@pytest.mark.slow  # the base decides the cell above, too
def test_the_cell_of_the_base_is_recomputed():
    bench = tone_bench()
    assert bench.nats(bench.params)["tone"] == pytest.approx(NUMBERS["runs"]["base"]["nats"]["tone"], rel=0.01)


def test_intervals_are_those_of_the_runs():
    runs, seeds = NUMBERS["runs"], RECORDING["seeds"]
    for name, interval in NUMBERS["intervals"]["sweep_nats"].items():
        means = [np.mean(list(runs[f"{name}_{seed}"]["nats"].values())) for seed in seeds]
        assert interval == pytest.approx(evaluation.mean_interval(means), abs=1e-4)
    assert len(seeds) >= 3


def test_the_recording_names_no_folder_of_this_machine():
    assert not Path(CONFIG["folder"]).is_absolute() and "/tmp" not in json.dumps(CONFIG)

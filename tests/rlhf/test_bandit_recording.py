"""What chapter 11 shows of MDLOO's ideas one by one: a cell computed anew, and its comparisons by another formula."""

import argparse

import numpy as np
import pytest

from afm_ref import assets
from afm_ref.teaching.chapters import rlhf as chapter
from experiments import bandit

RECORDING = assets.recording("bandit")
RUNS, CONFIG = RECORDING["numbers"]["runs"], RECORDING["config"]


@pytest.mark.parametrize("cell", [bandit.Cell(), bandit.Cell(step="mirror", inner=4, noise=1.0)])
def test_a_cell_is_recomputed(cell):
    """Eight seeds of two cells; gains are kept to 4 digits, and float32 sums may differ on another machine."""
    a, run = argparse.Namespace(**CONFIG), RUNS[cell.key]
    found = bandit.gains_of(a, cell, run["rate"], run["trust"], bandit.FIRST_SEED, 8)
    assert found == pytest.approx(run["gains"][:8], abs=2e-3)


def test_runs_are_complete_and_settings_are_the_best_of_their_tries():
    assert set(RUNS) == {cell.key for cell in bandit.CELLS} | {key for key in RUNS if key.startswith("shared: ")}
    for cell in bandit.CELLS:
        run = RUNS[cell.key]
        assert len(run["gains"]) == CONFIG["seeds"] == 200 and len(run["tried"]) == len(cell.tries) == 12
        assert run["tried"][f"{run['rate']:g}, {run['trust']:g}"] == max(run["tried"].values())
        shared = RUNS.get(f"shared: {cell.key}")
        if shared:
            tuned = RUNS[cell._replace(inner=bandit.TUNED_AT).key]
            assert (shared["rate"], shared["trust"]) == (tuned["rate"], tuned["trust"])


def test_the_primary_intervals():
    """With 200 seeds t at 98.75% is 2.52: mean +- 2.52 sd / sqrt(200)."""
    late = dict(inner=32, noise=1.0)
    mirror, clip, none = (f"shared: {bandit.Cell(step=step, **late).key}" for step in ("mirror", "clip", "none"))
    cells = {
        "leave one out less none": (bandit.Cell().key, bandit.Cell("none").key),
        "leave one out less divided by std": (bandit.Cell(same=0.75).key, bandit.Cell("divided by std", same=0.75).key),
        "mirror less clip": (mirror, clip),
        "mirror less none": (mirror, none),
    }
    found = chapter.primary(RUNS)
    assert set(found) == set(cells)
    for name, (one, other) in cells.items():
        lead = np.subtract(RUNS[one]["gains"], RUNS[other]["gains"])
        half = 2.52 * lead.std(ddof=1) / np.sqrt(200)
        assert found[name] == pytest.approx((lead.mean(), lead.mean() - half, lead.mean() + half), abs=2e-4)

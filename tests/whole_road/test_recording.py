"""What chapter 12 shows as recorded of the pipeline: of the shipped model, complete, put together from its runs."""

import functools

import numpy as np
import pytest

from afm_ref import assets
from afm_ref.config import parameters
from afm_ref.data import tasks
from afm_ref.data.tokenizer import END
from afm_ref.lora import files
from afm_ref.transformer import forward
from afm_ref.whole_road.bench import NEW_TOKENS, Bench
from afm_ref.whole_road.measuring import SHOWN, shown
from afm_ref.whole_road.steps import STEPS, RoadSizes
from afm_ref.whole_road.workshops import JUDGES
from experiments import pipeline

RECORDING = assets.recording("pipeline")
NUMBERS, SEEDS = RECORDING["numbers"], RECORDING["seeds"]
SIZES = {name: value for name, value in RECORDING["config"]["sizes"].items() if name != "base"}


@functools.cache
def bench():
    """Return the recording's bench, with those held-out prompts alone that are shown: the first of each task."""
    return Bench(RoadSizes(**SIZES | {"held_out": max(SHOWN.values())}))


def test_cells_are_recomputed():
    """The shipped model's most likely answers, by NumPy alone. A near tie may fall otherwise on another machine."""
    assert files.fingerprint(bench().base) == RECORDING["config"]["sizes"]["base"]
    recorded = NUMBERS["runs"][pipeline.key_of("reward model", SEEDS[0])]["0_base"]["answers"]
    found = [answer(record.prompt) for record in shown(bench())]
    assert sum(ours == theirs for ours, theirs in zip(found, recorded, strict=True)) >= len(found) - 1


def answer(prompt):
    tokens = tasks.chat_tokens(bench().tok, prompt).tokens.tolist()
    start = len(tokens)
    while len(tokens) < start + NEW_TOKENS and tokens[-1] != END:
        tokens.append(int(forward(bench().base, np.array([tokens]), bench().cfg)[0, -1].argmax()))
    return bench().tok.decode(tokens[start:])


def test_prompts_are_those_of_the_bench():
    kept = [(prompt["task"], prompt["prompt"], prompt["reference"]) for prompt in NUMBERS["prompts"]]
    assert kept == [(record.task, record.prompt, record.reference) for record in shown(bench())]


def test_runs_are_complete():
    assert len(SEEDS) >= 3
    assert set(NUMBERS["runs"]) == {pipeline.key_of(judge, seed) for judge in JUDGES for seed in SEEDS}
    for key, run in NUMBERS["runs"].items():
        assert set(run) == set(STEPS), key
        answers = [len(run[name]["answers"]) for name in pipeline.MEASURED if "answers" in run[name]]
        assert answers == ([sum(SHOWN.values())] * 7 if key.endswith(f"_{SEEDS[0]}") else [])


def test_sizes_follow_from_bits():
    """The bytes of 16 bits a weight; palettes within the average that was asked for."""
    for run in NUMBERS["runs"].values():
        steps = "0_base", "5_palettized", "6_recovered", "7_features"
        base, palettes, recovered, features = (run[name]["bytes"] for name in steps)
        assert base == 2 * parameters(bench().cfg)["total"] and palettes < recovered == features < base
        assert 3.49 <= run["5_palettized"]["projection_bits"] <= 3.5


def test_intervals_are_those_of_the_runs():
    """Half the width of an interval of three is 4.303 s / sqrt(3), from a table of t."""
    runs = [NUMBERS["runs"][pipeline.key_of("utility", seed)] for seed in SEEDS[:3]]
    rows = ([run[step]["utility"]["taught"] for run in runs] for step in ("0_base", "1_sft", "3_committee"))
    base, sft, committee = map(np.array, rows)
    for step, values, before in ("1_sft", sft, base), ("3_committee", committee, sft):
        parts = {"mean": values, "minus_base": values - base, "minus_before": values - before}
        halves = {name: 4.303 * of_seeds.std(ddof=1) / np.sqrt(3) for name, of_seeds in parts.items()}
        row = NUMBERS["intervals"]["utility"][step]["taught"]
        assert set(row) == set(parts)
        for name, of_seeds in parts.items():  # kept to 4 digits, t to 3 decimals
            assert row[name] == pytest.approx([of_seeds.mean() + s * halves[name] for s in (0, -1, 1)], abs=2e-4)

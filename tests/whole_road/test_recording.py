"""What chapter 12 shows as recorded of the pipeline: of the shipped models, complete, and what the code still gives."""

import functools

import numpy as np

from afm_ref import assets
from afm_ref.config import parameters
from afm_ref.data import tasks
from afm_ref.data.tokenizer import END
from afm_ref.lora import files
from afm_ref.transformer import forward
from afm_ref.whole_road.bench import Bench
from afm_ref.whole_road.measuring import SHOWN, shown
from afm_ref.whole_road.recipes import NEW_TOKENS
from afm_ref.whole_road.steps import STEPS, RoadSizes
from experiments import pipeline

RECORDING = assets.recording("pipeline")
RUNS = RECORDING["numbers"]["runs"]
ROADS = {key: run["steps"] for key, run in RUNS.items() if key != "prompts"}


@functools.cache
def bench():
    """Return the recording's bench, with those held-out prompts alone that are shown: the first of each task."""
    return Bench(RoadSizes(held_out=max(SHOWN.values())))


def test_runs_are_complete():
    assert set(RUNS) == set(pipeline.jobs(pipeline.arguments([]))) and len(RECORDING["seeds"]) == 3
    assert RECORDING["config"]["base"] == files.fingerprint(bench().instruct)
    assert RECORDING["config"]["settings"] == vars(RoadSizes())
    assert all(set(steps) == set(STEPS) for steps in ROADS.values())


def test_cells_are_recomputed():
    """The shipped model's most likely answers, by NumPy alone. A near tie may fall otherwise on another machine."""
    recorded = ROADS["reward model_0"]["0_base"]["answers"]
    found = [answer(record.prompt) for record in shown(bench())]
    assert sum(ours == theirs for ours, theirs in zip(found, recorded, strict=True)) >= len(found) - 1


def answer(prompt):
    tokens = tasks.chat_tokens(bench().tok, prompt).tokens.tolist()
    start = len(tokens)
    while len(tokens) < start + NEW_TOKENS and tokens[-1] != END:
        tokens.append(int(forward(bench().base, np.array([tokens]), bench().cfg)[0, -1].argmax()))
    return bench().tok.decode([t for t in tokens[start:] if t != END])


def test_prompts_are_those_of_the_bench():
    kept = [(of["task"], of["prompt"], of["reference"]) for of in RUNS["prompts"]["prompts"]]
    assert kept == [(record.task, record.prompt, record.reference) for record in shown(bench())]


def test_both_judges_walk_from_one_start():
    for seed in RECORDING["seeds"]:
        ours, theirs = (ROADS[f"{judge}_{seed}"] for judge in ("reward model", "utility"))
        for step in ("0_base", "1_sft"):
            assert ours[step]["utility"] == theirs[step]["utility"]
        assert ours["2_reward"]["accuracy"] == theirs["2_reward"]["accuracy"]


def test_sizes_follow_from_bits():
    """The bytes of 16 bits a weight; palettes within the average that was asked for."""
    for run in ROADS.values():
        steps = "0_base", "5_palettized", "6_recovered", "7_features"
        base, palettes, recovered, features = (run[name]["bytes"] for name in steps)
        assert base == 2 * parameters(bench().cfg)["total"] and palettes < recovered == features < base
        assert 3.49 <= run["5_palettized"]["projection_bits"] <= 3.5

"""What the steps have left, read back from their folders to be measured."""

from typing import Any, NamedTuple

import jax
import numpy as np

from .. import lora
from ..containers import matrices
from ..interop import hugging_face, palettized, reward_files
from ..quantization import dequantize, sizes
from ..training.history import History
from .recipes import TASKS

ADAPTER, HISTORY = "adapter.safetensors", "history.json"


class Made(NamedTuple):
    """What a step has made, to be measured."""

    policies: dict[str, Any]  # task -> the model that answers its prompts
    stored_bytes: int  # of the weights in memory; 16 bits each without palettes
    whole: bool = True  # one model for everything; False for adapters of single tasks


def of_base(run, folder):
    """Return the shipped model."""
    return _dense(run.bench.base)


def of_policy(run, folder):
    """Return the policy in a folder."""
    return _dense(hugging_face.load(folder)[0])


def of_palettes(run, folder):
    """Return the palettized model."""
    palettes = palettized.load(folder)[0]
    return Made(dict.fromkeys(TASKS, plain(palettes)), sizes(palettes).stored_bytes)


def of_recovered(run, folder):
    """Return the palettized model with the recovery adapter."""
    return Made(
        dict.fromkeys(TASKS, plain(adapted(run, folder / ADAPTER))),
        _bytes(run, folder / ADAPTER),
    )


def of_features(run, folder):
    """Return the palettized model with each task's adapter."""
    policies = {task: plain(adapted(run, folder / f"{task}.safetensors")) for task in TASKS}
    # A feature's adapter began as the recovery adapter and takes its place: one at a time.
    return Made(policies, _bytes(run, run.step("6_recovered") / ADAPTER), whole=False)


def reward_accuracy(run, folder):
    """Return how often the reward model is right about pairs of held-out responses."""
    return {
        "accuracy": run.measures.accuracy(reward_files.load(folder)[0], run.policy("1_sft"))
    }


def iterations(run, folder):
    """Return reward, utility and divergence of every iteration of MDLOO on its prompts."""
    rows = History.load(folder / HISTORY).evaluations
    kept = ("samples", "reward", "utility", "kl_reference")
    return {
        "iterations": [
            {name: round(row[name], 4) for name in kept} for row in rows if "reward" in row
        ]
    }


def bits_of(run, folder):
    """Return the average bits of the projections, and which matrices have 2."""
    params = palettized.load(folder)[0]
    few = [
        f"{layer}.{name}" for (name, layer), w in matrices(params).items() if w.bits == 2
    ]
    return {"projection_bits": round(sizes(params).projection_bits, 4), "at_2_bits": few}


def _dense(params):
    half = jax.tree.map(np.float16, params)
    return Made(dict.fromkeys(TASKS, params), sizes(half).stored_bytes)


def plain(params):
    """Return arrays that compute the same, to rounding: adapters added to dense palettes."""
    return dequantize(lora.merge(params, force=True))


def adapted(run, path):
    """Return the palettized model with the adapter of a file."""
    return lora.files.put(run.palettes(), lora.files.load(path))


def _bytes(run, path):
    return sizes(run.palettes()).stored_bytes + lora.files.load(path).n_bytes

"""The figure of the whole pipeline: what each step does to the utility."""

from collections.abc import Mapping

import numpy as np

from .. import figures
from .post_training import MARKERS


def utility_by_step(means: Mapping[str, Mapping[str, tuple]]):
    """Return a figure: the utility after every step with its interval, a line for each judge.

    means: {judge: {step: (mean, low, high)}}, the same steps in the same order for all; a step's name such as "1_sft"
    is drawn as "sft". A dotted line marks where the first judge's line starts. Raises ValueError for no judges, and
    for steps that differ.

    Source: none [ours].
    Test: tests/teaching/test_pipeline_figures.py::test_points_and_bars_are_those_given
    """
    steps = [tuple(rows) for rows in means.values()]
    if not steps or not steps[0] or len(set(steps)) > 1 or len(steps) > len(figures.CYCLE):
        raise ValueError(f"expected the same steps for each of 1 to {len(figures.CYCLE)} judges, got {steps}")
    fig, ax = figures.subplots(figsize=(8.8, 3.8))
    spread = np.linspace(-0.1, 0.1, len(means)) if len(means) > 1 else [0.0]
    for (judge, rows), shift, color, marker in zip(means.items(), spread, figures.CYCLE, MARKERS):
        mean, low, high = np.array(list(rows.values()), np.float64).T
        x = np.arange(len(mean)) + shift
        ax.errorbar(x, mean, (mean - low, high - mean), fmt=f"{marker}-", color=color, capsize=3, label=judge)
    first = next(iter(next(iter(means.values())).values()))[0]
    ax.axhline(first, color=figures.GREY, ls=":", lw=1.4)
    ax.set(xticks=range(len(steps[0])), ylabel="utility, held-out prompts")
    ax.set_xticklabels([name.split("_", 1)[-1] for name in steps[0]])
    if len(means) > 1:
        ax.legend(title="rewards come from", fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig

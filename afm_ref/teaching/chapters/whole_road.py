"""The figure of the whole pipeline: what each step does to the utility."""

from collections.abc import Mapping

import numpy as np

from .. import figures


def utility_by_step(means: Mapping[str, Mapping[str, tuple]]):
    """Draw the utility after every step with its interval, a line for each judge.

    means: {judge: {step: (mean, low, high)}}, the same steps in the same order for all; a
    step's name such as "1_sft" is drawn as "sft". A dotted line marks where the first
    judge's line starts.
    """
    steps = [tuple(rows) for rows in means.values()]
    if len(set(steps)) != 1:
        raise ValueError(f"expected the same steps for each judge, got {steps}")
    fig, ax = figures.subplots(figsize=(8.8, 3.8))
    places, lines = np.arange(len(steps[0])), [[*rows.values()] for rows in means.values()]
    figures.beside(ax, {judge: (places, line) for judge, line in zip(means, lines)}, 0.1)
    ax.axhline(lines[0][0][0], color=figures.GREY, ls=":", lw=1.4)
    ax.set(xticks=places, ylabel="utility, held-out prompts")
    ax.set_xticklabels([name.split("_", 1)[-1] for name in steps[0]])
    if len(means) > 1:
        figures.legend_beside(ax, title="rewards come from")
    return fig

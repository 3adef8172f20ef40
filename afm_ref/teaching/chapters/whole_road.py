"""The figure of the whole pipeline: what each step does to the utility."""

from collections.abc import Mapping

import numpy as np

from .. import figures


def utility_by_step(means: Mapping):
    """Draw the utility after every step with its interval, a line for each judge.

    means: {judge: {step: (mean, low, high)}}, the same steps in the same order for all; a
    step's name such as "1_sft" is drawn as "sft". A dotted line marks where the first
    judge's line starts: the model before all steps.
    """
    steps = [tuple(rows) for rows in means.values()]
    if len(set(steps)) != 1:
        raise ValueError(f"expected the same steps for each judge, got {steps}")
    fig, ax = figures.subplots(figsize=(8.8, 3.8))
    places = np.arange(len(steps[0]))
    lines = {judge: (places, list(rows.values())) for judge, rows in means.items()}
    figures.beside(ax, lines, 0.1)
    start, _, _ = next(iter(means.values()))[steps[0][0]]
    ax.axhline(start, **figures.DOTTED)
    ax.annotate(
        "the shipped model, before all steps",
        (places[-1], start),
        (0, 4),
        textcoords="offset points",
        ha="right",
        color=figures.GREY,
        fontsize=9,
    )
    ax.set_xticks(places, [name.split("_", 1)[-1] for name in steps[0]])
    ax.set(ylabel="utility, held-out prompts")
    figures.legend_beside(ax, title="rewards come from")
    return fig

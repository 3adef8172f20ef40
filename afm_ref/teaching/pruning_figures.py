"""Chapter 2's figures of pruning and distillation: what soft masks look like, and what the recorded students reached.

A curve is {"steps": [...], "all": [...], "english": [...], "accuracy": [...]}: held-out bits per byte and the share of
tokens guessed right after so many steps, as experiments/pruning.py records it.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ..evaluation import mean_interval
from ..pretraining.pruning.top_k import soft_top_k
from . import figures
from .post_training_figures import MARKERS

NAMES = {
    "scratch": "from scratch",
    "pruned": "pruned start",
    "pruned_distilled": "pruned start, distilled",
    "scratch_distilled": "from scratch, distilled",
    "sliced": "sliced by activation, no masks learnt",
}
MEASURES = {
    "all": "held-out bits per byte",
    "english": "bits per byte of held-out English",
    "accuracy": "held-out tokens guessed right",
}


def masks(scores, k: int, eps_values: Sequence[float]):
    """Return a figure: the soft top-k weight of every score, largest score first, one line for each eps.

    Source: as for `top_k.soft_top_k` [ours].
    Test: tests/teaching/test_pruning_figures.py::test_masks_are_those_of_the_scores
    """
    ordered = np.sort(np.asarray(scores, np.float64))[::-1]
    rank = np.arange(1, len(ordered) + 1)
    fig, ax = figures.subplots(figsize=(7.6, 3.6))
    ax.axvline(k + 0.5, color=figures.GREY, ls=":", lw=1.2)
    for eps, color, marker in zip(eps_values, figures.CYCLE, MARKERS, strict=False):
        weights = soft_top_k(ordered, k, float(eps))
        every = max(1, len(rank) // 12)
        ax.plot(rank, weights, f"{marker}-", color=color, ms=5, lw=1.6, markevery=every, label=f"eps = {eps:g}")
    ax.set(xlabel="channel, largest score first", ylabel="mask $\\lambda$", ylim=(-0.03, 1.05))
    ax.set_title(f"k = {k} of {len(ordered)}: each line sums to {k}", fontsize=11)
    ax.legend(fontsize=9)
    return fig


def arms(curves: Mapping[str, Sequence[Mapping]], levels: Mapping[str, float] | None = None, measure: str = "all"):
    """Return a figure: one of MEASURES against the student's steps, a line for each arm, 95% t-intervals over seeds.

    curves: {arm: [curve of each seed]}, all at the same steps. levels: {name: value}, drawn as dashed lines.

    Raises ValueError for no curves, more arms than can be told apart, and seeds at different steps.

    Source: none [ours].
    Test: tests/teaching/test_pruning_figures.py::test_arms_are_means_with_intervals
    """
    if not 0 < len(curves) <= len(figures.CYCLE):
        raise ValueError(f"give 1 to {len(figures.CYCLE)} arms, which can be told apart; got {list(curves)}")
    fig, ax = figures.subplots(figsize=(8.4, 4.2))
    for (arm, runs), color, marker in zip(curves.items(), figures.CYCLE, MARKERS, strict=False):
        if any(run["steps"] != runs[0]["steps"] for run in runs):
            raise ValueError(f"{arm}: seeds were measured at different steps: {[run['steps'] for run in runs]}")
        values = np.array([run[measure] for run in runs])
        ax.plot(runs[0]["steps"], values.mean(0), f"{marker}-", color=color, ms=5, label=NAMES.get(arm, arm))
        if len(values) > 1:
            _, low, high = np.transpose([mean_interval(of_seeds) for of_seeds in values.T])
            ax.fill_between(runs[0]["steps"], low, high, color=color, alpha=0.15, lw=0, antialiased=False)
    for (name, level), style in zip((levels or {}).items(), ("--", ":", "-."), strict=False):
        ax.axhline(level, color=figures.GREY, ls=style, lw=1.4, label=name)
    ax.set(xlabel="student's steps", ylabel=MEASURES[measure])
    if measure != "accuracy":  # the start from scratch is far above all else
        shown = [value for runs in curves.values() for run in runs for value in run[measure][1:]]
        ax.set_ylim(min(shown + list((levels or {}).values())) - 0.1, max(shown) + 0.2)
    ax.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return fig


def differences(pairs: Mapping[str, Sequence[float]], measure: str = "all"):
    """Return a figure: paired differences in a measure, a row each: every seed, the mean and its 95% t-interval.

    pairs: {label: [difference of each seed]}. Raises ValueError for fewer than two seeds.

    Source: none [ours].
    Test: tests/teaching/test_pruning_figures.py::test_differences_show_seeds_and_intervals
    """
    fig, ax = figures.subplots(figsize=(8.4, 1.2 + 0.5 * len(pairs)))
    ax.axvline(0, color=figures.GREY, ls=":", lw=1.4)
    for row, values in enumerate(pairs.values()):
        mean, low, high = mean_interval(values)
        ax.plot([low, high], [row, row], "-", color=figures.BLUE, lw=2)
        ax.plot(list(values), [row] * len(values), "|", color=figures.ORANGE, ms=11, mew=2)
        ax.plot([mean], [row], "o", color=figures.BLUE, ms=7)
    ax.set(yticks=range(len(pairs)), ylim=(len(pairs) - 0.5, -0.5), xlabel=f"difference: {MEASURES[measure]}")
    ax.set_yticklabels(list(pairs))
    return fig

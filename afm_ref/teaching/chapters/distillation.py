"""What chapter 5 draws of pruning and distillation: soft masks, and recorded students.

A curve is {"steps": [...], "all": [...], "english": [...], "accuracy": [...]}: held-out
bits per byte and the share of tokens guessed right after so many steps, as
experiments/pruning.py records it.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ...evaluation import mean_interval
from ...pretraining.pruning.top_k import coordinate_descent, soft_top_k, solve
from .. import widgets
from ..figures import (
    BESIDE,
    BLACK,
    BLUE,
    DOTTED,
    GREY,
    ORANGE,
    error_bars,
    finish,
    mean_line,
    name_rows,
    styled,
    subplots,
)

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
SCORES = np.array([2.0, 1.6, 1.5, 1.1, 0.9, 0.6, 0.5, 0.1, -0.3, -1.0])  # of the control


def masks_by_rank(scores, k: int, eps_values: Sequence):
    """Draw the soft top-k weight of every score, largest first, a line for each eps."""
    ordered = np.sort(np.asarray(scores, np.float64))[::-1]
    rank = np.arange(1, len(ordered) + 1)
    fig, ax = subplots(figsize=(7.6, 3.6))
    ax.axvline(k + 0.5, **DOTTED)
    every = max(1, len(rank) // 12)
    masks = {f"eps = {eps:g}": soft_top_k(ordered, k, float(eps)) for eps in eps_values}
    for label, mask, style in styled(masks):
        ax.plot(rank, mask, ms=5, lw=1.6, markevery=every, label=label, **style)
    ax.set(ylim=(-0.03, 1.05), title=f"k = {k} of {len(ordered)}: each line sums to {k}")
    finish(ax, "channel, largest score first", "mask $\\lambda$")
    return fig


def arms(
    curves: Mapping,
    levels: Mapping | None = None,
    measure: str = "all",
):
    """Draw one of MEASURES against the student's steps, 95% t-intervals over seeds.

    curves: {arm: [curve of each seed]}, all at the same steps. levels: {name: value},
    dashed lines.
    """
    levels, seen = levels or {}, []
    fig, ax = subplots(figsize=(8.4, 4.2))
    for arm, runs, style in styled(curves):
        steps, values = ([run[what] for run in runs] for what in ("steps", measure))
        if any(of_seed != steps[0] for of_seed in steps):
            raise ValueError(f"{arm}: seeds were measured at different steps: {steps}")
        mean_line(ax, steps[0], values, label=NAMES.get(arm, arm), **style)
        seen += values
    for (name, level), dashes in zip(levels.items(), ("--", ":", "-."), strict=False):
        ax.axhline(level, color=GREY, ls=dashes, lw=1.4, label=name)
    finish(ax, "student's steps", MEASURES[measure], **BESIDE)
    if measure != "accuracy":  # the start from scratch is far above all else
        later = np.array(seen)[:, 1:]
        ax.set_ylim(min([later.min(), *levels.values()]) - 0.1, later.max() + 0.2)
    return fig


def paired(pairs: Mapping, measure: str = "all"):
    """Draw paired differences in a measure: every seed, the mean and its 95% t-interval.

    pairs: {label: [difference of each seed]}, at least two seeds.
    """
    fig, ax = subplots(figsize=(8.4, 1.2 + 0.5 * len(pairs)))
    ax.axvline(0, **DOTTED)
    means = [mean_interval(values) for values in pairs.values()]
    at = range(len(pairs))
    error_bars(ax, at, means, "o", across=True, color=BLUE, ms=7, capsize=0)
    for row, values in enumerate(pairs.values()):
        ax.plot(values, [row] * len(values), "|", color=ORANGE, ms=11, mew=2)
    name_rows(ax, pairs)
    ax.set(xlabel=f"difference: {MEASURES[measure]}")
    return fig


def soft_weights(eps: float, k: int):
    """Draw scores with the level -a above which a channel is clipped, and the weights.

    The title names how many are clipped, and what sum twenty steps of coordinate descent
    would reach.
    """
    clipped, a = solve(SCORES, k, eps)
    weights, truncated = (way(SCORES, k, eps) for way in (soft_top_k, coordinate_descent))
    channels = np.arange(1, len(SCORES) + 1)
    colors = [ORANGE if c else BLUE for c in clipped]
    fig, (left, right) = subplots(1, 2, figsize=(9.6, 3.4))
    left.bar(channels, SCORES, color=colors)
    left.axhline(-a, color=BLACK, ls="--", lw=1.4, label="-a")
    left.set(xlabel="channel", ylabel="score s", xticks=channels, ylim=(-1.6, 3.2))
    left.set_title(f"{clipped.sum()} clipped (orange), a = {a:.2f}")
    left.legend(fontsize=9)
    right.bar(channels, weights, color=colors)
    right.set(xlabel="channel", ylabel="mask $\\lambda$", xticks=channels, ylim=(0, 1.08))
    right.set_title(f"sum {weights.sum():.2f}; truncated iteration {truncated.sum():.2f}")
    return fig


def soft_top_k_explorer(alt: str) -> None:
    """Display controls for eps and k above the figure of `soft_weights`."""
    widgets.explore(
        soft_weights,
        alt,
        eps=widgets.stops("eps", [0.02, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0], 0.3),
        k=widgets.slider("k", 1, len(SCORES), 4),
    )

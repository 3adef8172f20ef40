"""What chapter 2 draws of pruning and distillation: soft masks, and recorded students.

A curve is {"steps": [...], "all": [...], "english": [...], "accuracy": [...]}: held-out
bits per byte and the share of tokens guessed right after so many steps, as
experiments/pruning.py records it.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ...evaluation import mean_interval
from ...pretraining.pruning.top_k import coordinate_descent, soft_top_k, solve
from .. import figures, widgets

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


def masks_by_rank(scores, k: int, eps_values: Sequence[float]):
    """Draw the soft top-k weight of every score, largest first, a line for each eps."""
    ordered = np.sort(np.asarray(scores, np.float64))[::-1]
    rank = np.arange(1, len(ordered) + 1)
    fig, ax = figures.subplots(figsize=(7.6, 3.6))
    ax.axvline(k + 0.5, color=figures.GREY, ls=":", lw=1.2)
    for eps, (color, marker) in zip(eps_values, figures.styles(eps_values), strict=True):
        weights = soft_top_k(ordered, k, float(eps))
        every = max(1, len(rank) // 12)
        ax.plot(
            rank,
            weights,
            f"{marker}-",
            color=color,
            ms=5,
            lw=1.6,
            markevery=every,
            label=f"eps = {eps:g}",
        )
    ax.set(
        xlabel="channel, largest score first", ylabel="mask $\\lambda$", ylim=(-0.03, 1.05)
    )
    ax.set_title(f"k = {k} of {len(ordered)}: each line sums to {k}")
    ax.legend(fontsize=9)
    return fig


def arms(
    curves: Mapping[str, Sequence[Mapping]],
    levels: Mapping[str, float] | None = None,
    measure: str = "all",
):
    """Draw one of MEASURES against the student's steps, 95% t-intervals over seeds.

    curves: {arm: [curve of each seed]}, all at the same steps. levels: {name: value},
    dashed lines.
    """
    levels = levels or {}
    fig, ax = figures.subplots(figsize=(8.4, 4.2))
    for (arm, runs), (color, marker) in zip(
        curves.items(), figures.styles(curves), strict=True
    ):
        steps = runs[0]["steps"]
        if any(run["steps"] != steps for run in runs):
            raise ValueError(
                f"{arm}: seeds were measured at different steps: {[run['steps'] for run in runs]}"
            )
        values = [run[measure] for run in runs]
        figures.mean_line(
            ax, steps, values, color=color, marker=marker, label=NAMES.get(arm, arm)
        )
    for (name, level), style in zip(levels.items(), ("--", ":", "-."), strict=False):
        ax.axhline(level, color=figures.GREY, ls=style, lw=1.4, label=name)
    ax.set(xlabel="student's steps", ylabel=MEASURES[measure])
    if measure != "accuracy":  # the start from scratch is far above all else
        shown = [
            value for runs in curves.values() for run in runs for value in run[measure][1:]
        ]
        ax.set_ylim(min([*shown, *levels.values()]) - 0.1, max(shown) + 0.2)
    figures.legend_beside(ax)
    return fig


def paired(pairs: Mapping[str, Sequence[float]], measure: str = "all"):
    """Draw paired differences in a measure: every seed, the mean and its 95% t-interval.

    pairs: {label: [difference of each seed]}, at least two seeds.
    """
    fig, ax = figures.subplots(figsize=(8.4, 1.2 + 0.5 * len(pairs)))
    ax.axvline(0, color=figures.GREY, ls=":", lw=1.4)
    intervals = [mean_interval(values) for values in pairs.values()]
    figures.error_bars(
        ax,
        range(len(pairs)),
        intervals,
        "o",
        across=True,
        color=figures.BLUE,
        ms=7,
        capsize=0,
    )
    for row, values in enumerate(pairs.values()):
        ax.plot(list(values), [row] * len(values), "|", color=figures.ORANGE, ms=11, mew=2)
    ax.set(
        yticks=range(len(pairs)),
        ylim=(len(pairs) - 0.5, -0.5),
        xlabel=f"difference: {MEASURES[measure]}",
    )
    ax.set_yticklabels(list(pairs))
    return fig


def soft_weights(eps: float, k: int):
    """Draw scores with the level -a above which a channel is clipped, and the weights.

    The title names how many are clipped, and what sum twenty steps of coordinate descent
    would reach.
    """
    clipped, a = solve(SCORES, k, eps)
    weights, truncated = soft_top_k(SCORES, k, eps), coordinate_descent(SCORES, k, eps)
    channels = np.arange(1, len(SCORES) + 1)
    colors = [figures.ORANGE if c else figures.BLUE for c in clipped]
    fig, (left, right) = figures.subplots(1, 2, figsize=(9.6, 3.4))
    left.bar(channels, SCORES, color=colors)
    left.axhline(-a, color=figures.BLACK, ls="--", lw=1.4, label="-a")
    left.set(xlabel="channel", ylabel="score s", xticks=channels, ylim=(-1.6, 3.2))
    left.set_title(f"{clipped.sum()} clipped (orange), a = {a:.2f}")
    left.legend(fontsize=9)
    right.bar(channels, weights, color=colors)
    right.set(xlabel="channel", ylabel="mask $\\lambda$", xticks=channels, ylim=(0, 1.08))
    right.set_title(f"sum {weights.sum():.2f}; truncated iteration {truncated.sum():.2f}")
    return fig


def soft_top_k_explorer(alt: str, eps: float = 0.3, k: int = 4) -> None:
    """Display controls for eps and k above the figure of `soft_weights`."""
    widgets.explore(
        soft_weights,
        alt,
        eps=widgets.stops("eps", [0.02, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0], eps),
        k=widgets.slider("k", 1, len(SCORES), k),
    )

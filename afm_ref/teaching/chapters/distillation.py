"""What chapter 5 draws of pruning and distillation: soft masks, slices, recorded students.

A curve is {"steps": [...], "all": [...], "accuracy": [...]}: held-out bits per byte and the
share of tokens guessed right after so many steps, as experiments/pruning.py records it.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ...evaluation import mean_interval
from ...pretraining.pruning.top_k import soft_top_k, solve
from .. import widgets
from ..figures import (
    BLACK,
    BLUE,
    CYCLE,
    DOTTED,
    GREY,
    ORANGE,
    PALE,
    bare,
    error_bars,
    finish,
    mean_line,
    name_rows,
    styled,
    subplots,
)

MEASURES = {"all": "held-out bits per byte", "accuracy": "held-out tokens guessed right"}
SCORES = np.array([2.0, 1.6, 1.5, 1.1, 0.9, 0.6, 0.5, 0.1, -0.3, -1.0])  # of the control


def masks_by_rank(scores, k: int, softness: Sequence):
    """Draw the soft top-k mask of every score, largest first, a line for each softness."""
    ordered = np.sort(np.asarray(scores, np.float64))[::-1]
    rank = np.arange(1, len(ordered) + 1)
    fig, ax = subplots(figsize=(7.6, 3.6))
    ax.axvline(k + 0.5, label=rf"$F_\mathrm{{kept}}$ = {k}", **DOTTED)
    every = max(1, len(rank) // 12)
    masks = {f"$\\nu$ = {nu:g}": soft_top_k(ordered, k, float(nu)) for nu in softness}
    for label, mask, style in styled(masks):
        ax.plot(rank, mask, ms=5, lw=1.6, markevery=every, label=label, **style)
    ax.set(ylim=(-0.03, 1.05))
    finish(ax, "channel, largest score first", "mask $m$")
    return fig


def slicing(D: int = 4, F: int = 8, kept: Sequence[int] = (1, 4, 6)):
    """Draw the three matrices of a feed-forward layer and, below, what slicing leaves.

    Each kept channel has a colour of its own: a row of W_gate and W_up, a column of W_down.
    """
    from matplotlib.colors import to_rgb

    colors = np.full((F, 3), to_rgb(PALE))
    colors[list(kept)] = [to_rgb(color) for _, color in zip(kept, CYCLE, strict=False)]
    fig, axes = subplots(2, 3, figsize=(8.4, 5.2), height_ratios=[F, D])
    for column, name in zip(axes.T, ("gate", "up", "down")):
        for ax, channels in zip(column, (colors, colors[list(kept)])):
            rows = np.repeat(channels[:, None], D, axis=1)  # [channels, D, colour]
            ax.imshow(rows.swapaxes(0, 1) if name == "down" else rows)
            shape = (D, len(rows)) if name == "down" else (len(rows), D)
            label = rf"$\mathbf{{W}}_\mathrm{{{name}}}$: {shape[0]} x {shape[1]}"
            bare(ax).set_title(label, loc="left")
            ax.set(xlim=(-0.5, F - 0.5), ylim=((F if ax in axes[0] else D) - 0.5, -0.5))
            for row in range(1, shape[0]):
                ax.axhline(row - 0.5, color="white", lw=1.5)
            for place in range(1, shape[1]):
                ax.axvline(place - 0.5, color="white", lw=1.5)
    return fig


def accuracies(curves: Mapping, parent: float):
    """Draw the share of tokens guessed right against the student's steps, with 95%
    t-intervals over seeds, and the parent's level.

    curves: {label: [curve of each seed]}, all at the same steps.
    """
    fig, ax = subplots(figsize=(8.0, 3.6))
    for label, runs, style in styled(curves):
        steps, values = ([run[what] for run in runs] for what in ("steps", "accuracy"))
        if any(of_seed != steps[0] for of_seed in steps):
            raise ValueError(f"{label}: seeds were measured at different steps: {steps}")
        mean_line(ax, steps[0], values, label=label, **style)
    ax.axhline(parent, color=GREY, ls="--", lw=1.4, label="the parent")
    finish(
        ax,
        "student's steps",
        MEASURES["accuracy"],
        title="means, 95% bands",
        title_fontsize=9,
    )
    return fig


def paired(pairs: Mapping, measure: str = "all"):
    """Draw paired differences in a measure: every seed, the mean and its 95% t-interval.

    pairs: {label: [difference of each seed]}, at least two seeds.
    """
    fig, ax = subplots(figsize=(8.4, 1.2 + 0.5 * len(pairs)))
    ax.axvline(0, **DOTTED)
    means = [mean_interval(values) for values in pairs.values()]
    at = range(len(pairs))
    line = dict(color=BLUE, ms=7, capsize=0, label="mean, 95% interval")
    error_bars(ax, at, means, "o", across=True, **line)
    for row, values in enumerate(pairs.values()):
        label = "_nolegend_" if row else "one seed"
        ax.plot(values, [row] * len(values), "|", color=ORANGE, ms=11, mew=2, label=label)
    name_rows(ax, pairs)
    ax.locator_params(axis="x", nbins=6)
    finish(ax, f"difference: {MEASURES[measure]}", "", loc="lower right")
    return fig


def soft_weights(eps: float, k: int):
    """Draw scores with the cut above which a channel is kept whole, and the mask."""
    clipped, a = solve(SCORES, k, eps)
    mask = soft_top_k(SCORES, k, eps)
    channels = np.arange(1, len(SCORES) + 1)
    colors = [ORANGE if c else BLUE for c in clipped]
    fig, (left, right) = subplots(1, 2, figsize=(9.6, 3.4))
    left.bar(channels, SCORES, color=colors)
    left.axhline(-a, color=BLACK, ls="--", lw=1.4, label="cut $\\kappa$")
    left.set(xlabel="channel", ylabel="score s", xticks=channels, ylim=(-1.6, 3.2))
    left.set_title(f"{clipped.sum()} clipped (orange), cut {-a:.2f}")
    left.legend(fontsize=9)
    right.bar(channels, mask, color=colors)
    right.set(xlabel="channel", ylabel="mask $m$", xticks=channels, ylim=(0, 1.08))
    right.set_title(f"sum {mask.sum():.2f}")
    return fig


def soft_top_k_explorer(alt: str) -> None:
    """Display controls for softness and channels kept above the figure of `soft_weights`."""
    widgets.explore(
        soft_weights,
        alt,
        eps=widgets.stops("softness", [0.02, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0], 0.3),
        k=widgets.slider("kept", 1, len(SCORES), 4),
    )

"""What chapter 2 draws of stages: schedules, wavelengths, loss by position, mixtures."""

import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from ...data.mixing import checked_shares, part_order
from ...ops import rope_frequencies
from .. import figures, widgets

LINES = ("-", "--", "-.", ":")


def losses_by_stage(histories: Mapping[str, object]):
    """Draw the loss of every step, stage after stage, with the stages' boundaries.

    histories: {stage: History}, as `stages.run` returns them.
    """
    fig, ax = figures.subplots(figsize=(8.0, 3.4))
    start = 0
    for (name, history), (color, _) in zip(
        histories.items(), figures.styles(histories), strict=True
    ):
        steps = start + np.arange(1, len(history) + 1)
        ax.plot(steps, history.loss, color=color, lw=1.3, label=name)
        start += len(history)
        ax.axvline(start, color=figures.GREY, ls=":", lw=1)
    ax.set(xlabel="step", ylabel="loss, nats a token")
    ax.legend(fontsize=9)
    return fig


def rates_and_windows(stages: Sequence):
    """Draw stages at their true scale: learning rate and window against tokens.

    Between two points of the curve lies 1/400 of a stage; warm-up is drawn at its true
    width, a hair's.
    """
    fig, (above, below) = figures.subplots(
        2, 1, figsize=(8.6, 4.4), sharex=True, height_ratios=[2, 1]
    )
    start = 0.0
    for stage, (color, _) in zip(stages, figures.styles(stages), strict=True):
        steps = np.unique(
            np.concatenate([np.linspace(1, stage.steps, 400), [max(1, stage.warmup_steps)]])
        )
        tokens = (start + steps * stage.batch_size * stage.seq_len) / 1e12
        rate = stage.learning_rate * np.asarray(jax.jit(stage.schedule)(steps))
        above.plot(tokens, rate, color=color, label=stage.name)
        end = start + stage.tokens
        below.fill_between([start / 1e12, end / 1e12], stage.seq_len, color=color, lw=0)
        start = end
    above.set(yscale="log", ylabel="learning rate")
    above.legend(fontsize=9)
    below.set(xlabel="tokens, trillions", ylabel="window, tokens")
    return fig


def wavelengths(head_dim: int, bases: Mapping[str, float], windows: Mapping[str, int]):
    """Draw how many tokens each of RoPE's pairs takes for a full turn, by base.

        wavelength_i = 2 pi base^(2 i / H)

    bases: {label: base}; windows: {label: tokens}, a line each. Pairs above it never
    complete a turn.

    Source: TR24 section 3.2 (the bases) [confirmed]; as for `ops.rope_frequencies`
        [standard].
    Test: tests/teaching/chapters/test_pretraining.py::test_wavelengths_by_hand
    """
    fig, ax = figures.subplots(figsize=(8.0, 4.0))
    for (label, base), style in zip(bases.items(), _styles(bases), strict=True):
        ax.plot(
            2 * math.pi / rope_frequencies(head_dim, base), ms=3.5, label=label, **style
        )
    for (label, window), color in zip(
        windows.items(), (figures.GREY, figures.BLACK, figures.RED)
    ):
        ax.axhline(window, color=color, ls="--", lw=1.2)
        ax.annotate(
            label,
            (0, window),
            xytext=(2, 3),
            textcoords="offset points",
            fontsize=9,
            color=color,
        )
    ax.set(yscale="log", xlabel="pair of channels", ylabel="wavelength, tokens")
    ax.legend(fontsize=9)
    return fig


def by_position(
    runs: Mapping[str, Sequence], edges: Sequence[int], window: int, baseline: str
):
    """Draw nats against position, and below the paired difference to `baseline`.

    runs: {label: [nats of each bin, of each seed]}; edges: of the bins. A line marks the
    trained window. The bands are 95% t-intervals over seeds; a single seed has none.
    """
    tables = {label: _table(label, seeds, len(edges) - 1) for label, seeds in runs.items()}
    fig, (above, below) = figures.subplots(2, 1, figsize=(8.0, 4.8), sharex=True)
    middle = (np.asarray(edges[:-1]) + np.asarray(edges[1:])) / 2
    for (label, table), style in zip(tables.items(), _styles(tables), strict=True):
        above.plot(middle, table.mean(axis=0), ms=4, lw=1.5, label=label, **style)
        figures.mean_line(below, middle, table - tables[baseline], ms=4, lw=1.5, **style)
    for ax in (above, below):
        ax.axvline(window, color=figures.GREY, ls=":", lw=1.2, label="trained window")
    above.set(ylabel="nats a token")
    below.set(xlabel="position in the document, tokens", ylabel=f"nats, minus {baseline}")
    figures.legend_beside(above)
    return fig


def mixture_sweep(shares: Sequence[float], bits: Mapping[str, Sequence]):
    """Draw held-out bits per byte of each part against the share of code trained on.

    bits: {part: [seeds, shares]}. Bands are 95% t-intervals over seeds.
    """
    fig, ax = figures.subplots(figsize=(7.2, 3.6))
    for (part, seeds), style in zip(bits.items(), _styles(bits), strict=True):
        figures.mean_line(
            ax, shares, _table(part, seeds, len(shares)), label=f"{part}, held out", **style
        )
    ax.set(
        xlabel="share of code in the mixture", ylabel="bits per byte", xticks=list(shares)
    )
    ax.legend(fontsize=9)
    return fig


def batch_of_mixture(
    share: float,
    shares: Sequence[float],
    bits: Mapping[str, Sequence],
    rows: int = 16,
    batches=8,
):
    """Draw which rows of the first batches are code, and the recorded runs beside it.

    Left, rows of English and code as `mixing.part_order` deals them out. Right,
    `mixture_sweep`, the recorded share nearest to this one marked: nothing is interpolated.
    """
    used = checked_shares({"english": 1 - share, "code": share}, {"english": 1, "code": 1})
    names = list(used)
    part = part_order(tuple(used.values()), rows * batches)[0][: rows * batches]
    is_code = np.array([names[k] == "code" for k in part]).reshape(batches, rows)
    fig = mixture_sweep(shares, bits)
    fig.set_size_inches(11, 3.6)
    right = fig.axes[0]
    grid = fig.add_gridspec(1, 2, width_ratios=[1, 1.3])
    right.set_subplotspec(grid[1])
    left = fig.add_subplot(grid[0])
    left.imshow(is_code, cmap=figures.SEQUENTIAL, vmin=0, vmax=1, aspect="auto")
    left.set(xlabel="row of the batch", ylabel="batch (step)")
    left.set_title(f"{is_code.mean():.0%} of {rows * batches} rows are code (yellow)")
    nearest = min(shares, key=lambda s: abs(s - share))
    right.axvline(nearest, color=figures.RED, lw=1.5)
    right.set_title(f"nearest recorded share: {nearest:g}")
    return fig


def mixture_explorer(
    alt: str, shares: Sequence[float], bits: Mapping[str, Sequence], share: float = 0.25
) -> None:
    """Display a control for the share of code above the figure of `batch_of_mixture`."""
    tenths = sorted({x / 10 for x in range(11)} | {share})
    widgets.explore(
        lambda share: batch_of_mixture(share, shares, bits),
        alt,
        share=widgets.stops("share of code", tenths, share),
    )


def _styles(names):
    """Return what tells lines with many points apart: colour, marker and dashes."""
    return [
        dict(color=color, marker=marker, ls=LINES[i % len(LINES)])
        for i, (color, marker) in enumerate(figures.styles(names))
    ]


def _table(label, seeds, columns):
    table = np.asarray(seeds, np.float64)
    if table.ndim != 2 or table.shape[1] != columns:
        raise ValueError(
            f"{label}: expected a list of {columns} numbers for each seed, got shape {table.shape}"
        )
    return table

"""What chapter 4 draws of stages: schedules, wavelengths, loss by position, mixtures."""

import itertools
import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from ...data.mixing import checked_shares, part_order
from ...evaluation import mean_interval
from ...ops import rope_frequencies
from .. import widgets
from ..figures import (
    BLACK,
    DOTTED,
    GREY,
    RED,
    SEQUENTIAL,
    beside,
    finish,
    mean_line,
    styled,
    subplots,
)

LINES = ("-", "--", "-.", ":")


def losses_by_stage(histories: Mapping, held_out: str = "held_out"):
    """Draw the loss of every step, stage after stage, and what `evaluate` found under that
    name as black dots.

    histories: {stage: History}, as `stages.run` returns them.
    """
    fig, ax = subplots(figsize=(8.0, 3.4))
    start, dots = 0, []
    for name, history, style in styled(histories):
        steps = start + np.arange(1, len(history) + 1)
        ax.plot(steps, history.loss, color=style["color"], lw=1.3, label=name)
        dots += [(start + at, value) for at, value in zip(*history.evaluation(held_out))]
        start += len(history)
        ax.axvline(start, **DOTTED)
    if dots:
        ax.plot(*zip(*dots), "o", color=BLACK, ms=7, label="the same held-out English")
    finish(ax, "step", "loss, nats a token")
    return fig


def rates_and_windows(stages: Sequence):
    """Draw stages at their true scale: learning rate and window against tokens.

    Between two points of the curve lies 1/400 of a stage; warm-up is drawn at its true
    width, a hair's.
    """
    fig, (above, below) = subplots(
        2, 1, figsize=(8.6, 4.4), sharex=True, height_ratios=[2, 1]
    )
    start = 0.0
    for name, stage, style in styled({stage.name: stage for stage in stages}):
        drawn = [*np.linspace(1, stage.steps, 400), max(1, stage.warmup_steps)]
        steps, color = np.unique(drawn), style["color"]
        tokens = (start + steps * stage.batch_size * stage.seq_len) / 1e12
        rate = stage.learning_rate * np.asarray(jax.jit(stage.schedule)(steps))
        above.plot(tokens, rate, color=color, label=name)
        end = start + stage.tokens
        below.fill_between([start / 1e12, end / 1e12], stage.seq_len, color=color, lw=0)
        middle = (start + end) / 2e12
        below.text(middle, stage.seq_len, f"{stage.seq_len:,}", ha="center", va="bottom")
        start = end
    above.set(yscale="log", ylabel="learning rate")
    above.legend(fontsize=9)
    below.set(xlabel="tokens, trillions", ylabel="window, tokens", ylim=(0, 43_000))
    return fig


def wavelengths(head_dim: int, bases: Mapping, windows: Mapping):
    """Draw how many tokens each of RoPE's pairs takes for a full turn, by base.

        wavelength_i = 2 pi base^(2 i / H)

    bases: {label: base}; windows: {label: tokens}, a line each. Pairs above it never
    complete a turn.

    Source: TR24 section 3.2 (the bases) [confirmed]; as for `ops.rope_frequencies`
        [standard].
    Test: tests/teaching/chapters/test_pretraining.py::test_wavelengths_by_hand
    """
    fig, ax = subplots(figsize=(8.0, 4.0))
    for label, base, style in _styled(bases):
        turn = 2 * math.pi / rope_frequencies(head_dim, base)
        ax.plot(turn, ms=3.5, label=label, **style)
    for (label, window), color in zip(windows.items(), (GREY, BLACK, RED)):
        ax.axhline(window, color=color, ls="--", lw=1.2)
        ax.annotate(
            label, (0, window), (2, 3), textcoords="offset points", fontsize=9, color=color
        )
    ax.set_yscale("log")
    finish(ax, "pair of channels", "wavelength, tokens")
    return fig


def by_position(
    curves: Mapping, edges: Sequence, windows: Mapping, differences: Mapping, reference: str
):
    """Draw nats against position, and beside it differences to `reference` by region.

    curves: {label: nats of each bin}; edges: of the bins; windows: {label: tokens}, a line each.
    differences: {label: {region: [difference of each seed]}}: means with 95% t-intervals.
    """
    fig, (left, right) = subplots(1, 2, figsize=(11, 3.9), width_ratios=[1.5, 1])
    middle = np.asarray(edges[:-1]) + np.diff(edges) / 2
    for label, curve, style in _styled(curves):
        left.plot(middle, curve, label=label, ms=4, lw=1.6, **style)
    for label, window in windows.items():
        left.axvline(window, ymax=0.68, **DOTTED)
        left.annotate(
            label,
            (window, 0.02),
            (3, 0),
            ("data", "axes fraction"),
            "offset points",
            fontsize=9,
        )
    finish(left, "position in the document, tokens", "nats a token")
    regions = list(next(iter(differences.values())))
    at = np.arange(len(regions))
    found = {
        label: (at, [mean_interval(seeds[region]) for region in regions])
        for label, seeds in differences.items()
    }
    beside(right, found, 0.1, ls="", ms=6)
    right.axhline(0, **DOTTED)
    right.set_xticks(at, regions)
    right.set(xlim=(-0.5, len(regions) - 0.5))
    right.margins(y=0.1)
    seeds = len(next(iter(next(iter(differences.values())).values())))
    right.set_title(f"{seeds} seeds, 95% intervals", fontsize=10)
    finish(right, "positions", f"nats, minus {reference}")
    return fig


def batch_of_mixture(
    share: float,
    shares: Sequence,
    bits: Mapping,
    rows: int = 16,
    batches=8,
):
    """Draw which rows of the first batches are code, and the recorded runs beside it.

    Left, rows of English and code as `mixing.part_order` deals them out. Right, held-out
    bits per byte of each part against the share of code trained on, with 95% t-intervals
    over seeds, the recorded share nearest to this one marked: nothing is interpolated.
    bits: {part: [seeds, shares]}.
    """
    used = checked_shares({"english": 1 - share, "code": share}, {"english": 1, "code": 1})
    order = part_order(tuple(used.values()), rows * batches)[0][: rows * batches]
    is_code = np.array(list(used))[order].reshape(batches, rows) == "code"
    fig, (left, right) = subplots(1, 2, figsize=(11, 3.6), width_ratios=[1, 1.3])
    left.imshow(is_code, cmap=SEQUENTIAL, vmin=0, vmax=1, aspect="auto")
    left.set(xlabel="row of the batch", ylabel="batch (step)")
    left.set_title(f"{is_code.mean():.0%} of {rows * batches} rows are code (yellow)")
    for part, seeds, style in _styled(bits):
        table = _table(part, seeds, len(shares))
        mean_line(right, shares, table, label=f"{part}, held out", **style)
    right.set_xticks(shares)
    finish(right, "share of code in the mixture", "bits per byte")
    nearest = min(shares, key=lambda s: abs(s - share))
    right.axvline(nearest, color=RED, lw=1.5)
    right.set_title(f"nearest recorded share: {nearest:g}")
    return fig


def mixture_explorer(alt: str, shares: Sequence, bits: Mapping, share: float) -> None:
    """Display a control for the share of code above the figure of `batch_of_mixture`."""
    stops = sorted({share, *(x / 10 for x in range(11))})
    widgets.explore(
        lambda share: batch_of_mixture(share, shares, bits),
        alt,
        share=widgets.stops("share of code", stops, share),
    )


def _styled(groups):
    """Yield what `styled` does, with dashes too: for lines with many points."""
    for (name, value, style), dashes in zip(styled(groups), itertools.cycle(LINES)):
        yield name, value, style | {"ls": dashes}


def _table(label, seeds, columns):
    table = np.asarray(seeds, np.float64)
    if table.ndim != 2 or table.shape[1] != columns:
        raise ValueError(
            f"{label}: expected a list of {columns} numbers for each seed, got shape {table.shape}"
        )
    return table

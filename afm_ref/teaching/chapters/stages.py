"""Chapter 2's figures of the three stages: schedules, RoPE's wavelengths, loss by position, mixtures; one control."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ...data.mixing import checked_shares, part_order
from ...evaluation import mean_interval
from ...ops import rope_frequencies
from .. import figures, widgets

STYLES = ("o-", "s--", "^-.", "D:", "v-", "P--")


def losses(histories: Mapping[str, object]):
    """Return a figure: the loss of every step, stage after stage, with the stages' boundaries.

    histories: {stage: History}, as `stages.run` returns them.

    Source: none [ours].
    Test: tests/teaching/test_stages_figures.py::test_losses_stand_one_behind_the_other
    """
    if not histories:
        raise ValueError("no histories: give those that stages.run returns")
    fig, ax = figures.subplots(figsize=(8.0, 3.4))
    start = 0
    for (name, history), color in zip(histories.items(), figures.CYCLE):
        steps = start + np.arange(1, len(history) + 1)
        ax.plot(steps, history.loss, color=color, lw=1.3, label=name)
        start += len(history)
        ax.axvline(start, color=figures.GREY, ls=":", lw=1)
    ax.set(xlabel="step", ylabel="loss, nats a token")
    ax.legend(fontsize=9)
    return fig


def schedules(stages: Sequence):
    """Return a figure of stages at their true scale: learning rate above and window below, against tokens.

    Between two points of the curve lies 1/400 of a stage; warm-up is drawn at its true width, a hair's.

    Source: as for the stages given [ours].
    Test: tests/teaching/test_stages_figures.py::test_schedules_are_drawn_to_scale
    """
    fig, (above, below) = figures.subplots(2, 1, figsize=(8.6, 4.4), sharex=True, height_ratios=[2, 1])
    start = 0.0
    for stage, color in zip(stages, figures.CYCLE):
        steps = np.unique(np.concatenate([np.linspace(1, stage.steps, 400), [max(1, stage.warmup_steps)]]))
        tokens = (start + steps * stage.batch_size * stage.seq_len) / 1e12
        rate = stage.learning_rate * np.asarray(stage.schedule(steps))
        above.plot(tokens, rate, color=color, label=stage.name)
        end = start + stage.tokens
        below.fill_between([start / 1e12, end / 1e12], stage.seq_len, color=color, lw=0)
        start = end
    above.set(yscale="log", ylabel="learning rate")
    above.legend(fontsize=9)
    below.set(xlabel="tokens, trillions", ylabel="window, tokens")
    return fig


def wavelengths(head_dim: int, bases: Mapping[str, float], windows: Mapping[str, int]):
    """Return a figure: how many tokens each of RoPE's pairs takes for a full turn, by base, beside the windows.

        wavelength_i = 2 pi base^(2 i / H)

    bases: {label: base}; windows: {label: tokens}, a horizontal line each. Pairs above a line never complete a turn.

    Source: TR24 section 3.2 (the bases) [confirmed]; as for `ops.rope_frequencies` [standard].
    Test: tests/teaching/test_stages_figures.py::test_wavelengths_by_hand
    """
    fig, ax = figures.subplots(figsize=(8.0, 4.0))
    for (label, base), color, style in zip(bases.items(), figures.CYCLE, STYLES):
        ax.plot(2 * math.pi / rope_frequencies(head_dim, base), style, ms=3.5, color=color, label=label)
    for (label, window), color in zip(windows.items(), (figures.GREY, figures.BLACK, figures.RED)):
        ax.axhline(window, color=color, ls="--", lw=1.2)
        ax.annotate(label, (0, window), xytext=(2, 3), textcoords="offset points", fontsize=9, color=color)
    ax.set(yscale="log", xlabel="pair of channels", ylabel="wavelength, tokens")
    ax.legend(fontsize=9)
    return fig


def by_position(runs: Mapping[str, Sequence], edges: Sequence[int], window: int, baseline: str):
    """Return a figure: nats against position above, and below the paired difference to `baseline`, with intervals.

    runs: {label: [nats of each bin, of each seed]}; edges: of the bins. A line marks the trained window. The bands are
    95% t intervals over seeds; a single seed has none.

    Source: none [ours].
    Test: tests/teaching/test_stages_figures.py::test_positions_show_means_and_paired_differences
    """
    tables = {label: _table(label, seeds, len(edges) - 1) for label, seeds in runs.items()}
    if baseline not in tables:
        raise ValueError(f"baseline {baseline!r} is none of {list(tables)}")
    fig, axes = figures.subplots(2, 1, figsize=(8.0, 4.8), sharex=True)
    middle = (np.asarray(edges[:-1]) + np.asarray(edges[1:])) / 2
    for (label, table), color, style in zip(tables.items(), figures.CYCLE, STYLES):
        for ax, values in ((axes[0], table), (axes[1], table - tables[baseline])):
            ax.plot(middle, values.mean(axis=0), style, ms=4, lw=1.5, color=color, label=label)
            if ax is axes[1] and len(values) > 1 and label != baseline:
                _, low, high = np.transpose([mean_interval(column) for column in values.T])
                ax.fill_between(middle, low, high, color=color, alpha=0.15, lw=0)
    for ax in axes:
        ax.axvline(window, color=figures.GREY, ls=":", lw=1.2, label="trained window")
    axes[0].set(ylabel="nats a token")
    axes[1].set(xlabel="position in the document, tokens", ylabel=f"nats, minus {baseline}")
    axes[0].legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return fig


def sweep(shares: Sequence[float], bits: Mapping[str, Sequence]):
    """Return a figure: held-out bits per byte of each part against the share of code that the model was trained on.

    bits: {part: [seeds, shares]}. Bands are 95% t intervals over seeds.

    Source: none [ours].
    Test: tests/teaching/test_stages_figures.py::test_the_sweep_draws_what_it_was_given
    """
    fig, ax = figures.subplots(figsize=(7.2, 3.6))
    for (part, seeds), color, style in zip(bits.items(), figures.CYCLE, STYLES):
        table = _table(part, seeds, len(shares))
        ax.plot(shares, table.mean(axis=0), style, ms=5, color=color, label=f"{part}, held out")
        if len(table) > 1:
            _, low, high = np.transpose([mean_interval(column) for column in table.T])
            ax.fill_between(shares, low, high, color=color, alpha=0.15, lw=0)
    ax.set(xlabel="share of code in the mixture", ylabel="bits per byte", xticks=list(shares))
    ax.legend(fontsize=9)
    return fig


def batch_of_mixture(share: float, shares: Sequence[float], bits: Mapping[str, Sequence], rows: int = 16, batches=8):
    """Return a figure: which rows of the first batches are code, and the recorded runs beside that share.

    Left, the rows of `batches` batches of English and code, as `mixing.part_order` deals them out. Right, the recorded
    bits per byte (see `sweep`), the nearest recorded share marked: nothing is interpolated.

    Source: none [ours].
    Test: tests/teaching/test_stages_figures.py::test_the_mixture_shows_its_rows_and_the_nearest_recording
    """
    used = checked_shares({"english": 1 - share, "code": share}, {"english": 1, "code": 1})
    names = list(used)
    part = part_order(tuple(used.values()), rows * batches)[0][: rows * batches]
    is_code = np.array([names[k] == "code" for k in part]).reshape(batches, rows)
    fig = sweep(shares, bits)
    fig.set_size_inches(11, 3.6)
    right = fig.axes[0]
    grid = fig.add_gridspec(1, 2, width_ratios=[1, 1.3])
    right.set_subplotspec(grid[1])
    left = fig.add_subplot(grid[0])
    left.imshow(is_code, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    left.set(xlabel="row of the batch", ylabel="batch (step)")
    left.set_title(f"{is_code.mean():.0%} of {rows * batches} rows are code (yellow)", fontsize=11)
    nearest = min(shares, key=lambda s: abs(s - share))
    right.axvline(nearest, color=figures.RED, lw=1.5)
    right.set_title(f"nearest recorded share: {nearest:g}", fontsize=11)
    return fig


def mixture_explorer(alt: str, shares: Sequence[float], bits: Mapping[str, Sequence], share: float = 0.25) -> None:
    """Display a control for the share of code above the figure of `batch_of_mixture`."""

    def draw(share):
        return batch_of_mixture(share, shares, bits)

    widgets.explore(
        draw, alt, share=widgets.steps("share of code", sorted({x / 10 for x in range(11)} | {share}), share)
    )


def _table(label, seeds, columns):
    table = np.asarray(seeds, np.float64)
    if table.ndim != 2 or table.shape[1] != columns:
        raise ValueError(f"{label}: expected a list of {columns} numbers for each seed, got shape {table.shape}")
    return table

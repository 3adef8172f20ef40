"""What chapter 3 draws of the optimizer, recorded or computed a moment ago.

A sweep is {width: {rate: [loss of each seed]}}, a loss None where the run diverged.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ...evaluation import Interval, mean_interval
from ...pretraining.mup_check import best_rate
from ..figures import (
    BLUE,
    GREY,
    ORANGE,
    band,
    error_bars,
    finish,
    legend_beside,
    name_rows,
    styled,
    subplots,
)

LINES = {
    "standard": dict(color=ORANGE, marker="o", label="standard parametrisation"),
    "mup_simple": dict(color=BLUE, marker="s", label="muP-simple"),
}
BASE_DIM = 32  # of the recording: at this width both parametrisations are the same


def recorded_sweeps(runs: Mapping) -> dict[str, dict]:
    """Return {name: sweep} of recorded runs "<name>_<width>_<log2 rate>_<seed>"."""
    rows = []
    for key, run in runs.items():
        name, *numbers = key.rsplit("_", 3)
        if name in LINES:
            rows.append((*map(int, numbers), name, run["rate"], run["loss"]))
    sweeps = {name: {} for name in LINES}
    for width, _, _, name, rate, loss in sorted(rows):
        for own in LINES if width == BASE_DIM else (name,):
            sweeps[own].setdefault(width, {}).setdefault(rate, []).append(loss)
    return sweeps


def best_rates(sweep: Mapping) -> dict[int, list[float]]:
    """Return {width: [best rate of each seed]}, by `pretraining.mup_check.best_rate`."""
    return {
        width: [
            best_rate(list(by_rate), losses)
            for losses in zip(*by_rate.values(), strict=True)
        ]
        for width, by_rate in sweep.items()
    }


def shift_per_doubling(sweep: Mapping) -> Interval:
    """Return by how many doublings the best rate moves when the width doubles, over seeds.

    slope of log2 (best rate) against log2 (width), by least squares, for each seed
    """
    best = best_rates(sweep)
    slopes = np.polyfit(np.log2(list(best)), np.log2(list(best.values())), 1)[0]
    return mean_interval(np.atleast_1d(slopes))


def loss_against_rate(sweeps: Mapping):
    """Draw one panel a parametrisation: held-out loss against learning rate.

    A line for each width: means over seeds, bands from the lowest seed to the highest.
    Rates at which a seed diverged are left out.

    Source: learning rates that transfer, as Yang et al. 2022 figure 1 draws it [standard].
    Test: tests/teaching/chapters/test_pretraining.py::test_lines_are_means_of_seeds
    """
    fig, axes = subplots(1, len(sweeps), figsize=(9.6, 3.8), sharey=True, squeeze=False)
    for ax, (name, sweep) in zip(axes[0], sweeps.items()):
        for width, by_rate, style in styled(sweep):
            kept = [rate for rate, losses in by_rate.items() if None not in losses]
            losses = np.array([by_rate[rate] for rate in kept])
            ax.plot(kept, losses.mean(1), ms=5, lw=1.6, label=f"D = {width}", **style)
            band(ax, kept, losses.min(1), losses.max(1), style["color"])
        ax.set_xscale("log", base=2)
        ax.set(title=LINES[name]["label"], xlabel="learning rate")
    axes[0, 0].set(ylabel="held-out loss, nats per token")
    axes[0, -1].legend(fontsize=9)
    return fig


def best_against_width(sweeps: Mapping):
    """Draw the best learning rate against the width, with 95% t-intervals over seeds.

    Dotted: where the standard one would lie if it fell like 1 / width from the narrowest
    on.
    """
    fig, ax = subplots(figsize=(6.4, 3.6))
    for name, sweep in sweeps.items():
        best = best_rates(sweep)
        widths, seeds = np.array(list(best), float), np.log2(list(best.values()))
        rates = 2.0 ** np.array([mean_interval(of_width) for of_width in seeds])
        # side by side where they would cover
        aside = 0.98 if name == "standard" else 1.02
        error_bars(ax, aside * widths, rates, ms=6, **LINES[name])
        if name == "standard":
            falling = rates[0, 0] * widths[0] / widths
            ax.plot(widths, falling, ":", color=GREY, label="falling like 1 / width")
    _log2(ax)
    finish(ax, "width D", "best learning rate")
    return fig


def recorded_differences(
    runs: Mapping, names: Sequence, times=(1, 4, 16)
) -> dict[str, dict]:
    """Return {name: {times: [loss less that of "whole" at the same rate, of each seed]}}.

    None stands where a run diverged. times None reads the stress: keys "stress
    <name>_<seed>".
    """
    seeds = range(sum(key.startswith("whole_x1_") for key in runs))
    key = "stress {0}_{2}" if times is None else "{0}_x{1}_{2}"

    def less_whole(name, *at):
        own, whole = (runs[key.format(of, *at)]["loss"] for of in (name, "whole"))
        return None if None in (own, whole) else own - whole

    return {
        name: {
            one: [less_whole(name, one, seed) for seed in seeds] for one in times or (1,)
        }
        for name in names
    }


def changed_terms(found: Mapping):
    """Draw what changing a term does to the held-out loss, paired by seed: 95% t-intervals.

    found: as `recorded_differences` returns it. Right of the dashed line is worse than the
    whole update; a cross at the right edge says that a seed diverged.
    """
    times = list(next(iter(found.values())))
    fig, ax = subplots(figsize=(7.6, 0.9 + 0.42 * len(found)))
    ax.axvline(0, color=GREY, ls="--", lw=1)
    columns = {one: [by_times[one] for by_times in found.values()] for one in times}
    diverged = []
    for j, (one, column, style) in enumerate(styled(columns)):
        ax.plot([], [], ls="", ms=5, label=f"{one} times the rate", **style)
        for i, values in enumerate(column):
            y = i + 0.22 * (j - (len(times) - 1) / 2)
            if None in values:
                diverged.append((y, style["color"]))
            else:
                interval = [mean_interval(values)]
                error_bars(ax, y, interval, across=True, ms=5, capsize=2, **style)
    edge = ax.get_xlim()[1]
    for y, color in diverged:
        ax.plot(edge, y, "x", color=color, ms=8, mew=2, clip_on=False)
    name_rows(ax, found)
    ax.set(xlabel="held-out loss less the whole update's, nats")
    if len(times) > 1:
        legend_beside(ax)
    return fig


def descents(curves: Mapping):
    """Draw each optimizer's loss as a share of its first against the step, logarithmic.

    curves: {optimizer: [loss of each step]}.
    """
    fig, ax = subplots(figsize=(7.0, 3.2))
    for name, losses, style in styled(curves):
        share = np.asarray(losses, np.float64) / losses[0]
        every = max(1, len(share) // 8)
        ax.plot(share, ms=4, lw=1.6, markevery=every, label=name, **style)
    ax.set_yscale("log")
    finish(ax, "step", "loss, share of the first")
    return fig


def coordinate_growth(widths: Sequence, checks: Mapping):
    """Draw how far each part's outputs move in the first steps, against width.

    checks: {parametrisation: what `pretraining.mup_check.coordinate_check` returns}; drawn is the
    last step.

    Source: the check is Yang et al.'s (muP, 2022, appendix D.1) [standard].
    Test: tests/teaching/chapters/test_pretraining.py::test_growth_is_drawn_part_by_part
    """
    parts = list(next(iter(checks.values())))
    fig, axes = subplots(1, len(parts), figsize=(9.6, 3.2))
    for ax, part in zip(axes, parts):
        for name, found in checks.items():
            ax.plot(widths, found[part][:, -1], **LINES[name])
        _log2(ax)
        ax.set(title=part, xlabel="width D", xticks=widths)
    axes[0].set(ylabel="RMS change of the outputs")
    axes[0].legend(fontsize=9)
    return fig


def _log2(ax):
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)

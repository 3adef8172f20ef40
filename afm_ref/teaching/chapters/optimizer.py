"""What chapter 2 draws of the optimizer, recorded or computed a moment ago.

A sweep is {width: {rate: [loss of each seed]}}, a loss None where the run diverged.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ...evaluation import Interval, mean_interval
from ...pretraining.mup import best_rate
from .. import figures

TITLES = {"standard": "standard parametrisation", "mup_simple": "muP-simple"}
BASE_DIM = 32  # of the recording: at this width both parametrisations are the same


def recorded_sweeps(runs: Mapping[str, Mapping]) -> dict[str, dict]:
    """Return {name: sweep} of recorded runs "<name>_<width>_<log2 rate>_<seed>"."""
    sweeps = {name: {} for name in TITLES}
    for key in sorted(runs, key=_numbers):
        for name in TITLES:
            if key.startswith(f"{name}_"):
                width = int(key.split("_")[-3])
                for own in TITLES if width == BASE_DIM else (name,):
                    rates = sweeps[own].setdefault(width, {})
                    rates.setdefault(runs[key]["rate"], []).append(runs[key]["loss"])
    return sweeps


def _numbers(key):
    """Return a key with its numbers as numbers, so that rates and seeds are in order."""
    return [
        (0, float(part), "") if part.lstrip("-").isdigit() else (1, 0.0, part)
        for part in key.split("_")
    ]


def best_rates(sweep: Mapping[int, Mapping]) -> dict[int, list[float]]:
    """Return {width: [best rate of each seed]}, by `pretraining.mup.best_rate`."""
    return {
        width: [
            best_rate(list(by_rate), losses)
            for losses in zip(*by_rate.values(), strict=True)
        ]
        for width, by_rate in sweep.items()
    }


def shift_per_doubling(sweep: Mapping[int, Mapping]) -> Interval:
    """Return by how many doublings the best rate moves when the width doubles, over seeds.

    slope of log2 (best rate) against log2 (width), by least squares, for each seed
    """
    best = best_rates(sweep)
    slopes = np.polyfit(np.log2(list(best)), np.log2(list(best.values())), 1)[0]
    return mean_interval(np.atleast_1d(slopes))


def loss_against_rate(sweeps: Mapping[str, Mapping]):
    """Draw one panel a parametrisation: held-out loss against learning rate.

    A line for each width: means over seeds, bands from the lowest seed to the highest.
    Rates at which a seed diverged are left out.

    Source: learning rates that transfer, as Yang et al. 2022 figure 1 draws it [standard].
    Test: tests/teaching/chapters/test_pretraining.py::test_lines_are_means_of_seeds
    """
    fig, axes = figures.subplots(
        1, len(sweeps), figsize=(9.6, 3.8), sharey=True, squeeze=False
    )
    for ax, (name, sweep) in zip(axes[0], sweeps.items(), strict=True):
        for (width, by_rate), (color, marker) in zip(
            sweep.items(), figures.styles(sweep), strict=True
        ):
            kept = {rate: losses for rate, losses in by_rate.items() if None not in losses}
            losses = np.array(list(kept.values()))
            ax.plot(
                list(kept),
                losses.mean(1),
                f"{marker}-",
                color=color,
                ms=5,
                lw=1.6,
                label=f"D = {width}",
            )
            ax.fill_between(
                list(kept),
                losses.min(1),
                losses.max(1),
                color=color,
                alpha=0.15,
                lw=0,
                antialiased=False,
            )
        ax.set_xscale("log", base=2)
        ax.set(title=TITLES.get(name, name), xlabel="learning rate")
    axes[0, 0].set(ylabel="held-out loss, nats per token")
    axes[0, -1].legend(fontsize=9)
    return fig


def best_against_width(sweeps: Mapping[str, Mapping]):
    """Draw the best learning rate against the width, with 95% t-intervals over seeds.

    Dotted: where the standard one would lie if it fell like 1 / width from the narrowest
    on.
    """
    fig, ax = figures.subplots(figsize=(6.4, 3.6))
    for (name, sweep), (color, marker) in zip(
        sweeps.items(), _two_styles(sweeps), strict=True
    ):
        best = best_rates(sweep)
        intervals = 2.0 ** np.array(
            [mean_interval(np.log2(rates)) for rates in best.values()]
        )
        # side by side where they would cover
        widths = np.array(list(best)) * (0.98 if name == "standard" else 1.02)
        figures.error_bars(
            ax,
            widths,
            intervals,
            f"{marker}-",
            color=color,
            ms=6,
            label=TITLES.get(name, name),
        )
        if name == "standard":
            first = np.array(list(best), float)
            ax.plot(
                first,
                intervals[0, 0] * first[0] / first,
                ":",
                color=figures.GREY,
                label="falling like 1 / width",
            )
    _log2(ax)
    ax.set(xlabel="width D", ylabel="best learning rate")
    ax.legend(fontsize=9)
    return fig


def recorded_differences(
    runs: Mapping[str, Mapping], names: Sequence[str], times=(1, 4, 16)
) -> dict[str, dict]:
    """Return {name: {times: [loss less that of "whole" at the same rate, of each seed]}}.

    None stands where a run diverged. times None reads the stress: keys "stress
    <name>_<seed>".
    """
    seeds = range(sum(key.startswith("whole_x1_") for key in runs))

    def loss(name, one, seed):
        return runs[f"stress {name}_{seed}" if times is None else f"{name}_x{one}_{seed}"][
            "loss"
        ]

    def less_whole(name, *at):
        pair = [loss(of, *at) for of in (name, "whole")]
        return None if None in pair else pair[0] - pair[1]

    return {
        name: {
            one: [less_whole(name, one, seed) for seed in seeds] for one in times or (1,)
        }
        for name in names
    }


def changed_terms(found: Mapping[str, Mapping]):
    """Draw what changing a term does to the held-out loss, paired by seed: 95% t-intervals.

    found: as `recorded_differences` returns it. Right of the dashed line is worse than the
    whole update; a cross at the right edge says that a seed diverged.
    """
    times = list(next(iter(found.values())))
    fig, ax = figures.subplots(figsize=(7.6, 0.9 + 0.42 * len(found)))
    ax.axvline(0, color=figures.GREY, ls="--", lw=1)
    diverged = []
    for j, (one, (color, marker)) in enumerate(
        zip(times, figures.styles(times), strict=True)
    ):
        ax.plot([], [], marker, color=color, ms=5, label=f"{one} times the rate")
        for i, by_times in enumerate(found.values()):
            y, values = i + 0.22 * (j - (len(times) - 1) / 2), by_times[one]
            if None in values:
                diverged.append((y, color))
            else:
                figures.error_bars(
                    ax,
                    y,
                    [mean_interval(values)],
                    marker,
                    across=True,
                    color=color,
                    ms=5,
                    capsize=2,
                )
    edge = ax.get_xlim()[1]
    for y, color in diverged:
        ax.plot(edge, y, "x", color=color, ms=8, mew=2, clip_on=False)
    ax.set(ylim=(len(found) - 0.5, -0.5))
    ax.set(
        yticks=range(len(found)),
        yticklabels=list(found),
        xlabel="held-out loss less the whole update's, nats",
    )
    if len(times) > 1:
        figures.legend_beside(ax)
    return fig


def descents(curves: Mapping[str, Sequence[float]]):
    """Draw each optimizer's loss as a share of its first against the step, logarithmic."""
    fig, ax = figures.subplots(figsize=(7.0, 3.2))
    for (name, losses), (color, marker) in zip(
        curves.items(), figures.styles(curves), strict=True
    ):
        share = np.asarray(losses, np.float64) / losses[0]
        ax.plot(
            share,
            f"{marker}-",
            color=color,
            ms=4,
            lw=1.6,
            markevery=max(1, len(share) // 8),
            label=name,
        )
    ax.set_yscale("log")
    ax.set(xlabel="step", ylabel="loss, share of the first")
    ax.legend(fontsize=9)
    return fig


def coordinate_growth(widths: Sequence[int], checks: Mapping[str, Mapping]):
    """Draw how far each part's outputs move in the first steps, against width.

    checks: {parametrisation: what `pretraining.mup.coordinate_check` returns}; drawn is the
    last step.

    Source: the check is Yang et al.'s (muP, 2022, appendix D.1) [standard].
    Test: tests/teaching/chapters/test_pretraining.py::test_growth_is_drawn_part_by_part
    """
    parts = list(next(iter(checks.values())))
    fig, axes = figures.subplots(1, len(parts), figsize=(9.6, 3.2))
    for ax, part in zip(axes, parts, strict=True):
        for (name, found), (color, marker) in zip(
            checks.items(), _two_styles(checks), strict=True
        ):
            ax.plot(
                widths,
                found[part][:, -1],
                f"{marker}-",
                color=color,
                label=TITLES.get(name, name),
            )
        _log2(ax)
        ax.set(title=part, xlabel="width D", xticks=list(widths))
    axes[0].set(ylabel="RMS change of the outputs")
    axes[0].legend(fontsize=9)
    return fig


def _two_styles(names):
    return ((figures.ORANGE, "o"), (figures.BLUE, "s"))[: len(names)]


def _log2(ax):
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)

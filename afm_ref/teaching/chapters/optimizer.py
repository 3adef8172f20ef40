"""Chapter 2's figures of the optimizer. They take lists and dicts, recorded or computed a moment ago.

A sweep is {width: {rate: [loss of each seed]}}, a loss None where the run diverged.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ...evaluation import Interval, mean_interval
from ...pretraining.mup import best_rate
from .. import figures

MARKERS = ("o", "s", "D", "^", "v", "P")
TITLES = {"standard": "standard parametrisation", "mup_simple": "muP-simple"}
BASE_DIM = 32  # of the recording: at this width both parametrisations are the same


def recorded_sweeps(runs: Mapping[str, Mapping]) -> dict[str, dict]:
    """Return {parametrisation: sweep} of the recorded runs of keys "<parametrisation>_<width>_<log2 rate>_<seed>".

    Source: none [ours].
    Test: tests/teaching/test_optimizer_figures.py::test_recorded_runs_are_sorted
    """
    sweeps = {name: {} for name in TITLES}
    for key in sorted(runs, key=_numbers):
        for name in TITLES:
            if key.startswith(f"{name}_"):
                width = int(key.split("_")[-3])
                for own in TITLES if width == BASE_DIM else (name,):
                    rates = sweeps[own].setdefault(width, {})
                    rates.setdefault(runs[key]["rate"], []).append(runs[key]["loss"])
    return sweeps


def best_rates(sweep: Mapping[int, Mapping]) -> dict[int, list[float]]:
    """Return {width: [best rate of each seed]}, by `pretraining.mup.best_rate`.

    Source: none [ours].
    Test: tests/teaching/test_optimizer_figures.py::test_the_shift_of_a_made_up_sweep
    """
    return {
        width: [best_rate(list(by_rate), losses) for losses in zip(*by_rate.values(), strict=True)]
        for width, by_rate in sweep.items()
    }


def shift_per_doubling(sweep: Mapping[int, Mapping]) -> Interval:
    """Return by how many doublings the best rate moves when the width doubles: mean and interval over seeds.

        slope of log2 (best rate) against log2 (width), by least squares, for each seed

    Source: least squares on logarithms [standard].
    Test: tests/teaching/test_optimizer_figures.py::test_the_shift_of_a_made_up_sweep
    """
    best = best_rates(sweep)
    slopes = np.polyfit(np.log2(list(best)), np.log2(list(best.values())), 1)[0]
    return mean_interval(np.atleast_1d(slopes))


def loss_against_rate(sweeps: Mapping[str, Mapping]):
    """Return a figure of one panel a parametrisation: held-out loss against learning rate, a line for each width.

    Lines are means over seeds, bands reach from the lowest seed to the highest; rates at which a seed diverged are
    left out. Raises ValueError without sweeps or with more widths than can be told apart.

    Source: learning rates that transfer, as Yang et al. 2022 figure 1 draws it [standard].
    Test: tests/teaching/test_optimizer_figures.py::test_lines_are_means_and_bands_reach_over_the_seeds
    """
    if not sweeps or max(map(len, sweeps.values())) > len(MARKERS):
        raise ValueError(f"expected one to {len(MARKERS)} widths in each sweep, got {list(sweeps)}")
    fig, axes = figures.subplots(1, len(sweeps), figsize=(9.6, 3.8), sharey=True, squeeze=False)
    for ax, (name, sweep) in zip(axes[0], sweeps.items(), strict=True):
        for (width, by_rate), color, marker in zip(sweep.items(), figures.CYCLE, MARKERS, strict=False):
            kept = {rate: losses for rate, losses in by_rate.items() if None not in losses}
            losses = np.array(list(kept.values()))
            ax.plot(list(kept), losses.mean(1), f"{marker}-", color=color, ms=5, lw=1.6, label=f"D = {width}")
            ax.fill_between(list(kept), losses.min(1), losses.max(1), color=color, alpha=0.15, lw=0, antialiased=False)
        ax.set_xscale("log", base=2)
        ax.set(title=TITLES.get(name, name), xlabel="learning rate")
    axes[0, 0].set(ylabel="held-out loss, nats per token")
    axes[0, -1].legend(fontsize=9)
    return fig


def best_against_width(sweeps: Mapping[str, Mapping]):
    """Return a figure: the best learning rate against the width, with 95% t-intervals over seeds.

    Dotted: where the standard parametrisation's would lie if it fell like 1 / width from the narrowest model on.

    Source: none [ours].
    Test: tests/teaching/test_optimizer_figures.py::test_best_rates_carry_intervals
    """
    fig, ax = figures.subplots(figsize=(6.4, 3.6))
    for (name, sweep), color, marker in zip(sweeps.items(), (figures.ORANGE, figures.BLUE), MARKERS, strict=False):
        best = best_rates(sweep)
        mean, low, high = 2.0 ** np.transpose([mean_interval(np.log2(rates)) for rates in best.values()])
        widths = np.array(list(best)) * (0.98 if name == "standard" else 1.02)  # side by side where they would cover
        label = f"{TITLES.get(name, name)}"
        ax.errorbar(
            widths, mean, (mean - low, high - mean), fmt=f"{marker}-", color=color, ms=6, capsize=3, label=label
        )
        if name == "standard":
            first = np.array(list(best), float)
            ax.plot(first, mean[0] * first[0] / first, ":", color=figures.GREY, label="falling like 1 / width")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.set(xlabel="width D", ylabel="best learning rate")
    ax.legend(fontsize=9)
    return fig


def recorded_differences(runs: Mapping[str, Mapping], names: Sequence[str], times=(1, 4, 16)) -> dict[str, dict]:
    """Return {name: {times: [loss less that of "whole" at the same rate, of each seed]}}; None where a run diverged.

    times None reads the stress, whose keys are "stress <name>_<seed>".

    Source: none [ours].
    Test: tests/teaching/test_optimizer_figures.py::test_recorded_runs_are_sorted
    """
    found = {}
    for name in names:
        found[name] = {}
        for one in (1,) if times is None else times:
            keys = [f"stress {{}}_{i}" if times is None else f"{{}}_x{one}_{i}" for i in range(_seeds(runs))]
            pairs = [(runs[key.format(name)]["loss"], runs[key.format("whole")]["loss"]) for key in keys]
            found[name][one] = [None if None in pair else pair[0] - pair[1] for pair in pairs]
    return found


def differences(found: Mapping[str, Mapping], label: str = "times the rate"):
    """Return a figure: what changing a term does to the held-out loss, paired by seed, with 95% t-intervals.

    found: as `recorded_differences` returns it. Right of the dashed line is worse than the whole update; a cross at the
    right edge says that a seed diverged.

    Source: none [ours].
    Test: tests/teaching/test_optimizer_figures.py::test_differences_carry_intervals_and_say_who_diverged
    """
    times = list(next(iter(found.values())))
    fig, ax = figures.subplots(figsize=(7.6, 0.9 + 0.42 * len(found)))
    ax.axvline(0, color=figures.GREY, ls="--", lw=1)
    diverged = []
    for j, (one, color, marker) in enumerate(zip(times, figures.CYCLE, MARKERS, strict=False)):
        for i, by_times in enumerate(found.values()):
            y, values = i + 0.22 * (j - (len(times) - 1) / 2), by_times[one]
            name = f"{one} {label}" if i == 0 else None
            if None in values:
                diverged.append((y, color))
                ax.plot([], [], marker, color=color, label=name)
                continue
            mean, low, high = mean_interval(values)
            ax.errorbar(
                mean, y, xerr=[[mean - low], [high - mean]], fmt=marker, color=color, ms=5, capsize=2, label=name
            )
    edge = ax.get_xlim()[1]
    for y, color in diverged:
        ax.plot(edge, y, "x", color=color, ms=8, mew=2, clip_on=False)
    ax.set(ylim=(len(found) - 0.5, -0.5))
    ax.set(yticks=range(len(found)), yticklabels=list(found), xlabel="held-out loss less the whole update's, nats")
    if len(times) > 1:
        ax.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig


def descents(curves: Mapping[str, Sequence[float]]):
    """Return a figure: each optimizer's loss, as a share of its first, against the step, on a logarithmic axis.

    Source: none [ours].
    Test: tests/teaching/test_optimizer_figures.py::test_descents_start_at_one
    """
    fig, ax = figures.subplots(figsize=(7.0, 3.2))
    for (name, losses), color, marker in zip(curves.items(), figures.CYCLE, MARKERS, strict=False):
        share = np.asarray(losses, np.float64) / losses[0]
        ax.plot(share, f"{marker}-", color=color, ms=4, lw=1.6, markevery=max(1, len(share) // 8), label=name)
    ax.set_yscale("log")
    ax.set(xlabel="step", ylabel="loss, share of the first")
    ax.legend(fontsize=9)
    return fig


def coordinate_growth(widths: Sequence[int], checks: Mapping[str, Mapping]):
    """Return a figure: how far each part's outputs move in the first steps, against width, for each parametrisation.

    checks: {parametrisation: what `pretraining.mup.coordinate_check` returns}; drawn is the last step.

    Source: the check is Yang et al.'s (muP, 2022, appendix D.1) [standard].
    Test: tests/teaching/test_optimizer_figures.py::test_growth_is_drawn_part_by_part
    """
    parts = list(next(iter(checks.values())))
    fig, axes = figures.subplots(1, len(parts), figsize=(9.6, 3.2))
    for ax, part in zip(axes, parts, strict=True):
        for (name, found), color, marker in zip(checks.items(), (figures.ORANGE, figures.BLUE), MARKERS, strict=False):
            ax.plot(widths, found[part][:, -1], f"{marker}-", color=color, label=TITLES.get(name, name))
        ax.set_xscale("log", base=2)
        ax.set_yscale("log", base=2)
        ax.set(title=part, xlabel="width D", xticks=list(widths))
    axes[0].set(ylabel="RMS change of the outputs")
    axes[0].legend(fontsize=9)
    return fig


def _numbers(key):
    """Return a recorded key with its numbers as numbers, so that rates and seeds are in order."""
    return [(0, float(part), "") if part.lstrip("-").isdigit() else (1, 0.0, part) for part in key.split("_")]


def _seeds(runs):
    return sum(key.startswith("whole_x1_") for key in runs)

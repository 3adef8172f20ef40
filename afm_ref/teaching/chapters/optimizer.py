"""What chapter 3 draws of the optimizer, recorded or computed a moment ago.

A sweep is {width: {rate: [loss of each seed]}}, a loss None where the run diverged.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ...evaluation import Interval, mean_interval
from ...pretraining.mup_check import best_rate
from .. import widgets
from ..figures import (
    BESIDE,
    BLACK,
    BLUE,
    DOTTED,
    GREY,
    ORANGE,
    band,
    bare,
    box,
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
# Of the recording "rates": at the base width both parametrisations are the same; width of the
# rules, and their width and rate where a batch is broken; doublings within which a rate is kept.
BASE_DIM, STRESS_DIM, STRESS_RATE, KEPT = 32, 64, 2.0**-5, 0.25


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


def loss_against_rate(sweeps: Mapping, levels: Mapping):
    """Draw one panel a parametrisation: held-out loss against learning rate.

    A line for each width: means over seeds, bands from the lowest seed to the highest.
    Rates at which a seed diverged are left out. levels: {name: loss}, dashed.

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
        _levels(ax, levels)
        ax.set_xscale("log", base=2)
        ax.set(title=LINES[name]["label"], xlabel="learning rate")
    axes[0, 0].set(ylabel="held-out loss, nats per byte")
    legend_beside(axes[0, -1])
    return fig


def best_against_width(sweeps: Mapping):
    """Draw each seed's best learning rate against the width; right, how it moves.

    Left: a line through the means (of logarithms); dotted, where the standard one would lie
    if it fell like 1 / width from the narrowest on. Right: `shift_per_doubling`, beside the
    KEPT that was set beforehand (shaded).
    """
    fig, (left, right) = subplots(1, 2, figsize=(9.8, 3.6), width_ratios=[1.5, 1])
    for row, (name, sweep) in enumerate(sweeps.items()):
        best = best_rates(sweep)
        widths, seeds = np.array(list(best), float), np.log2(list(best.values()))
        means, line = 2.0 ** seeds.mean(axis=1), LINES[name]
        left.plot(widths, means, ms=7, lw=1.8, **line)
        left.plot(widths, 2.0**seeds, ".", ms=5, color=line["color"], alpha=0.6)
        if name == "standard":
            falling = means[0] * widths[0] / widths
            left.plot(widths, falling, ":", color=GREY, label="falling like 1 / width")
        shift = shift_per_doubling(sweep)
        error_bars(right, [row], [shift], line["marker"], across=True, color=line["color"])
    _log2(left)
    left.set_xticks(widths, [f"{width:g}" for width in widths])
    finish(left, "width D (small dots: one seed each)", "best learning rate", fontsize=9)
    right.axvspan(-KEPT, KEPT, color=GREY, alpha=0.25, lw=0)
    right.axvline(0, **DOTTED)
    name_rows(right, [LINES[name]["label"].replace(" ", "\n") for name in sweeps])
    right.set(xlabel="doublings of the best rate\nfor one of the width")
    return fig


def rule_leads(runs: Mapping, rules: Sequence = ("adam", "no block clip")) -> dict:
    """Return {(rule, times): interval over seeds of its loss less Apple's}, times 1 and 4.

    Each at its own rate of lowest mean loss, and at 4 times that: the next in the row.
    """
    tables = {rule: _row(runs, f"{rule}_{STRESS_DIM}") for rule in ("standard", *rules)}
    best = {rule: int(np.argmin(table.mean(axis=1))) for rule, table in tables.items()}
    at = {rule: table[best[rule] : best[rule] + 2] for rule, table in tables.items()}
    return {
        (rule, times): mean_interval(at[rule][i] - at["standard"][i])
        for rule in rules
        for i, times in enumerate((1, 4))
    }


def _row(runs, name):
    """Return the losses [rates, seeds] of one row, the lowest rate first; inf: diverged."""
    found = {}
    for key in sorted(key for key in runs if key.startswith(f"{name}_")):  # seeds in order
        loss = np.inf if runs[key]["loss"] is None else runs[key]["loss"]
        found.setdefault(runs[key]["rate"], []).append(loss)
    return np.array([found[rate] for rate in sorted(found)])


def stress_costs(runs: Mapping) -> dict[str, Interval]:
    """Return {limits taken away: interval of the loss less that of the whole update}, after
    one broken batch; "whole" stands beside the run that met none.
    """
    losses = {}
    for key in sorted(key for key in runs if key.startswith("stress ")):
        name = key.removeprefix("stress ").rpartition("_")[0]
        losses.setdefault(name, []).append(runs[key]["loss"])
    whole = np.array(losses.pop("whole"))
    rate = f"standard_{STRESS_DIM}_{np.log2(STRESS_RATE):g}_"
    unbroken = [runs[f"{rate}{seed}"]["loss"] for seed in range(len(whole))]
    return {"whole": mean_interval(whole - unbroken)} | {
        name: mean_interval(np.array(of) - whole) for name, of in losses.items()
    }


def training_curves(curves: Mapping, levels: Mapping):
    """Draw {name: loss of each step}, each smoothed over 5 steps, and {name: loss} as levels."""
    fig, ax = subplots(figsize=(7.2, 3.4))
    for name, losses, style in styled(curves):
        smooth = np.convolve(losses, np.ones(5) / 5, "valid")
        ax.plot(np.arange(3, len(losses) - 1), smooth, color=style["color"], label=name)
    _levels(ax, levels)
    finish(ax, "step", "loss, nats per byte", **BESIDE)
    return fig


def _levels(ax, levels):
    for (name, level), dashes in zip(levels.items(), ("--", ":", "-."), strict=False):
        ax.axhline(level, color=BLACK, lw=1, ls=dashes, label=name)


ARROW = {"arrowstyle": "-|>", "color": BLACK, "lw": 1.4}
# What stands in the boxes of `pipe`: equation, its name, what it does, as formulas.
LINES_OF_THE_UPDATE = (
    ("(3.2)", "skip and clip", r"$g\leftarrow g\,\min(1,1/|g|)$"),
    (
        "(3.3)",
        "mean square",
        r"$\overline{g^2}\leftarrow b_2\overline{g^2}+(1-b_2)(g^2+\epsilon)$",
    ),
    ("(3.4)", "divide by size", r"$u=g\;/\sqrt{\overline{g^2}/(1-b_2^{\tau})}$"),
    ("(3.5)", "clip the block", r"$u\leftarrow u\,/\max(1,\mathrm{rms}(u)/c)$"),
    ("(3.6)", "momentum", r"$\bar u\leftarrow b_1\bar u+(1-b_1)\,u$"),
    ("(3.7)", "move and decay", r"$w\leftarrow w-f(\eta\,\bar u+\lambda w)$"),
)


def pipe():
    """Draw Apple's limit and five lines as a pipe: the gradient comes in, the new weight goes
    out, two boxes remember.
    """
    fig, ax = subplots(figsize=(10.4, 2.6))
    bare(ax).set(xlim=(-1.0, 13.8), ylim=(-0.7, 2.0))
    for i, line in enumerate(LINES_OF_THE_UPDATE):
        _pipe_box(ax, 2.2 * i, *line)
    ax.annotate("", (13.25, 0.5), (12.8, 0.5), arrowprops=ARROW)
    ax.text(-0.5, 0.5, "$g$", ha="right", va="center", fontsize=14)
    ax.text(13.3, 0.5, "$w$", ha="left", va="center", fontsize=14)
    return fig


def _pipe_box(ax, x, number, name, formula):
    """Draw one box with its formula below it; a loop above it if it remembers."""
    remembers = name in ("mean square", "momentum")
    box(ax, x, 0, 1.8, 1.0, 0.1, fc="white", ec=ORANGE if remembers else BLUE, lw=2)
    ax.text(x + 0.9, 0.68, name, ha="center", va="center", weight="bold", fontsize=9)
    ax.text(x + 0.9, 0.28, number, ha="center", va="center", color=GREY, fontsize=10)
    ax.text(x + 0.9, -0.45, formula, ha="center", fontsize=8)
    ax.annotate("", (x, 0.5), (x - 0.42, 0.5), arrowprops=ARROW)
    if remembers:
        loop = {**ARROW, "color": ORANGE, "connectionstyle": "arc3,rad=1.4"}
        ax.annotate("", (x + 0.5, 1.02), (x + 1.3, 1.02), arrowprops=loop)
        ax.text(x + 0.9, 1.7, "kept for the next step", ha="center", fontsize=9.5)


def after_a_spike(memory: float = 0.95, times: float = 1000.0, steps: int = 350):
    """Draw the size of a weight's update |u| after one gradient `times` too large.

    The other gradients have size 1; nothing is clipped.
    """
    square, sizes = 1.0, [1.0] * 50
    for g in (times, *[1.0] * steps):
        square = memory * square + (1 - memory) * g**2
        sizes.append(g / np.sqrt(square))
    fig, ax = subplots(figsize=(7.2, 3.2))
    ax.plot(np.arange(-50, steps + 1), sizes, color=BLUE)
    ax.axhline(1, **DOTTED)
    ax.set(xlabel="steps after the broken batch", ylabel="size of the update u")
    ax.set(yscale="log", ylim=(2e-3, 10))
    return fig


def spike_explorer(alt: str) -> None:
    """Display controls for the memory and the spike above the figure of `after_a_spike`."""
    memory = widgets.stops("memory b", (0.5, 0.9, 0.95, 0.98, 0.99), 0.95)
    times = widgets.stops("times too large", (10.0, 100.0, 1000.0), 1000.0)
    widgets.explore(after_a_spike, alt, memory=memory, times=times)


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

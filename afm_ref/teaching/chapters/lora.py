"""What chapter 8 draws: a low-rank sum, spectra, the rank study, adapters over one base."""

from collections.abc import Mapping

import numpy as np

from ...evaluation import Interval, mean_interval
from .. import figures, widgets
from ..figures import (
    BLACK,
    BLUE,
    CYCLE,
    DIVERGING,
    DOTTED,
    GREY,
    ORANGE,
    RED,
    bare,
    box,
    error_bars,
    finish,
    name_rows,
    subplots,
)

GAP = 0.35
# rows and columns that are drawn of a matrix: more would be noise to the eye, and large
# files
CORNER = 28


def low_rank_sum(out_dim: int, in_dim: int, rank: int):
    """Draw y = W0 x + scale B (A x), every matrix drawn to scale."""
    if not 1 <= rank <= min(out_dim, in_dim):
        raise ValueError(f"rank must be 1..{min(out_dim, in_dim)} to be drawn, got {rank}")
    unit = 4.0 / max(out_dim, in_dim)
    tall, wide, thin = out_dim * unit, in_dim * unit, max(rank * unit, 0.12)
    fig, ax = subplots(figsize=(9.0, 3.4))
    whole, count = out_dim * in_dim, rank * (out_dim + in_dim)
    b = wide + 1.1
    a = b + thin + GAP
    frozen = f"$\\mathbf{{W}}_0$: frozen\n{out_dim} x {in_dim}\n{whole:,}"
    for x, width, height, color, inside, below in (
        (0.0, wide, tall, GREY, frozen, ""),
        (b, thin, tall, ORANGE, "", f"$\\mathbf{{B}}$: {out_dim} x {rank}"),
        (a, wide, thin, BLUE, "", f"$\\mathbf{{A}}$: {rank} x {in_dim}"),
    ):
        y, middle = tall - height, x + width / 2
        _plate(ax, x, y, width, height, color, inside, 12, 0, alpha=0.85, lw=1.2)
        ax.text(middle, y - 0.22, below, ha="center", va="top", fontsize=11)
    times = r"$+\ \frac{\alpha}{R}\,\cdot$"
    ax.text(wide + 0.55, tall / 2, times, ha="center", va="center", fontsize=17)
    end = a + wide
    text = f"trained:\n{count:,} numbers,\n{100 * count / whole:.2g}% of $\\mathbf{{W}}_0$"
    ax.text(end + GAP, tall / 2, text, va="center", fontsize=12)
    ax.set(xlim=(-0.1, end + 2.6), ylim=(-0.75, tall + 0.1), aspect="equal")
    ax.set_axis_off()
    return fig


def spectra(panels, rank: int):
    """Draw for {title: {kind: singular values}} the share of the squared norm that the first
    terms hold, with a mark at a rank.
    """
    fig, axes = subplots(1, len(panels), figsize=(9.6, 3.1), sharey=True)
    for ax, (title, kinds) in zip(axes, panels.items(), strict=True):
        for (kind, s), color in zip(kinds.items(), (RED, BLUE, GREY), strict=True):
            share = 1 - relative_errors(np.asarray(s)) ** 2
            ax.plot(100 * share, color=color, label=kind)
        ax.axvline(rank, **figures.DOTTED)
        ax.set(title=title, xlabel="number of terms kept", ylim=(0, 102))
    axes[0].set_ylabel("% of the squared size")
    axes[0].legend(fontsize=10, loc="lower right")
    return fig


def rank_losses(runs: Mapping) -> dict[str, np.ndarray]:
    """Return {arm: held-out loss of each seed} of the recording "rank".

    An arm is a rank, "matrices", "full" or "rank 0"; "cut 16" is what "matrices" becomes when
    its change is cut to rank 16.
    """
    found = {}
    for key in sorted(key for key in runs if key != "base" and not key.startswith("try_")):
        arm, run = key.rpartition("_")[0], runs[key]
        for name, nats in ((arm, run["nats"]), *_cuts(run)):
            found.setdefault(name, []).append(nats)
    return {name: np.array(losses) for name, losses in found.items()}


def _cuts(run):
    return [(f"cut {rank}", nats) for rank, nats in run.get("cut", {}).items()]


def rank_primary(runs: Mapping) -> dict[str, Interval]:
    """Return the two comparisons of "rank" that were named beforehand, at 97.5%."""
    losses = rank_losses(runs)
    return {
        f"cut to 16 less {name}": mean_interval(losses["cut 16"] - losses[arm], 0.975)
        for name, arm in (("trained at 16", "16"), ("matrices", "matrices"))
    }


def rank_study(runs: Mapping):
    """Draw what rank costs.

    Left: held-out loss with 95% t-intervals over seeds, trained at rank R and cut to it; lines
    are the base and the means of the arms without a rank. Right: `rank_primary`, in
    thousandths of a nat.
    """
    losses = rank_losses(runs)
    ranks = sorted(int(name) for name in losses if name.isdecimal())
    at = np.arange(len(ranks))
    fig, (left, right) = subplots(1, 2, figsize=(10.4, 3.9), width_ratios=[1.7, 1])
    for shift, (label, form), color, style in (
        (-0.06, ("trained at rank R", "{}"), BLUE, "o-"),
        (0.06, ("matrices tuned, then cut to R", "cut {}"), ORANGE, "s:"),
    ):
        rows = [mean_interval(losses[form.format(rank)]) for rank in ranks]
        error_bars(left, at + shift, rows, style, color=color, label=label)
    lines = {"base": runs["base"]["nats"]} | {
        name: losses[name].mean() for name in ("rank 0", "matrices", "full")
    }
    for (name, level), style in zip(lines.items(), (":", "-.", "--", "-")):
        left.axhline(level, color=GREY, ls=style, lw=1.3, label=f"{name}: {level:.3f}")
    left.set_xticks(at, ranks)
    left.set_yscale("log")
    left.set_yticks([0.02, 0.05, 0.1, 0.2], ["0.02", "0.05", "0.1", "0.2"], minor=False)
    left.minorticks_off()
    finish(left, "rank R", "held-out loss, nats a token", fontsize=9)
    found = {
        name.replace(" less ", "\nless "): of for name, of in rank_primary(runs).items()
    }
    thousandths = [1000 * np.array(of) for of in found.values()]
    error_bars(right, np.arange(len(found)), thousandths, "o", across=True, color=BLACK)
    name_rows(right, found)
    right.axvline(0, **DOTTED, zorder=0)
    right.set(xlabel="thousandths of a nat a token")
    return fig


def score_table(tasks, table):
    """Draw scores (mean, low, high) [task, base and adapters, 3] as a table of shades."""
    fig, ax = subplots(figsize=(7.6, 3.2))
    ax.imshow(table[..., 0], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i, j in np.ndindex(table.shape[:2]):
        mean, low, high = table[i, j]
        text = f"{mean:.2f}" + (f" ± {(high - low) / 2:.2f}" if j else "")
        color = "white" if mean > 0.55 else BLACK
        ax.text(j, i, text, ha="center", va="center", color=color, fontsize=12)
    ax.set_xticks(range(1 + len(tasks)), ["base", *(f"{task} adapter" for task in tasks)])
    ax.set_yticks(range(len(tasks)), tasks)
    ax.set_ylabel("task")
    ax.tick_params(length=0)
    return fig


def adapters_over_base(tasks, active: int, n_layers: int = 4):
    """Draw one base with small adapters beside its layers, those of one task in place."""
    if not 0 <= active < len(tasks):
        raise ValueError(f"active must be 0..{len(tasks) - 1}, got {active}")
    fig, ax = subplots(figsize=(9.0, 3.2))
    for i in range(n_layers):
        _plate(ax, 0.0, i * 0.8, 4.2, 0.6, GREY, f"layer {i}, frozen")
        _plate(ax, 4.3, i * 0.8 + 0.1, 0.7, 0.4, CYCLE[active], "B, A")
    for t, task in enumerate(tasks):
        y = (len(tasks) - 1 - t) * 1.08
        alpha, weight = (0.25, "bold") if t == active else (1.0, "normal")
        for i in range(n_layers):
            _plate(ax, 7.0 + i * 0.62, y + 0.2, 0.52, 0.4, CYCLE[t], "", alpha=alpha)
        label = f"{task}\n(in place now)" if t == active else task
        ax.text(9.65, y + 0.4, label, va="center", fontsize=12, fontweight=weight)
    start = (6.9, (len(tasks) - 1 - active) * 1.08 + 0.4)
    ax.annotate(
        "",
        (5.1, n_layers * 0.4 - 0.1),
        start,
        arrowprops=dict(arrowstyle="-|>", color=CYCLE[active], lw=2, mutation_scale=16),
    )
    ax.text(2.1, -0.35, "one base in memory", ha="center", fontsize=11)
    ax.text(8.2, -0.35, "small adapters, on disk or cached", ha="center", fontsize=11)
    ax.set(xlim=(-0.1, 11.6), ylim=(-0.6, max(n_layers * 0.8, len(tasks) * 1.08)))
    ax.set_axis_off()
    return fig


def _plate(ax, x, y, width, height, color, text, size=10, rounding=0.08, **style):
    box(ax, x, y, width, height, rounding, **{"fc": color, "ec": BLACK, "lw": 1.0, **style})
    middle = x + width / 2, y + height / 2
    ax.text(*middle, text, ha="center", va="center", fontsize=size, color="white")


def cut_to_rank(change: np.ndarray, rank: int, name: str = "a matrix"):
    """Draw a change of the matrix `name` (its corner), its best approximation of a rank, the rest, all errors."""
    u, s, vt = np.linalg.svd(change, full_matrices=False)
    if not 0 <= rank <= len(s):
        raise ValueError(f"rank must be 0..{len(s)}, got {rank}")
    near = (u[:, :rank] * s[:rank]) @ vt[:rank]
    limit = np.quantile(np.abs(change), 0.995)
    fig, axes = subplots(1, 4, figsize=(9.6, 2.9), width_ratios=[1, 1, 1, 1.5])
    panels = {f"change of {name}": change, f"rank {rank}": near, "left over": change - near}
    for ax, (title, m) in zip(axes, panels.items()):
        ax.imshow(m[:CORNER, :CORNER], cmap=DIVERGING, vmin=-limit, vmax=limit)
        bare(ax).set(title=title)
    percent = 100 * relative_errors(s)
    axes[3].plot(percent, color=BLUE)
    axes[3].plot([rank], percent[rank], "o", color=RED, ms=9)
    axes[3].set(
        xlabel="rank",
        ylabel="error, % of the change",
        ylim=(0, 103),
        title=f"{percent[rank]:.0f}%",
    )
    return fig


def relative_errors(s: np.ndarray) -> np.ndarray:
    """Return the errors |A - A_r| / |A| at rank 0, 1, ..., from the singular values."""
    left = np.append(np.cumsum(s[::-1] ** 2)[::-1], 0.0)
    return np.sqrt(left / left[0])


def explore_rank(changes: dict[str, np.ndarray], name: str, rank: int) -> None:
    """Display controls for the matrix and the rank above the figure of `cut_to_rank`."""
    ranks = min(min(change.shape) for change in changes.values())
    alt = "A matrix's change in fine-tuning, its best approximation of the chosen rank, "
    widgets.explore(
        lambda matrix, rank: cut_to_rank(changes[matrix], rank, matrix),
        alt + "what is left over, and the error.",
        matrix=widgets.choice("matrix", list(changes), name),
        rank=widgets.slider("rank", 0, ranks, rank),
    )

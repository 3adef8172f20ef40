"""What chapter 5 draws: a low-rank sum, adapters over one base, a change cut to a rank."""

import numpy as np

from .. import figures, widgets

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
    fig, ax = figures.subplots(figsize=(9.0, 3.4))
    x = _matrix(
        ax,
        0.0,
        0.0,
        wide,
        tall,
        figures.GREY,
        f"$W_0$: frozen\n{out_dim} x {in_dim}\n{out_dim * in_dim:,}",
    )
    x = _sign(ax, x, tall, r"$+\ \frac{\alpha}{R}\,\cdot$")
    x = _matrix(ax, x, 0.0, thin, tall, figures.ORANGE, "")
    ax.text(
        x - thin / 2, -0.22, f"$B$: {out_dim} x {rank}", ha="center", va="top", fontsize=11
    )
    x = _matrix(ax, x + GAP, tall - thin, wide, thin, figures.BLUE, "")
    ax.text(
        x - wide / 2,
        tall - thin - 0.22,
        f"$A$: {rank} x {in_dim}",
        ha="center",
        va="top",
        fontsize=11,
    )
    count, whole = rank * (out_dim + in_dim), out_dim * in_dim
    text = f"trained:\n{count:,} numbers,\n{100 * count / whole:.2g}% of $W_0$"
    ax.text(x + GAP, tall / 2, text, ha="left", va="center", fontsize=12)
    ax.set(xlim=(-0.1, x + 2.6), ylim=(-0.75, tall + 0.1), aspect="equal")
    ax.set_axis_off()
    return fig


def _centred(ax, x, y, text, size):
    ax.text(x, y, text, ha="center", va="center", fontsize=size, color="white")


def _matrix(ax, x, y, width, height, color, text):
    from matplotlib.patches import Rectangle

    ax.add_patch(
        Rectangle(
            (x, y),
            width,
            height,
            facecolor=color,
            edgecolor=figures.BLACK,
            alpha=0.85,
            lw=1.2,
        )
    )
    _centred(ax, x + width / 2, y + height / 2, text, 12)
    return x + width


def _sign(ax, x, tall, text):
    ax.text(x + 0.55, tall / 2, text, ha="center", va="center", fontsize=17)
    return x + 1.1


def adapters_over_base(tasks, active: int, n_layers: int = 4):
    """Draw one base with small adapters beside its layers, those of one task in place."""
    if not 0 <= active < len(tasks):
        raise ValueError(f"active must be 0..{len(tasks) - 1}, got {active}")
    fig, ax = figures.subplots(figsize=(9.0, 3.2))
    for i in range(n_layers):
        _plate(ax, 0.0, i * 0.8, 4.2, 0.6, figures.GREY, f"layer {i}, frozen")
        _plate(ax, 4.3, i * 0.8 + 0.1, 0.7, 0.4, figures.CYCLE[active], "BA")
    for t, task in enumerate(tasks):
        y, color = (len(tasks) - 1 - t) * 1.08, figures.CYCLE[t]
        for i in range(n_layers):
            style = dict(alpha=0.25 if t == active else 1.0)
            _plate(ax, 7.0 + i * 0.62, y + 0.2, 0.52, 0.4, color, "", **style)
        ax.text(
            9.65,
            y + 0.4,
            task,
            va="center",
            fontsize=12,
            fontweight="bold" if t == active else "normal",
        )
    start = (6.9, (len(tasks) - 1 - active) * 1.08 + 0.4)
    arrow = {
        "arrowstyle": "-|>",
        "color": figures.CYCLE[active],
        "lw": 2,
        "mutation_scale": 16,
    }
    ax.annotate("", (5.1, n_layers * 0.4 - 0.1), start, arrowprops=arrow)
    ax.text(2.1, -0.35, "one base in memory", ha="center", fontsize=11)
    ax.text(8.2, -0.35, "small adapters, on disk or cached", ha="center", fontsize=11)
    ax.set(xlim=(-0.1, 11.6), ylim=(-0.6, max(n_layers * 0.8, len(tasks) * 1.08)))
    ax.set_axis_off()
    return fig


def _plate(ax, x, y, width, height, color, text, **style):
    from matplotlib.patches import FancyBboxPatch

    box = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.08", facecolor=color,
                         edgecolor=figures.BLACK, lw=1.0, **style)  # fmt: skip
    ax.add_patch(box)
    _centred(ax, x + width / 2, y + height / 2, text, 10)


def cut_to_rank(change: np.ndarray, rank: int, singular=None):
    """Draw a change (its corner), its best approximation of a rank, the rest, all errors."""
    u, s, vt = np.linalg.svd(change, full_matrices=False) if singular is None else singular
    if not 0 <= rank <= len(s):
        raise ValueError(f"rank must be 0..{len(s)}, got {rank}")
    near = (u[:, :rank] * s[:rank]) @ vt[:rank]
    limit = np.quantile(np.abs(change), 0.995)
    fig, axes = figures.subplots(1, 4, figsize=(9.6, 2.9), width_ratios=[1, 1, 1, 1.5])
    for ax, m, title in zip(
        axes,
        (change, near, change - near),
        ("change", f"rank {rank}", "left over"),
        strict=False,
    ):
        corner = m[:CORNER, :CORNER]
        ax.imshow(
            corner, cmap=figures.DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest"
        )
        figures.bare(ax).set(title=title)
    error = relative_errors(s)
    axes[3].plot(np.arange(len(error)), 100 * error, color=figures.BLUE)
    axes[3].plot([rank], [100 * error[rank]], "o", color=figures.RED, ms=9)
    axes[3].set(
        xlabel="rank",
        ylabel="error, % of the change",
        ylim=(0, 103),
        title=f"{100 * error[rank]:.0f}%",
    )
    return fig


def relative_errors(s: np.ndarray) -> np.ndarray:
    """Return the errors |A - A_r| / |A| at rank 0, 1, ..., from the singular values."""
    left = np.append(np.cumsum(s[::-1] ** 2)[::-1], 0.0)
    return np.sqrt(left / left[0])


def explore_rank(changes: dict[str, np.ndarray], name: str, rank: int) -> None:
    """Display controls for the matrix and the rank above the figure of `cut_to_rank`."""
    singular = {
        key: np.linalg.svd(change, full_matrices=False) for key, change in changes.items()
    }
    least = min(len(s) for _, s, _ in singular.values())

    def draw(matrix, rank):
        return cut_to_rank(changes[matrix], rank, singular[matrix])

    alt = "A matrix's change in fine-tuning, its best approximation of the chosen rank, "
    alt += "what is left over, and the error."
    widgets.explore(draw, alt, matrix=widgets.choice("matrix", list(changes), name),
                    rank=widgets.slider("rank", 0, least, rank))  # fmt: skip

"""What chapter 1 draws: the block with its shapes, rotations, shared heads, the gate, where
heads look, and what the cache weighs.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from ... import ops
from ...config import AFMConfig, kv_cache_bytes_per_token, matrix_shapes
from ..figures import (
    BLACK,
    BLUE,
    CYCLE,
    DOTTED,
    GREEN,
    GREY,
    ORANGE,
    PALE,
    PINK,
    RED,
    SEQUENTIAL,
    bare,
    box,
    subplots,
)

COLORS = (GREEN, BLUE)  # of the two models' sizes in the block diagram
CENTRED = {"ha": "center", "va": "center", "zorder": 5}
NODE = {"boxstyle": "circle,pad=0.12", "fc": "white", "ec": BLACK}


def block_diagram(models: Mapping[str, AFMConfig]):
    """Draw the model and the two halves of a block, with the true shapes of two models."""
    fig, ax = subplots(figsize=(9.6, 5.9))
    ax.set(xlim=(0, 9.6), ylim=(0, 6.05))
    ax.set_axis_off()
    cfgs = list(models.values())
    _model(ax, cfgs)
    _attention_half(ax, cfgs, 4.85)
    _ffn_half(ax, cfgs, 2.0)
    ax.text(0.1, 0.08, "shapes are [out, in]; sizes of", fontsize=10)
    for name, color, x in zip(models, COLORS, (2.35, 3.5)):
        ax.text(x, 0.08, name, color=color, fontsize=10, fontweight="bold")
    return fig


def _model(ax, cfgs, y=5.7):
    table = [f"{cfg.vocab_size:,} x {cfg.d_model:,}" for cfg in cfgs]
    _arrow(ax, (0.1, y), (9.5, y))
    ax.text(0.1, y + 0.08, "tokens [T]", fontsize=9.5)
    ax.text(8.72, y + 0.08, "logits [T, V]", fontsize=9.5)
    _part(ax, 1.9, y, "embedding [V, D]", table, 1.9, face=PALE)
    _part(ax, 3.95, y, "block, L times", [cfg.n_layers for cfg in cfgs], face="#DCE9F5")
    _part(ax, 5.75, y, "RMSNorm [D]", [f"{cfg.d_model:,}" for cfg in cfgs])
    _part(ax, 7.65, y, "same table [V, D]", table, 1.9, face=PALE)


def _attention_half(ax, cfgs, y):
    middle = _stream(ax, y, 1.2, "attention half: mixes positions")
    for name, axes, row in (("q", "N·H", 0.5), ("k", "K·H", 1.2), ("v", "K·H", 1.9)):
        _matrix(ax, 2.95, y - row, cfgs, f"w{name}", f"[{axes}, D]", source=middle)
        _arrow(ax, (3.95, y - row), (6.05, y - row))
        if name != "v":
            _part(ax, 5.0, y - row, "RoPE, then\nqk-norm [H]")
    _part(ax, 6.65, middle, "", width=1.2, height=1.94)
    ax.text(6.65, middle + 0.2, "causal attention:\nN heads ask,\nK are asked",
            fontsize=9.5, **CENTRED)  # fmt: skip
    for cfg, color, down in zip(cfgs, COLORS, (0.55, 0.75)):
        text = f"N {cfg.n_heads}, K {cfg.n_kv_heads}, H {cfg.head_dim}"
        ax.text(6.65, middle - down, text, color=color, fontsize=8.5, **CENTRED)
    _arrow(ax, (7.25, middle), (9.35, middle), (9.35, y - 0.16))
    _matrix(ax, 8.3, middle, cfgs, "wo", "[D, N·H]", 1.8)


def _ffn_half(ax, cfgs, y):
    middle = _stream(ax, y, 0.9, "feed-forward half: each position alone")
    for name, row, side in (("w_gate", 0.5, 1), ("w_up", 1.3, -1)):
        _matrix(ax, 2.95, y - row, cfgs, name, "[F, D]", source=middle)
        _arrow(ax, (3.95, y - row), (5.95, y - row), (5.95, middle + 0.16 * side))
    _part(ax, 5.0, y - 0.5, "silu", width=0.7)
    _arrow(ax, (6.1, middle), (9.35, middle), (9.35, y - 0.16))
    ax.text(5.95, middle, r"$\times$", fontsize=12, bbox=NODE, **CENTRED)
    _matrix(ax, 7.6, middle, cfgs, "w_down", "[D, F]")


def _stream(ax, y, down, text):
    """Draw the stream at height y, its sum, and a norm's way down; return the norm's height."""
    _arrow(ax, (0.1, y), (9.58, y))
    ax.plot([0.1, 9.45], [y, y], color=ORANGE, lw=4, solid_capstyle="butt")
    ax.text(0.45, y + 0.1, f"residual stream [T, D]; {text}", fontsize=9.5)
    ax.text(9.35, y, "+", fontsize=13, fontweight="bold", bbox=NODE, **CENTRED)
    _arrow(ax, (0.25, y), (0.25, y - down), (0.4, y - down))
    _part(ax, 0.85, y - down, "RMSNorm\n[D]", width=0.9)
    return y - down


def _matrix(ax, x, y, cfgs, name, axes, width=2.0, source=None):
    """Draw a matrix of `matrix_shapes` around (x, y), fed from a norm at height `source`."""
    sizes = ["{:,} x {:,}".format(*matrix_shapes(cfg)[name]) for cfg in cfgs]
    index = name[1:].strip("_")
    _part(ax, x, y, rf"$\mathbf{{W}}_\mathrm{{{index}}}$ {axes}", sizes, width)
    if source is not None:
        _arrow(ax, (1.3, source), (1.75, source), (1.75, y), (x - width / 2, y))


def _part(ax, x, y, text, sizes=(), width=1.4, height=0.5, face="white"):
    """Draw a box around (x, y): what it is, and under it its sizes in both models."""
    corner = x - width / 2, y - height / 2
    box(ax, *corner, width, height, 0.06, fc=face, ec=BLACK, lw=1.1, zorder=4)
    ax.text(x, y + 0.11 * bool(sizes), text, fontsize=9.5, **CENTRED)
    middle = x - 0.05 * max((len(str(size)) > 8) for size in (*sizes, ""))
    for size, color, side, gap in zip(sizes, COLORS, ("right", "left"), (-0.05, 0.05)):
        at = {**CENTRED, "ha": side, "color": color, "fontsize": 8.5}
        ax.text(middle + gap, corner[1] + 0.12, str(size), **at)


def _arrow(ax, *points):
    """Draw a line through the points with a head at its end."""
    ax.plot(*np.transpose(points[:-1]), color=BLACK, lw=1.2)
    style = {"arrowstyle": "-|>", "color": BLACK, "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", points[-1], points[-2], arrowprops=style)


def rotations(pairs: Sequence[int], head_dim: int, bases: Sequence[float]):
    """Draw pairs of channels at positions 0 to 8, turned by the second base; beside them
    how equal vectors' product falls with the distance, for each base.

    The curves are means over stretches of distances: single values tremble.
    """
    widths = [1] * len(pairs) + [2]
    fig, axes = subplots(1, len(widths), figsize=(9.6, 3.0), width_ratios=widths)
    omega, positions = ops.rope_frequencies(head_dim, bases[1]), np.arange(9)
    out = 0.4 + 0.6 * positions / 8  # later dots further out: none covers another
    for ax, i in zip(axes, pairs):
        x, y = out * np.cos(positions * omega[i]), out * np.sin(positions * omega[i])
        ax.add_patch(_circle())
        ax.plot(x, y, color=GREY, lw=0.8)
        dots = ax.scatter(x, y, c=positions, cmap=SEQUENTIAL, s=38, zorder=3)
        bare(ax).set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal")
        ax.set_xlabel(f"pair {i}\n{np.degrees(omega[i]):.2g}° a position")
    bar = {"location": "bottom", "shrink": 0.5, "ticks": [0, 4, 8], "aspect": 30}
    fig.colorbar(dots, ax=list(axes[:-1]), label="position", **bar)
    for base, color in zip(bases, (ORANGE, BLUE, PINK)):
        axes[-1].plot(*_falling(head_dim, base), color=color, label=f"base {base:,.0f}")
    axes[-1].axhline(0, color=GREY, lw=0.8)
    axes[-1].set(xscale="log", xlabel="distance, tokens", ylim=(-0.5, 1.05))
    axes[-1].set_ylabel("product / product at 0")
    axes[-1].legend(fontsize=9)
    return fig


def _circle():
    from matplotlib.patches import Circle

    return Circle((0, 0), 1, fill=False, ec=GREY, lw=1)


def _falling(head_dim, base, longest=32_768):
    """Return (distances, mean cos(distance omega_i) over pairs and a stretch)."""
    edges = np.unique(np.geomspace(1, longest, 60).astype(int))
    distance = np.arange(1, longest + 1)
    curve = sum(np.cos(distance * w) for w in ops.rope_frequencies(head_dim, base))
    stretches = itertools.pairwise(edges)
    return edges[:-1], [2 / head_dim * curve[a - 1 : b - 1].mean() for a, b in stretches]


def grouped_queries(n_heads: int, choices: Mapping[str, int]):
    """Draw which query head reads which key/value head, for each number K of those."""
    fig, axes = subplots(1, len(choices), figsize=(9.6, 2.4), squeeze=False)
    middle = {"ha": "center", "va": "center"}
    for ax, (name, K) in zip(axes[0], choices.items()):
        G = n_heads // K
        for n in range(n_heads):
            color, center = CYCLE[n // G], (n // G + 0.5) * G - 0.5
            ax.plot([n, center], [0.82, 0.18], color=color, lw=1.4, zorder=1)
            ax.scatter(n, 0.9, s=330, color="white", edgecolor=color, lw=2, zorder=2)
            ax.text(n, 0.9, f"q{n}", **middle, fontsize=9.5)
            ax.scatter(center, 0.1, s=330, color=color, marker="s", zorder=2)
        for k in range(K):
            label = {"fontsize": 8.5, "color": "white", "fontweight": "bold"}
            ax.text((k + 0.5) * G - 0.5, 0.1, f"kv{k}", **middle, **label)
        ax.set(xlim=(-0.7, n_heads - 0.3), ylim=(-0.25, 1.25), title=name)
        ax.set_axis_off()
    return fig


def gate():
    """Draw silu beside the ramp that it smooths, and its product with two values."""
    fig, ax = subplots(figsize=(7.2, 2.9))
    x = np.linspace(-6, 6, 200)
    ax.plot(x, np.maximum(x, 0), color=GREY, ls="--", lw=1.4, label="max(x, 0)")
    ax.plot(x, ops.silu(x), color=BLUE, label="silu(x), the gate")
    for up, color in ((2.0, GREEN), (-1.0, RED)):
        ax.plot(x, ops.silu(x) * up, color=color, label=f"gate x up, up = {up:g}")
    by_hand = np.array([-2.0, 2.0])
    ax.plot(by_hand, ops.silu(by_hand), "o", color=BLUE, ms=7)
    ax.axhline(0, color=GREY, lw=0.8, zorder=0)
    ax.set(xlabel="one channel of W_gate x", ylabel="value", ylim=(-4, 8))
    ax.legend(fontsize=9, loc="upper left")
    return fig


def heads(pieces: Sequence[str], maps: Mapping[str, np.ndarray]):
    """Draw attention weights [T, S] of named heads on the same tokens, with one scale."""
    width = 1.2 + 3.7 * len(maps) + (len(maps) == 1)
    fig, axes = subplots(1, len(maps), figsize=(width, 5.0), squeeze=False, sharey=True)
    size = 9.5 if len(pieces) <= 20 else 7
    for ax, (name, weights) in zip(axes[0], maps.items()):
        shown = ax.imshow(weights, cmap=SEQUENTIAL, vmin=0, vmax=1)
        ax.set_xticks(
            range(len(pieces)), pieces, rotation=90, fontsize=size, parse_math=False
        )
        ax.set(xlabel="is asked (key)", title=name)
    axes[0, 0].set_yticks(range(len(pieces)), pieces, fontsize=size, parse_math=False)
    axes[0, 0].set_ylabel("asks (query)")
    fig.colorbar(shown, ax=list(axes[0]), label="attention weight", shrink=0.7)
    return fig


def kv_cache(cfg: AFMConfig, choices: Mapping[str, int], all_weights_bytes: float):
    """Draw the KV cache against the context for each number of key/value heads."""
    fig, ax = subplots(figsize=(8.0, 3.2))
    context = np.linspace(0, 32_768, 50)
    for (name, K), color in zip(choices.items(), (RED, BLUE, ORANGE)):
        each = kv_cache_bytes_per_token(dataclasses.replace(cfg, n_kv_heads=K))
        ax.plot(context, context * each / 1e9, color=color, label=f"{name}, K = {K}")
        if (equal := all_weights_bytes / each) <= context[-1]:
            ax.plot(equal, all_weights_bytes / 1e9, "o", color=color)
            above = all_weights_bytes / 1e9 + 0.3
            ax.text(equal, above, f"{equal:,.0f}", color=color, ha="right")
    label = "all weights: 3.7 bits, embedding 8"
    ax.axhline(all_weights_bytes / 1e9, **DOTTED, label=label)
    ax.set(xlabel="context, tokens", ylabel="KV cache, GB (16 bits)", ylim=(0, 10.5))
    ax.legend(fontsize=9)
    return fig

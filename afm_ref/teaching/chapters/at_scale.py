"""What chapter 7 reads out of programs, and draws: meshes by time and memory, their bounds."""

import contextlib
import functools
import io
import math
import re
from typing import NamedTuple

import numpy as np

from ...config import AFM_ON_DEVICE, AFMConfig
from ...parallelism.compiled import hlo, topologies
from ...parallelism.mesh import AXES, MeshShape
from ...parallelism.predicted import chooser, roofline
from .. import figures, widgets

SEQUENCE = 4096
NAMES = {"weights": "weights and their 16-bit copy"}
# of mesh.AXES
AXIS_COLORS = (figures.BLUE, figures.SKY, figures.PINK, figures.YELLOW, figures.ORANGE)


class Product(NamedTuple):
    """A product of matrices in a program: FLOPs of one device and run, and its result."""

    flops: int
    times: int  # it runs
    result: str  # its type, as "f32[128,32]{1,0}"
    batched: bool  # many small products, as attention's: no matrix of weights
    backward: bool


def products(text: str) -> list[Product]:
    """Return the products of a partitioned program, from its HLO text."""
    module = hlo.Module(text)
    return list(_products(module, module.entry, 1))


def _products(module, name, times):
    computation = module.computations[name]
    for one in computation.values():
        if one.opcode == "dot":
            yield _product(computation, one, times)
        inside = [f for f in hlo.called(one.attributes) if f in module.computations]
        if one.opcode == "while":
            times_in = times * hlo.trips(module.computations, one, name, inside[0])
            yield from _products(module, inside[0], times_in)
        else:
            for called in inside:
                yield from _products(module, called, times)


def _product(computation, one, times):
    """2 FLOPs for each number of the result and of the axes summed over."""
    left, result = map(_sizes, (computation[one.operands[0]].type, one.type))
    axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", one.attributes)[1].split(",")
    flops = 2 * math.prod(result) * math.prod(left[int(axis)] for axis in axes)
    batched = "lhs_batch_dims={" in one.attributes
    return Product(flops, times, one.type, batched, "transpose(jvp" in one.attributes)


def _sizes(type_text):
    return [int(size) for size in re.search(r"\[([\d,]*)\]", type_text)[1].split(",")]


def kept_by_jax(total, x, weights) -> float:
    """Return the numbers a token and layer that JAX keeps for the backward pass.

    total(x [B, T, D], weights of L stacked layers) scans over the layers.
    """
    from jax.ad_checkpoint import print_saved_residuals

    with contextlib.redirect_stdout(io.StringIO()) as listed:
        print_saved_residuals(total, x, weights)
    lines = [line for line in listed.getvalue().splitlines() if "output of scan" in line]
    return sum(math.prod(_sizes(line)[1:]) for line in lines) / x[..., 0].size


def best_of_kinds(found, most_axes: int) -> dict[str, tuple[int, chooser.Candidate]]:
    """Return {axes that a mesh has: its rank, and the best such mesh} of those that fit."""
    table = {}
    for rank, candidate in enumerate((c for c in found if c.fits), start=1):
        used = [axis for axis in AXES if getattr(candidate.shape, axis) > 1]
        if len(used) <= most_axes:
            table.setdefault(" x ".join(used), (rank, candidate))
    return table


@functools.lru_cache(maxsize=64)
def choices(chip: str, chips: int, batch: int):
    """Return the chooser's list for AFM-on-device on so many chips."""
    return chooser.choose(AFM_ON_DEVICE, chips, roofline.CHIPS[chip], batch, SEQUENCE)


def landscape(chip: str, chips: int, batch: int, fsdp: int, model: int):
    """Draw all meshes of a machine, with data x fsdp x model picked out.

    Raises ValueError, as `widgets.explore` shows it, when that mesh does not fit chips or
    model.
    """
    if chips % (fsdp * model):
        raise ValueError(f"fsdp {fsdp} x model {model} does not divide {chips} chips")
    shape = MeshShape(data=chips // (fsdp * model), fsdp=fsdp, model=model)
    found = choices(chip, chips, batch)
    picked = next(choice for choice in found if choice.shape == shape)
    if picked.estimate is None:
        raise ValueError("; ".join(picked.reasons))
    fig, (left, time, memory) = figures.subplots(
        1, 3, figsize=(9.6, 3.6), width_ratios=[3, 1, 1]
    )
    room = roofline.CHIPS[chip].hbm_bytes / 2**30
    _points(left, found, picked, room)
    _time(time, picked.estimate)
    _memory(memory, picked.estimate.memory, room)
    see = "Lower and further left is better; right of the dashed line a mesh does not fit."
    figures.headline(fig, see)
    fits = "fits" if picked.fits else "does NOT fit"
    left.set_title(
        f"{shape}: {picked.estimate.step_s:.2g} s, {picked.estimate.mfu:.0%} MFU, {fits}"
    )
    return fig


def _points(ax, found, picked, room):
    for fits, label, color in (
        (True, "fits", figures.BLUE),
        (False, "too large", figures.RED),
    ):
        points = [_point(c) for c in found if c.estimate and c.fits == fits]
        if points:
            ax.scatter(
                *zip(*points), s=14, alpha=0.5, linewidths=0, color=color, label=label
            )
    ax.plot(*_point(picked), "*", ms=17, color=figures.ORANGE, mec="black")
    ax.axvline(room, color=figures.GREY, ls="--", lw=1.2)
    ax.set(xscale="log", yscale="log", xlabel="memory of a chip, GiB", ylabel="one step, s")
    for axis in (ax.xaxis, ax.yaxis):
        _readable(axis)
    ax.legend(fontsize=9, loc="upper left")


def _readable(axis):
    """Ticks of a logarithmic axis at 1, 2, 5, 10, ..., written as plain numbers."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


def _point(choice):
    return choice.estimate.memory_bytes / 2**30, choice.estimate.step_s


def _time(ax, estimate):
    compute_s, by_axis = estimate.compute_s, estimate.communication_s
    ax.bar("compute", compute_s, color=figures.GREY, label="compute")
    traffic_s = figures.stack(ax, by_axis, "traffic", vertical=True, colors=AXIS_COLORS)
    ax.set(ylabel="s", xlim=(-0.6, 1.6), ylim=(0, 1.45 * max(traffic_s, compute_s)))
    ax.tick_params(axis="x", labelsize=9)
    ax.legend(fontsize=8)


def _memory(ax, memory, room):
    parts = {part: size / 2**30 for part, size in memory.items()}
    held = figures.stack(ax, parts, vertical=True)
    ax.axhline(room, color=figures.GREY, ls="--", lw=1.2)
    ax.set(
        xticks=[], xlim=(-0.6, 0.6), ylim=(0, 1.55 * max(held, room)), ylabel="memory, GiB"
    )
    ax.legend(fontsize=8, loc="upper center")


def mesh_chooser(alt: str) -> None:
    """Display controls for machine, batch and mesh above the landscape."""
    powers = [2**i for i in range(14)]
    widgets.explore(
        landscape,
        alt,
        chip=widgets.choice("chip", list(roofline.CHIPS), "v5p"),
        chips=widgets.stops("chips", powers[3:12], 128),
        batch=widgets.stops("sequences a step", powers[6:14], 2048),
        fsdp=widgets.stops("fsdp", powers[:10], 1),
        model=widgets.stops("model", powers[:4], 1),
    )


def bounds():
    """Draw communication over computing: by tokens a chip, and by the width of a model."""
    fig, (left, right) = figures.subplots(1, 2, figsize=(9.6, 3.6), width_ratios=[3, 2])
    tokens, v5p = np.geomspace(50, 2e5, 50), roofline.V5P
    links, slow = 6 * v5p.link_bandwidth, v5p.dcn_bandwidth
    for share, bandwidth, color, style, label in (
        (1 / 2, links, figures.BLUE, "-", "data, 6 links"),
        (3 / 4, links, figures.SKY, "-", "fsdp, 6 links"),
        (1 / 2, slow, figures.BLUE, "--", "data, between slices, one chip each"),
    ):
        ratio = share * v5p.flops / bandwidth / tokens
        left.plot(tokens, ratio, color=color, ls=style, label=label)
    left.axvspan(4096, 16384, color=figures.PALE, zorder=0, label="public runs")
    left.set(xscale="log", yscale="log", ylim=(0.01, 30))
    figures.finish(left, "tokens a chip (TPU v5p)", "sending / computing")
    sizes = (2, 4, 8)
    for model, cfg, chip, color, marker in (
        ("AFM-on-device, v5p", AFM_ON_DEVICE, v5p, figures.ORANGE, "o"),
        ("server-sized, v4", topologies.SERVER_SIZED, roofline.V4, figures.GREEN, "s"),
    ):
        right.plot(
            sizes,
            [waiting(cfg, n, chip) for n in sizes],
            marker,
            ls="-",
            color=color,
            label=model,
        )
    right.set(xticks=sizes, ylim=(0, 1.6))
    figures.finish(right, "devices along model", "waiting / computing")
    left.axhline(1, color=figures.BLACK, lw=1)
    left.set_title("below 1 it hides behind compute")
    right.set_title("hides behind nothing")
    return fig


def waiting(cfg: AFMConfig, n_model: int, chip: roofline.Chip) -> float:
    """Return the time of tensor parallelism's sums over that of the products, (7.13)."""
    widths = 2 * cfg.head_dim * (cfg.n_heads + cfg.n_kv_heads) + 3 * cfg.d_ff
    return 5 / 2 * (n_model - 1) / widths * chip.flops / (2 * chip.link_bandwidth)


def compiled_memory(cells: dict):
    """Draw what recorded programs hold on a chip, beside the formula's parts.

    cells: {name: (mesh, formula's parts, argument bytes, temporary bytes, the chip's)}.
    """
    fig, ax = figures.subplots(figsize=(9.6, 1.2 + 0.8 * len(cells)))
    for y, (_, parts, arguments, temporary, room) in enumerate(cells.values()):
        held = {
            "compiled: state, 12 bytes a number": arguments,
            "compiled: temporary": temporary,
        }
        _bar(ax, y - 0.2, held, (figures.BLACK, figures.GREY), y == 0)
        named = {NAMES.get(part, part): size for part, size in parts.items()}
        _bar(ax, y + 0.2, named, figures.CYCLE, y == 0)
        label = "_" if y else "the chip's memory"
        ends = [y - 0.45, y + 0.45]
        ax.plot([room / 2**30] * 2, ends, color=figures.RED, lw=2.5, label=label)
    figures.name_rows(ax, [f"{name}\n{mesh}" for name, (mesh, *_) in cells.items()])
    ax.set(xlabel="GiB of one chip", xlim=(0, 100))
    figures.legend_beside(ax)
    return fig


def _bar(ax, at, parts, colors, named):
    start = 0.0
    for (name, size), color in zip(parts.items(), colors, strict=False):
        label = name if named else "_"
        ax.barh(at, size / 2**30, 0.36, left=start, color=color, label=label)
        start += size / 2**30

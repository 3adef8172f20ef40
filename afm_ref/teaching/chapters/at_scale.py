"""What chapter 4 draws: all meshes of a machine, time against memory; one taken apart."""

import functools

from ...config import AFM_ON_DEVICE
from ...parallelism.mesh import AXES, MeshShape
from ...parallelism.predicted import chooser, roofline
from .. import figures, widgets

SEQUENCE = 4096
AXIS_COLORS = dict(
    zip(AXES, (figures.BLUE, figures.SKY, figures.PINK, figures.YELLOW, figures.ORANGE))
)


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
    _points(left, found, picked, roofline.CHIPS[chip])
    _time(time, picked.estimate)
    _memory(memory, picked.estimate, roofline.CHIPS[chip])
    fits = "fits" if picked.fits else "does NOT fit"
    left.set_title(
        f"{shape}: {picked.estimate.step_s:.2g} s, {picked.estimate.mfu:.0%} MFU, {fits}"
    )
    return fig


def _points(ax, found, picked, chip):
    with_estimate = [choice for choice in found if choice.estimate]
    dots = dict(s=14, alpha=0.5, linewidths=0)
    for color, label in ((figures.BLUE, "fits"), (figures.RED, "too large")):
        points = [_point(c) for c in with_estimate if c.fits == (label == "fits")]
        if points:
            ax.scatter(*zip(*points), color=color, label=label, **dots)
    ax.plot(*_point(picked), "*", ms=17, color=figures.ORANGE, mec="black")
    ax.axvline(chip.hbm_bytes / 2**30, color=figures.GREY, ls="--", lw=1.2)
    ax.set(xscale="log", yscale="log", xlabel="memory of a chip, GiB", ylabel="one step, s")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(lambda x, _: "")
    ax.legend(fontsize=9, loc="upper left")


def _point(choice):
    return choice.estimate.memory_bytes / 2**30, choice.estimate.step_s


def _time(ax, estimate):
    ax.bar(0, estimate.compute_s, color=figures.GREY, label="compute")
    colors = [AXIS_COLORS[axis] for axis in estimate.communication_s]
    traffic_s = figures.stack(
        ax, estimate.communication_s, at=1, vertical=True, colors=colors
    )
    top = 1.45 * max(traffic_s, estimate.compute_s)
    ax.set(
        xticks=[0, 1],
        xticklabels=["compute", "traffic"],
        ylabel="s",
        xlim=(-0.6, 1.6),
        ylim=(0, top),
    )
    ax.tick_params(axis="x", labelsize=9)
    ax.legend(fontsize=8)


def _memory(ax, estimate, chip):
    room = chip.hbm_bytes / 2**30
    held = figures.stack(
        ax, {part: size / 2**30 for part, size in estimate.memory.items()}, vertical=True
    )
    ax.axhline(room, color=figures.GREY, ls="--", lw=1.2)
    ax.set(
        xticks=[], ylabel="memory, GiB", xlim=(-0.6, 0.6), ylim=(0, 1.55 * max(held, room))
    )
    ax.legend(fontsize=8, loc="upper center")


def mesh_chooser(alt: str) -> None:
    """Display controls for machine, batch and mesh above the landscape."""
    powers = [2**i for i in range(14)]
    widgets.explore(
        landscape,
        alt,
        chip=widgets.choice("chip", list(roofline.CHIPS), "v5p"),
        chips=widgets.stops("chips", powers[3:12], 512),
        batch=widgets.stops("sequences a step", powers[6:14], 2048),
        fsdp=widgets.stops("fsdp", powers[:10], 1),
        model=widgets.stops("model", powers[:4], 1),
    )

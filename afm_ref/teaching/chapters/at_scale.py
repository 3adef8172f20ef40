"""What chapter 7 draws: all meshes of a machine, time against memory; one taken apart."""

import functools

from ...config import AFM_ON_DEVICE
from ...parallelism.mesh import MeshShape
from ...parallelism.predicted import chooser, roofline
from .. import figures, widgets

SEQUENCE = 4096
# of mesh.AXES
AXIS_COLORS = (figures.BLUE, figures.SKY, figures.PINK, figures.YELLOW, figures.ORANGE)


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
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    ax.legend(fontsize=9, loc="upper left")


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
        chips=widgets.stops("chips", powers[3:12], 512),
        batch=widgets.stops("sequences a step", powers[6:14], 2048),
        fsdp=widgets.stops("fsdp", powers[:10], 1),
        model=widgets.stops("model", powers[:4], 1),
    )

"""Chapter 4's widget: every mesh of a machine as a point, step time against memory, and one of them taken apart."""

import functools

from ..config import AFM_ON_DEVICE
from ..parallelism import chooser, roofline
from ..parallelism.mesh import AXES, MeshShape
from . import figures, widgets

SEQUENCE = 4096
AXIS_COLORS = dict(zip(AXES, (figures.BLUE, figures.SKY, figures.PINK, figures.YELLOW, figures.ORANGE)))
PART_COLORS = dict(
    weights=figures.BLUE, gradients=figures.SKY, optimizer=figures.GREEN, activations=figures.ORANGE,
    gathered=figures.PINK,
)  # fmt: skip


@functools.lru_cache(maxsize=64)
def choices(chip: str, chips: int, batch: int):
    """Return the chooser's list for AFM-on-device on so many chips."""
    return chooser.choose(AFM_ON_DEVICE, chips, roofline.CHIPS[chip], batch, SEQUENCE)


def landscape(chip: str, chips: int, batch: int, fsdp: int, model: int):
    """Return the figure of all meshes of a machine, with data x fsdp x model picked out.

    Raises ValueError, as `widgets.explore` shows it, when the picked mesh does not fit the chips or the model.

    Source: our own drawing [ours].
    Test: tests/teaching/test_at_scale_widgets.py::test_the_picked_mesh_is_the_one_taken_apart
    """
    if chips % (fsdp * model):
        raise ValueError(f"fsdp {fsdp} x model {model} does not divide {chips} chips")
    shape = MeshShape(data=chips // (fsdp * model), fsdp=fsdp, model=model)
    found = choices(chip, chips, batch)
    picked = next(choice for choice in found if choice.shape == shape)
    if picked.estimate is None:
        raise ValueError("; ".join(picked.reasons))
    fig, (left, time, memory) = figures.subplots(1, 3, figsize=(9.6, 3.6), width_ratios=[3, 1, 1])
    _points(left, found, picked, roofline.CHIPS[chip])
    _time(time, picked.estimate)
    _memory(memory, picked.estimate, roofline.CHIPS[chip])
    fits = "fits" if picked.fits else "does NOT fit"
    left.set_title(f"{shape}: {picked.estimate.step_s:.2g} s, {picked.estimate.mfu:.0%} MFU, {fits}", fontsize=11)
    return fig


def _points(ax, found, picked, chip):
    with_estimate = [choice for choice in found if choice.estimate]
    for fits, color, label in ((True, figures.BLUE, "fits"), (False, figures.RED, "too large")):
        points = [(c.estimate.memory_bytes / 2**30, c.estimate.step_s) for c in with_estimate if c.fits == fits]
        if points:
            ax.scatter(*zip(*points), s=14, color=color, alpha=0.5, label=label, linewidths=0)
    ax.plot(picked.estimate.memory_bytes / 2**30, picked.estimate.step_s, "*", ms=17, color=figures.ORANGE, mec="black")
    ax.axvline(chip.hbm_bytes / 2**30, color=figures.GREY, ls="--", lw=1.2)
    ax.set(xscale="log", yscale="log", xlabel="memory of a chip, GiB", ylabel="one step, s")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(lambda x, _: "")
    ax.legend(fontsize=9, loc="upper left")


def _time(ax, estimate):
    ax.bar(0, estimate.compute_s, color=figures.GREY, label="compute")
    bottom = 0.0
    for axis, seconds in estimate.communication_s.items():
        if seconds > 0:
            ax.bar(1, seconds, bottom=bottom, color=AXIS_COLORS[axis], label=axis)
            bottom += seconds
    top = 1.45 * max(bottom, estimate.compute_s)
    ax.set(xticks=[0, 1], xticklabels=["compute", "traffic"], ylabel="s", xlim=(-0.6, 1.6), ylim=(0, top))
    ax.tick_params(axis="x", labelsize=9)
    ax.legend(fontsize=8)


def _memory(ax, estimate, chip):
    bottom = 0.0
    for part, size in estimate.memory.items():
        ax.bar(0, size / 2**30, bottom=bottom, color=PART_COLORS[part], label=part if size else None)
        bottom += size / 2**30
    ax.axhline(chip.hbm_bytes / 2**30, color=figures.GREY, ls="--", lw=1.2)
    ax.set(xticks=[], ylabel="memory, GiB", xlim=(-0.6, 0.6), ylim=(0, 1.55 * max(bottom, chip.hbm_bytes / 2**30)))
    ax.legend(fontsize=8, loc="upper center")


def mesh_chooser(alt: str, chip="v5p", chips=512, batch=2048, fsdp=1, model=1) -> None:
    """Display controls for machine, batch and mesh above the landscape."""
    powers = [2**i for i in range(14)]
    widgets.explore(
        landscape,
        alt,
        chip=widgets.choice("chip", list(roofline.CHIPS), chip),
        chips=widgets.steps("chips", powers[3:12], chips),
        batch=widgets.steps("sequences a step", powers[6:14], batch),
        fsdp=widgets.steps("fsdp", powers[:10], fsdp),
        model=widgets.steps("model", powers[:4], model),
    )

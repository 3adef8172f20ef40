"""What chapter 6 draws: a ring to step through, bytes and seconds, a mesh to choose."""

from collections import Counter

import numpy as np

from ...config import AFM_ON_DEVICE
from ...containers import Stream
from ...parallelism.compiled import collectives
from ...parallelism.mesh import MeshShape, make_mesh
from ...parallelism.predicted import chooser, roofline
from ...parallelism.sharded.pipelining import Pipeline
from ...parallelism.sharded.plan import Plan
from ...parallelism.sharded.strategies import placed_batch_shapes, placed_shapes
from ...parallelism.simulator import ring_collectives
from .. import figures, widgets
from . import parallelism_drawing

COLLECTIVES = "all-gather", "reduce-scatter", "all-reduce", "all-to-all", "permute"
WHOLE = "all-gather", "permute"  # those that send a device's array in one chunk


def ring_figure(name: str, n: int, step: int):
    """Draw one step of a collective on a ring of n devices, or the last one."""
    collective = getattr(ring_collectives, name.replace("-", "_"))
    trace = collective([np.full(1 if name in WHOLE else n, i) for i in range(n)])
    fig, ax = figures.subplots(figsize=(8.6 if name == "all-to-all" else 5.6, 3.4))
    parallelism_drawing.ring_step(ax, trace, min(step, len(trace.steps) - 1))
    return fig


def ring_stepper(alt: str) -> None:
    """Display controls for collective, devices and step above the figure."""
    widgets.explore(
        ring_figure,
        alt,
        name=widgets.choice("collective", list(COLLECTIVES), "all-reduce"),
        n=widgets.slider("devices", 2, 6, 4),
        step=widgets.slider("step", 0, 10, 2),
    )


def visitors(loss, plan: Plan, B: int, T: int) -> list[bool]:
    """Return whether a loss's program, or its gradient's, has arrays of ring attention's
    visitors: of all layers, of one.

    A device is visited by the keys and values of all others, [B, part, heads, H].
    """
    import jax

    cfg, n = plan.cfg, plan.shape.seq
    shapes = placed_shapes(plan, np.float32), placed_batch_shapes(plan, B, T)
    text = str(jax.make_jaxpr(loss)(*shapes))
    part = f"{n - 1},{B},{T // n},{cfg.n_kv_heads},{cfg.head_dim}]"
    return [f"[{layers}{part}" in text for layers in (f"{cfg.n_layers},", "")]


def stage_work(layers, n_stages: int, n_micro: int) -> list[dict[int, int]]:
    """Return what each stage of a real Pipeline works on: {microbatch: ticks}.

    Its layers hand on what they get; microbatches are numbered from 1, and 0 is zeros.
    """
    import jax
    from jax.sharding import PartitionSpec as P

    seen = [Counter() for _ in range(n_stages)]

    def note(stage, x):
        seen[stage][int(x)] += 1

    def step(stream, layer, rows):
        jax.debug.callback(note, jax.lax.axis_index("pipe"), stream.x.max())
        return stream, rows

    specs = dict(in_specs=(P("pipe"), P()), out_specs=P("pipe"))
    run = lambda layers, x: Pipeline(layers, n_micro).run(step, Stream(x))[0].x  # noqa: E731
    run = jax.shard_map(run, mesh=make_mesh(MeshShape(pipe=n_stages)), **specs)
    jax.jit(run)(layers, np.arange(1.0, n_micro + 1).reshape(-1, 1, 1))
    jax.effects_barrier()
    return [dict(sorted(one.items())) for one in seen]


def bytes_figure(results):
    """Draw what a device sends in a step, by kind: {name: {"plan": ..., "found": ...}}."""
    fig, ax = figures.subplots(figsize=(8.4, 3.6))
    colors = dict(zip(collectives.KINDS, figures.CYCLE, strict=False))
    tables = [collectives.by_kind(row["found"]) for row in results.values()]
    for at, table in enumerate(tables):
        sizes = {kind: table[kind]["bytes_sent"] / 1e3 for kind in colors if kind in table}
        figures.stack(ax, sizes, at=at, colors=[colors[kind] for kind in sizes])
    meshes = [row["plan"].shape for row in results.values()]
    names = [f"{name}\n{mesh}: {mesh.size} devices" for name, mesh in zip(results, meshes)]
    figures.name_rows(ax, names)
    ax.tick_params(axis="y", labelsize=8)
    ax.set_xlabel("bytes that one device sends in a step, kB")
    _legend(ax, **figures.BESIDE)
    return fig


def seconds(estimate: roofline.Estimate) -> dict[str, float]:
    """Return what a step's time is made of."""
    return {
        "computes": estimate.compute_s,
        "waits for what is sent": estimate.exposed_s,
        "idles in the pipeline": estimate.idle_s,
    }


def gibibytes(estimate: roofline.Estimate) -> dict[str, float]:
    """Return what lies on a chip, in GiB: the 16 bytes a parameter are one part."""
    size = {part: n_bytes / 2**30 for part, n_bytes in estimate.memory.items()}
    return {
        "weights, gradients, moments": size["weights"]
        + size["gradients"]
        + size["optimizer"],
        "activations": size["activations"],
        "gathered weights": size["gathered"],
    }


def steps_figure(estimates):
    """Draw the predicted seconds of a step and the memory of a chip: {mesh: estimate}."""
    fig, axes = figures.subplots(1, 2, figsize=(8.6, 3.6), sharey=True)
    for at, one in enumerate(estimates.values()):
        for ax, parts in zip(axes, (seconds(one), gibibytes(one))):
            end = figures.stack(ax, parts, at=at)
            ax.text(end, at, f" {end:.3g}", va="center", fontsize=9)
    figures.name_rows(axes[0], list(estimates))
    for ax, what in zip(axes, ("one step, s", "memory of a chip, GiB")):
        ax.set_xlabel(what)
        ax.set_xlim(right=1.12 * ax.get_xlim()[1])
        _legend(ax, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return fig


def _legend(ax, **options):
    """Name what is drawn, each colour once."""
    once = dict(zip(*reversed(ax.get_legend_handles_labels())))
    ax.legend(once.values(), list(once), fontsize=9, **options)


SEQUENCE = 4096


def mesh_figure(data: int, fsdp: int, model: int, seq: int, pipe: int, batch: int):
    """Draw where a step of AFM-on-device on TPU v5p spends its time, and a chip's memory.

    Raises ValueError, as `explore` shows it, for a mesh that does not fit model and batch.
    """
    shape = MeshShape(data, fsdp, pipe, seq, model)
    plan = chooser.plan_for(AFM_ON_DEVICE, shape, batch)
    estimate = roofline.step(plan, batch, SEQUENCE, roofline.V5P)
    fig, (top, bottom) = figures.subplots(2, 1, figsize=(8.2, 3.8))
    _one_bar(top, seconds(estimate), "s")
    top.set_xlabel("one training step, s")
    top.set_title(
        f"{shape}\n{shape.size} chips, {estimate.mfu:.0%} of their peak FLOP/s used for the model",
        loc="left",
    )
    held, room = (
        _one_bar(bottom, gibibytes(estimate), "GiB"),
        roofline.V5P.hbm_bytes / 2**30,
    )
    bottom.axvline(room, color=figures.BLACK, ls="--", lw=1.4)
    bottom.text(
        room, 0.52, f"a v5p chip has {room:.0f} GiB", ha="right", va="bottom", fontsize=9
    )
    bottom.set(
        xlabel="memory of one chip at the worst moment, GiB",
        xlim=(0, 1.03 * max(room, held)),
    )
    return fig


def _one_bar(ax, parts, unit):
    """Draw the parts as one bar, each named with its size; return its length."""
    digits = {name: ",.0f" if size >= 1000 else ".3g" for name, size in parts.items()}
    named = {f"{name}, {size:{digits[name]}} {unit}": size for name, size in parts.items()}
    length = figures.stack(ax, named)
    ax.set(yticks=[], ylim=(-0.5, 0.75))
    figures.legend_beside(ax, fontsize=8.5)
    return length


def mesh_explorer(alt: str) -> None:
    """Display controls for mesh and batch above the predicted step time and memory."""
    powers = [2**i for i in range(14)]
    widgets.explore(
        mesh_figure,
        alt,
        data=widgets.stops("data", powers[:12], 64),
        fsdp=widgets.stops("fsdp", powers[:11], 8),
        model=widgets.stops("model", powers[:4], 4),
        seq=widgets.stops("seq", powers[:6], 1),
        pipe=widgets.stops("pipe", [1, 2, 13, 26], 1),
        batch=widgets.stops("sequences in a batch", powers[3:], 2048),
    )

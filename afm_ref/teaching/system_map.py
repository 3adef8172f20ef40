"""The map of the whole system: from data to adapters, and the family of models."""

from typing import NamedTuple

from . import figures


class Box(NamedTuple):
    """A place on the map; x, y: the lower left corner, in units of the axes (12.4 x 7)."""

    chapters: tuple[int, ...]
    title: str
    text: str
    x: float
    y: float
    width: float
    height: float


WHOLE_ROAD = 12  # the chapter that walks what follows pre-training
WALKED = {8, 9, 10, 11}
# One row from left to right, what it stands on below, what comes out above.
BOXES = (
    Box((2,), "Data", "web crawl,\nlicensed, code,\nmath", 0.2, 2.95, 1.9, 2.0),
    Box((3, 4, 5), "Pre-training", "core, continued,\nlonger context;\nprune and distil", 2.65, 2.95, 2.1, 2.0),
    Box((10,), "Post-training", "fine-tuning, reward\nmodel, committee", 5.3, 3.82, 2.1, 1.13),
    Box((11,), "RLHF", "MDLOO", 5.3, 2.95, 2.1, 0.75),
    Box((9,), "Optimization", "palettization to\n3.7 bits a weight,\nrecovery adapter", 7.95, 2.95, 2.1, 2.0),
    Box((8,), "Adapters", "LoRA, rank 16,\none per feature", 10.4, 2.95, 1.8, 2.0),
    Box((1,), "The transformer", "one forward function: embeddings, RMSNorm, RoPE, grouped-query attention, SwiGLU",
        2.65, 1.45, 9.55, 1.0),
    Box((6,), "Parallelism", "shards of data, weights, sequence", 2.65, 0.2, 4.55, 0.95),
    Box((7,), "At scale", "AXLearn on JAX and XLA, thousands of chips", 7.45, 0.2, 4.75, 0.95),
)  # fmt: skip
FAMILY = (
    ("On-device model", "about 3 billion weights", 2.65, True),
    ("Server model", "larger, unpublished size", 5.1, True),
    ("Coding model", "in Xcode", 7.55, False),
    ("Diffusion model", "images", 10.0, False),
)
# face, edge and text of a box: all are lit; this one is; another is
ALL = ("#DCE9F5", figures.BLUE, figures.BLACK)
LIT = (figures.ORANGE, figures.BLACK, figures.BLACK)
OTHER = (figures.PALE, "#C3C9D1", "#5B626C")
ROUNDING = 0.12
CENTRED = {"ha": "center", "va": "center"}
ALT = (
    "Map of the system. From left to right: data, pre-training, post-training with RLHF, optimization by "
    "palettization, adapters. Below them: the transformer, parallelism, and AXLearn on JAX and XLA at scale. Above: "
    "the family of models, on-device and server (taught here), coding and diffusion (not taught)."
)


def at_chapter(number: int):
    """Return (figure, alt text) of the map, one chapter's boxes lit up; 0 lights all, 12
    those of the chapters that it walks.

    Source: BLOG24 (the family, the path from data to adapters); chapters are ours
        [confirmed].
    Test: tests/teaching/test_figures.py::test_the_map_names_every_chapter
    """
    taught = {0, WHOLE_ROAD}.union(*(box.chapters for box in BOXES))
    if number not in taught:
        raise ValueError(f"no chapter {number} on the map; it shows {sorted(taught)}")
    fig, ax = figures.subplots(figsize=(9.6, 5.6))
    ax.set(xlim=(0, 12.4), ylim=(0, 7.15))
    ax.set_axis_off()
    lit = WALKED if number == WHOLE_ROAD else {number}
    for box in BOXES:
        look = LIT if lit.intersection(box.chapters) else OTHER
        _box(ax, box, *(look if number else ALL))
    _arrows(ax)
    _family(ax)
    return fig, ALT + (f" Chapter {number} is lit up." if number else "")


def label(chapters: tuple[int, ...]) -> str:
    """Return "3-5" of (3, 4, 5)."""
    return "-".join(str(n) for n in dict.fromkeys((chapters[0], chapters[-1])))


def _box(ax, box, face, edge, ink):
    chapters, title, text, x, y, width, height = box
    figures.box(ax, x, y, width, height, ROUNDING, fc=face, ec=edge, lw=1.4)
    middle, top = x + width / 2, y + height - 0.27
    title = f"{label(chapters)}  {title}"
    ax.text(middle, top, title, **CENTRED, fontsize=11.5, fontweight="bold", color=ink)
    ax.text(middle, (y + top - 0.14) / 2, text, **CENTRED, fontsize=10.5, color=ink)


def _arrows(ax):
    style = {"arrowstyle": "-|>", "color": figures.BLACK, "lw": 1.6, "mutation_scale": 14}
    for start, end in ((2.1, 2.65), (4.75, 5.3), (7.4, 7.95), (10.05, 10.4)):
        ax.annotate("", (end, 3.95), (start, 3.95), arrowprops=style)
    corner = [11.3, 11.3, 3.75], [4.95, 5.42, 5.42]
    ax.plot(*corner, color=figures.BLACK, lw=1.6, solid_joinstyle="miter")
    for x in (3.75, 6.2):
        ax.annotate("", (x, 5.9), (x, 5.41), arrowprops=style)


def _family(ax):
    bold, grey = dict(fontsize=12, fontweight="bold"), dict(fontsize=9.5, color="#3A4048")
    headings = {6.6: "The family of\nmodels", 1.95: "Built from", 0.67: "Trained on"}
    for y, heading in headings.items():
        ax.text(0.2, y, heading, va="center", **bold)
    ax.text(0.2, 6.03, "(dashed: not taught)", va="center", **grey)
    for name, text, x, taught in FAMILY:
        edge = dict(ec=figures.BLUE) if taught else dict(ec=figures.GREY, ls=(0, (4, 2)))
        figures.box(ax, x, 5.9, 2.2, 1.05, ROUNDING, fc="white", lw=1.6, **edge)
        ax.text(
            x + 1.1, 6.65, name, **CENTRED, **bold | {"fontsize": 11}, color=figures.BLACK
        )
        ax.text(x + 1.1, 6.22, text, **CENTRED, **grey)

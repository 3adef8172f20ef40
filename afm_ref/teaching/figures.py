"""One style for all figures, what many of them draw, and one way to show and save them.

Colours are Okabe and Ito's, which people with any common colour blindness tell apart.
`show` is how a notebook ends a figure: under a line that says what to see it displays a PNG
with its alt text, and writes the same bytes to the folder named by the environment variable
AFM_REF_FIGURES when that is set (tools.regenerate sets it; a reader's run writes nothing).
"""

import io
import os
import pathlib
import textwrap
from collections.abc import Mapping

import numpy as np

from ..disk import atomic
from ..evaluation import mean_interval

BLUE, ORANGE, GREEN, PINK, SKY, RED, YELLOW, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#222222",
)  # fmt: skip
CYCLE = (BLUE, ORANGE, GREEN, PINK, SKY, RED)
GREY, PALE = "#8A8F98", "#EEF1F5"
COLORS = (*CYCLE, YELLOW, GREY)  # as many as there are markers
# beside the colours: a curve is told apart without them
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DOTTED = {"color": GREY, "ls": ":", "lw": 1.4}  # a line that marks a value
BESIDE = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}  # where a legend stands
SEQUENTIAL, DIVERGING = "cividis", "PuOr"  # both read well without red and green

DPI = 120
# an image is shown smaller than its pixels, so that it stays sharp on dense screens
SCREEN_DPI = 80
MAX_BYTES = 60_000
FOLDER_VARIABLE = "AFM_REF_FIGURES"

STYLE = {
    "figure.dpi": DPI,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "lines.linewidth": 2.0,
}


def subplots(*args, figsize=(8.0, 3.6), **kwargs):
    """Return (figure, axes) as pyplot.subplots does, in one style, without global state."""
    import matplotlib
    from cycler import cycler
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, "axes.prop_cycle": cycler(color=CYCLE)}):
        fig = Figure(figsize=figsize)
        axes = fig.subplots(*args, **kwargs)
    return fig, axes


def bare(ax):
    """Return the axes without frame and ticks; title and labels stay."""
    ax.spines[:].set_visible(False)
    ax.set(xticks=[], yticks=[])
    return ax


def styled(groups: Mapping):
    """Return (name, value, its color and marker) of each {name: value}, to be told apart.

    ValueError: none or too many names.
    """
    if not 0 < len(groups) <= len(COLORS):
        raise ValueError(
            f"give 1 to {len(COLORS)} curves, which can be told apart, got {list(groups)}"
        )
    looks = [dict(color=color, marker=marker) for color, marker in zip(COLORS, MARKERS)]
    return list(zip(groups, groups.values(), looks))


def band(ax, x, low, high, color) -> None:
    """Shade the area between two curves."""
    ax.fill_between(x, low, high, color=color, alpha=0.15, lw=0, antialiased=False)


def mean_line(ax, x, table, **line) -> None:
    """Draw the mean of table [seeds, T] with its 95% t-interval as a band, if seeds > 1."""
    (drawn,) = ax.plot(x, np.mean(table, axis=0), **{"ms": 5, "lw": 1.6, **line})
    if len(table) > 1:
        _, low, high = np.transpose([*map(mean_interval, np.transpose(table))])
        band(ax, x, low, high, drawn.get_color())


def error_bars(ax, at, intervals, style: str = "", across: bool = False, **line) -> None:
    """Draw each (middle, low, high) as a point with a bar, at each x or across at each y."""
    middle, low, high = np.transpose(np.asarray(intervals, np.float64))
    # rounding may put the middle outside
    ends = np.maximum(0, (middle - low, high - middle))
    xy = dict(x=middle, y=at, xerr=ends) if across else dict(x=at, y=middle, yerr=ends)
    ax.errorbar(**xy, fmt=style, **{"capsize": 3, **line})


def beside(ax, groups: Mapping, width: float, **line) -> None:
    """Draw {name: (x, intervals)} as error bars in styles of their own, side by side."""
    shifts = np.linspace(-width, width, len(groups)) if len(groups) > 1 else [0.0]
    for shift, (name, (x, intervals), style) in zip(shifts, styled(groups)):
        error_bars(ax, x + shift, intervals, label=name, **style, **line)


def stack(
    ax, parts: Mapping, at: float | str = 0.0, vertical: bool = False, colors=CYCLE
) -> float:
    """Draw {name: size} as one bar of parts, return its length; size 0 has no label."""
    draw, start = (ax.bar, "bottom") if vertical else (ax.barh, "left")
    end = 0.0
    for (name, size), color in zip(parts.items(), colors, strict=False):
        draw(at, size, **{start: end}, color=color, label=name if size else "_nolegend_")
        end += size
    return end


def name_rows(ax, names) -> None:
    """Name the rows at y = 0, 1, ..., the first on top."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)


def box(ax, x, y, width, height, rounding: float = 0.0, **style) -> None:
    """Draw a box with its corner of least x and y there, its corners rounded if asked."""
    from matplotlib.patches import FancyBboxPatch

    shape = f"round,pad=0,rounding_size={rounding}" if rounding else "square,pad=0"
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=shape, **style))


def legend_beside(ax, **options):
    """Return a legend to the right of the axes, where it covers nothing."""
    return ax.legend(**{"fontsize": 9, **BESIDE, **options})


def finish(ax, x: str, y: str, **legend) -> None:
    """Name both axes, and in a legend what is drawn."""
    ax.set(xlabel=x, ylabel=y)
    ax.legend(**{"fontsize": 9, **legend})


def png(fig) -> bytes:
    """Return the figure as PNG bytes: the same on every run, 256 colours, no metadata."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    for ax in fig.axes:
        if ax.get_legend():
            ax.get_legend().set_frame_on(False)
    canvas = FigureCanvasAgg(fig)
    with matplotlib.rc_context(STYLE):
        fig.set_dpi(DPI)
        canvas.draw()
    pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    out = io.BytesIO()
    pixels.quantize(256).save(out, format="png", optimize=True)
    return out.getvalue()


def save(name: str, fig, alt: str) -> bytes:
    """Return the figure's PNG bytes, written as NAME.png if AFM_REF_FIGURES names a folder.

    A figure of more than 60 kB raises ValueError: the notebooks hold it as text, and GitHub
    shows no large ones.
    """
    if not name.replace("_", "").isalnum():
        raise ValueError(
            f"figure name {name!r} must be letters, digits and _, such as '01_rope_geometry'"
        )
    if len(alt) < 20:
        raise ValueError(
            f"alt text must say in a sentence what the figure shows; got {alt!r}"
        )
    data = png(fig)
    if len(data) > MAX_BYTES:
        raise ValueError(
            f"figure {name} takes {len(data)} bytes, more than {MAX_BYTES}: draw less or smaller"
        )
    if folder := os.environ.get(FOLDER_VARIABLE):
        atomic.write(pathlib.Path(folder) / f"{name}.png", data)
    return data


def image(data: bytes, alt: str):
    """Return what a notebook displays: an image with alt text, at its size on paper."""
    from IPython.display import Image

    pixels = int.from_bytes(data[16:20])  # the width in a PNG's header
    return Image(data=data, format="png", width=round(pixels * SCREEN_DPI / DPI), alt=alt)


def headline(fig, see: str) -> None:
    """Write what to see over the figure, at its left.

    ValueError: longer than two lines.
    """
    lines = textwrap.wrap(
        see, round(11 * fig.get_figwidth())
    )  # letters of 11 points an inch
    if not 1 <= len(lines) <= 2:
        raise ValueError(f"say in one line, two at most, what to see; got {see!r}")
    fig.suptitle(
        "\n".join(lines), x=0.01, ha="left", fontsize=11, fontweight="bold", color=BLACK
    )


def told(name: str, fig, alt: str, see: str):
    """Return the image of a figure under a line that says what to see; save it where `save`
    does.
    """
    headline(fig, see)
    return image(save(name, fig, alt), f"{see} {alt}")


def show(name: str, fig, alt: str, see: str) -> None:
    """Display the figure in the notebook, as `told` has it."""
    from IPython.display import display

    display(told(name, fig, alt, see))

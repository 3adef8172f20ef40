"""One style for all figures, and one way to show and save them.

Colours are Okabe and Ito's, which people with any common colour blindness tell apart. `show` is how a notebook ends
a figure: it displays a PNG with its alt text, and writes the same bytes to the folder named by the environment
variable AFM_REF_FIGURES when that is set (tools.regenerate sets it; a reader's run writes nothing).
"""

import io
import os
import pathlib

from .. import atomic

BLUE, ORANGE, GREEN, PINK, SKY, RED, YELLOW, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#222222",
)  # fmt: skip
CYCLE = (BLUE, ORANGE, GREEN, PINK, SKY, RED)
GREY, PALE = "#8A8F98", "#EEF1F5"
SEQUENTIAL, DIVERGING = "cividis", "PuOr"  # both read well without red and green

DPI = 120
SCREEN_DPI = 80  # an image is shown smaller than its pixels, so that it stays sharp on dense screens
MAX_BYTES = 60_000
FOLDER_VARIABLE = "AFM_REF_FIGURES"

STYLE = {
    "figure.dpi": DPI,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "lines.linewidth": 2.0,
}


def subplots(*args, **kwargs):
    """Return (figure, axes) as pyplot.subplots does, in the project's style and known to no global state."""
    import matplotlib
    from cycler import cycler
    from matplotlib.figure import Figure

    size = kwargs.pop("figsize", (8.0, 3.6))
    with matplotlib.rc_context({**STYLE, "axes.prop_cycle": cycler(color=CYCLE)}):
        fig = Figure(figsize=size)
        axes = fig.subplots(*args, **kwargs)
    return fig, axes


def bare(ax):
    """Return the axes without frame and ticks; title and labels stay."""
    ax.spines[:].set_visible(False)
    ax.set(xticks=[], yticks=[])
    return ax


def png(fig) -> bytes:
    """Return the figure as PNG bytes: the same on every run, with 256 colours at most and no metadata."""
    import matplotlib
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    for ax in fig.axes:
        if ax.get_legend():
            ax.get_legend().set_frame_on(False)
    canvas = FigureCanvasAgg(fig)
    with matplotlib.rc_context(STYLE):
        fig.set_dpi(DPI)
        canvas.draw()
    rgb = np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])
    pixels = Image.fromarray(rgb).quantize(colors=256, method=Image.Quantize.MEDIANCUT, dither=0)
    out = io.BytesIO()
    pixels.save(out, format="png", optimize=True)
    return out.getvalue()


def save(name: str, fig, alt: str) -> bytes:
    """Return the figure's PNG bytes, after writing them as NAME.png if AFM_REF_FIGURES names a folder.

    A figure of more than 60 kB raises ValueError: the notebooks hold it as text, and GitHub shows no large ones.
    """
    if not name.replace("_", "").isalnum():
        raise ValueError(f"figure name {name!r} must be letters, digits and _, such as '01_rope_geometry'")
    if len(alt) < 20:
        raise ValueError(f"alt text must say in a sentence what the figure shows; got {alt!r}")
    data = png(fig)
    if len(data) > MAX_BYTES:
        raise ValueError(f"figure {name} takes {len(data)} bytes, more than {MAX_BYTES}: draw less or smaller")
    if folder := os.environ.get(FOLDER_VARIABLE):
        atomic.write(pathlib.Path(folder) / f"{name}.png", data)
    return data


def image(data: bytes, alt: str):
    """Return what a notebook displays for PNG bytes: an image with alt text, at its size on paper."""
    import struct

    from IPython.display import Image

    (pixels,) = struct.unpack(">I", data[16:20])  # the width in a PNG's header
    return Image(data=data, format="png", width=round(pixels * SCREEN_DPI / DPI), alt=alt)


def show(name: str, fig, alt: str) -> None:
    """Display the figure in the notebook, and save it where `save` does."""
    from IPython.display import display

    display(image(save(name, fig, alt), alt))

"""Controls that redraw a figure: a thin layer over ipywidgets, which may be missing.

`explore` puts controls above an image. Only the image's bytes change, so nothing flickers.
Its output holds the first figure as a plain PNG as well: that is what GitHub, nbviewer and
a reader without ipywidgets see.
"""

import base64
import html
import time

import numpy as np

from . import figures

WIDTH = "26em"  # of a slider or list with its label
VIEW = "application/vnd.jupyter.widget-view+json"


class Fixed:
    """Stands in for a control where ipywidgets is not installed."""

    def __init__(self, value):
        self.value = value


def _control(kind: str, value, **settings):
    try:
        import ipywidgets
    except ImportError:
        return Fixed(value)
    settings.setdefault("layout", {"width": WIDTH})
    return getattr(ipywidgets, kind)(
        value=value, style={"description_width": "initial"}, **settings
    )


def slider(label: str, low: int, high: int, value: int):
    """Return a slider over whole numbers."""
    return _control("IntSlider", value, min=low, max=high, description=label)


def stops(label: str, values, value):
    """Return a slider over the given values: numbers, or (text, value) pairs."""
    return _control("SelectionSlider", value, options=list(values), description=label)


def choice(label: str, options: list, value):
    """Return a drop-down list."""
    return _control("Dropdown", value, options=options, description=label)


def text_line(label: str, value: str):
    """Return a line of text that takes effect at Enter, or when the reader leaves it."""
    return _control(
        "Text",
        value,
        description=label,
        continuous_update=False,
        layout={"width": "90%"},
    )


def explore(draw, alt: str, **controls) -> None:
    """Display the controls above the figure draw(**their values), redrawn at every change.

    A ValueError from draw is shown to the reader in its place (a sentence that is too long,
    say); the figure stays.
    """
    from IPython.display import display

    def render() -> bytes:
        return figures.png(
            draw(**{name: control.value for name, control in controls.items()})
        )

    picture = figures.image(render(), alt)
    if any(isinstance(control, Fixed) for control in controls.values()):
        return display(picture)
    box = _box(render, picture, controls.values())
    bundle = {
        "image/png": base64.b64encode(picture.data).decode() + "\n",
        "text/plain": "(run this cell in Jupyter to move the controls)",
        VIEW: box._repr_mimebundle_()[VIEW],
    }
    metadata = {"image/png": {"alt": alt, "width": picture.width}}
    return display(bundle, metadata=metadata, raw=True)


def _box(render, first, controls):
    import ipywidgets

    picture, message = _picture(first), ipywidgets.HTML()

    def redraw(_change):
        try:
            picture.value, message.value = render(), ""
        except ValueError as error:
            message.value = f"<b>Cannot draw this:</b> {html.escape(str(error))}"

    for control in controls:
        control.observe(redraw, names="value")
    return ipywidgets.VBox([*controls, message, picture])


def _picture(image):
    """Return the image as a widget, whose bytes can change."""
    import ipywidgets

    layout = {"width": f"{image.width}px", "max_width": "100%"}
    return ipywidgets.Image(value=image.data, format="png", layout=layout)


class LiveCurve:
    """A progress bar and a loss curve that grow while a model trains: a callback of fit.

    Redrawn at most once a second, and no sooner than nine times as long as the last drawing
    took after its end, so that a slow machine, too, trains for nine tenths of the time.
    `finish` replaces both with the whole curve, which is what the notebook keeps.
    """

    def __init__(self, steps: int, alt: str, levels: dict[str, float] | None = None):
        self.steps, self.alt, self.levels = steps, alt, levels or {}
        self.clock, self.losses, self.due = time.monotonic, (), float("-inf")
        self.start = self.clock()
        self.handle = self.bar = self.label = self.picture = None

    def __call__(self, history) -> None:
        """Take the history so far (its `loss` is an array), and redraw if that is due."""
        self.losses = history.loss
        if (now := self.clock()) < self.due:
            return
        data = figures.png(self._figure())
        if self.handle is None:
            self._open(data)
        if self.bar is not None:
            self.bar.value = len(self.losses)
            at = f"step {len(self.losses)} of {self.steps}, loss {self.losses[-1]:.2f}"
            self.label.value = f"{at}, {now - self.start:.0f} s"
            self.picture.value = data
        done = self.clock()
        self.due = max(now + 1.0, done + 9 * (done - now))

    def finish(self, name: str, see: str) -> None:
        """Show the whole curve in place of bar and picture, under a line that says what to
        see, saved under this name.
        """
        self.handle.update(figures.told(name, self._figure(), self.alt, see))

    def _open(self, data):
        from IPython.display import DisplayHandle

        self.handle, image = DisplayHandle(), figures.image(data, self.alt)
        try:
            import ipywidgets
        except ImportError:
            return self.handle.display(image)
        self.bar = ipywidgets.IntProgress(max=self.steps)
        self.label, self.picture = ipywidgets.Label(), _picture(image)
        progress = ipywidgets.HBox([self.bar, self.label])
        return self.handle.display(ipywidgets.VBox([progress, self.picture]))

    def _figure(self):
        fig, ax = figures.subplots(figsize=(8.8, 3.4))
        steps = range(1, len(self.losses) + 1)
        ax.plot(steps, self.losses, color=figures.SKY, lw=1.0, label="each step")
        ax.plot(steps, _smooth(self.losses), color=figures.BLUE, label="running mean")
        colors = (figures.GREY, figures.RED, figures.GREEN)
        for (label, level), color in zip(self.levels.items(), colors, strict=False):
            ax.axhline(level, color=color, ls="--", lw=1.4, label=label)
        ax.set(xlim=(0, self.steps), xlabel="training step", ylabel="loss, nats per token")
        figures.legend_beside(ax)
        return fig


def _smooth(values, keep=0.8):
    """Return the running mean at each value: one that is n older counts keep^n as much."""
    weights = keep ** np.arange(len(values))
    return np.convolve(values, weights)[: len(values)] / np.cumsum(weights)

"""Widgets redraw, tell the reader what they cannot draw, and fall back to a picture."""

import base64
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from afm_ref.teaching import figures, widgets

ALT = "A straight line whose slope is the slider's value."


def slope(a):
    if a > 4:
        raise ValueError("too steep for <this> figure")
    fig, ax = figures.subplots(figsize=(3, 2))
    ax.plot([0, 1], [0, a])
    ax.set_ylim(0, 5)
    return fig


def test_a_change_redraws_the_picture_and_an_error_is_told(shown, monkeypatch):
    boxes = []
    real = widgets._box
    monkeypatch.setattr(widgets, "_box", lambda *a: boxes.append(real(*a)) or boxes[0])
    control = widgets.slider("slope", 0, 5, 1)
    widgets.explore(slope, ALT, a=control)
    _, message, picture = boxes[0].children
    before = picture.value
    control.value = 3
    assert picture.value != before and picture.value == figures.png(slope(3))
    control.value = 5
    assert "too steep for &lt;this&gt; figure" in message.value and picture.value == figures.png(slope(3))
    control.value = 1
    assert message.value == "" and picture.value == before


def test_the_stored_output_holds_the_static_figure(shown):
    widgets.explore(slope, ALT, a=widgets.slider("slope", 0, 5, 2))
    (bundle,), settings = shown[0]
    assert base64.b64decode(bundle["image/png"]) == figures.png(slope(2))
    assert settings["metadata"]["image/png"]["alt"] == ALT and widgets.VIEW in bundle


def test_without_ipywidgets_there_is_the_static_figure(shown, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    widgets.explore(slope, ALT, a=widgets.slider("slope", 0, 5, 2))
    (image,), _ = shown[0]
    assert image.data == figures.png(slope(2))


def test_the_live_curve_draws_rarely_and_ends_whole(shown, monkeypatch):
    updates = []
    monkeypatch.setattr("IPython.display.DisplayHandle.display", lambda self, x: updates.append(x))
    monkeypatch.setattr("IPython.display.DisplayHandle.update", lambda self, x: updates.append(x))
    now = [0.0]
    curve = widgets.LiveCurve(steps=50, alt="The loss falls over 50 steps.", levels={"a guesser": 7.0})
    curve.clock, curve.start, drawn = lambda: now[0], 0.0, []
    monkeypatch.setattr(figures, "png", lambda fig, real=figures.png: drawn.append(fig) or real(fig))
    for step in range(1, 51):
        now[0] += 0.1  # 5 seconds in all
        curve(SimpleNamespace(loss=8.0 / np.arange(1, step + 1)))
    assert 4 <= len(drawn) <= 6 and curve.bar.max == 50
    curve.finish("00_curve")
    assert updates[-1].data == figures.png(drawn[-1])
    assert [len(line.get_xdata()) for line in drawn[-1].axes[0].lines] == [50, 50, 2]
    assert widgets._smooth([2.0, 2.0, 2.0]) == pytest.approx([2.0, 2.0, 2.0])  # corrected for its start


def test_drawing_takes_a_tenth_of_the_time_where_it_is_slow(monkeypatch):
    """A drawing of 2 seconds, asked for every 0.1 seconds of training: 20 seconds have one, not one each."""
    now, drawn = [0.0], []

    def slow(fig, real=figures.png):
        now[0] += 2.0
        drawn.append(now[0])
        return real(fig)

    monkeypatch.setattr("IPython.display.DisplayHandle.display", lambda self, x: None)
    monkeypatch.setattr(figures, "png", slow)
    curve = widgets.LiveCurve(steps=600, alt="The loss falls over 600 steps.")
    curve.clock, curve.start = lambda: now[0], 0.0
    for step in range(1, 601):
        now[0] += 0.1
        curve(SimpleNamespace(loss=np.ones(step)))
    assert np.diff(drawn) == pytest.approx(20.0, abs=0.2) and 3 <= len(drawn) <= 4

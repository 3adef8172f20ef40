"""Figures are small, the same on every run, and described in words; widgets redraw them and fall back to them."""

import base64
import io
import sys
from types import SimpleNamespace

import matplotlib.colors
import numpy as np
import pytest
from PIL import Image

from afm_ref.teaching import figures, system_map, widgets

ALT = "A straight line that rises from zero to one."


def line():
    fig, ax = figures.subplots(figsize=(4, 2))
    ax.plot([0, 1], [0, 1])
    return fig


def test_the_same_figure_gives_the_same_bytes_in_one_style_without_metadata():
    data = figures.png(line())
    assert data == figures.png(line())
    assert not any(kind in data for kind in (b"tEXt", b"iTXt", b"tIME"))
    image = Image.open(io.BytesIO(data))
    assert image.size == (4 * figures.DPI, 2 * figures.DPI)
    colours = np.asarray(image.convert("RGB")).reshape(-1, 3)
    blue = np.array([int(figures.BLUE[i : i + 2], 16) for i in (1, 3, 5)])
    assert np.abs(colours.astype(int) - blue).sum(1).min() < 12


def test_save_writes_only_where_the_variable_says_and_show_displays(tmp_path, monkeypatch, shown):
    monkeypatch.delenv(figures.FOLDER_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    fig = line()
    figures.headline(fig, "It rises.")
    assert fig.get_suptitle() == "It rises."
    data = figures.save("00_line", fig, ALT)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv(figures.FOLDER_VARIABLE, str(tmp_path / "figures"))
    figures.show("00_line", line(), ALT, "It rises.")
    assert [(p.name, p.read_bytes()) for p in (tmp_path / "figures").iterdir()] == [("00_line.png", data)]
    (((image,), _),) = shown
    assert image.data == data
    _, metadata = image._repr_png_()
    assert metadata["alt"] == f"It rises. {ALT}" and metadata["width"] == 4 * figures.SCREEN_DPI


def test_bad_figures_are_refused():
    for name, alt, told in (("00_line", "a line", "alt text"), ("../line", ALT, "figure name")):
        with pytest.raises(ValueError, match=told):
            figures.save(name, line(), alt)
    for see in ("", "far too much to say " * 10):
        with pytest.raises(ValueError, match="one line, two at most"):
            figures.headline(line(), see)
    with pytest.raises(ValueError, match="no chapter 17"):
        system_map.at_chapter(17)
    fig, ax = figures.subplots(figsize=(9, 6))
    ax.imshow(np.random.default_rng(0).random((400, 600)))
    with pytest.raises(ValueError, match="draw less or smaller"):
        figures.save("00_noise", fig, ALT)


def test_the_map_names_every_chapter():
    assert set().union(*(box.chapters for box in system_map.BOXES)) == set(range(1, 12))
    fig, alt = system_map.at_chapter(6)
    texts = [t.get_text() for t in fig.axes[0].texts]
    assert all(any(t == f"{system_map.label(b.chapters)}  {b.title}" for t in texts) for b in system_map.BOXES)
    assert {"On-device model", "Server model", "Coding model", "Diffusion model"} <= set(texts)
    assert "Chapter 6 is lit up" in alt and len(figures.png(fig)) < figures.MAX_BYTES
    assert figures.png(fig) != figures.png(system_map.at_chapter(0)[0])


def test_the_whole_road_lights_what_it_walks():
    fig, alt = system_map.at_chapter(12)
    lit = [
        matplotlib.colors.to_hex(patch.get_facecolor()).upper() == system_map.LIT[0] for patch in fig.axes[0].patches
    ]
    assert lit[: len(system_map.BOXES)] == [bool({8, 9, 10, 11} & set(box.chapters)) for box in system_map.BOXES]
    assert sum(lit) == 4 and "Chapter 12 is lit up" in alt


def test_no_text_of_the_map_leaves_its_box():
    fig, _ = system_map.at_chapter(1)
    figures.png(fig)
    ax, renderer = fig.axes[0], fig.canvas.get_renderer()
    boxes = [p.get_window_extent(renderer) for p in ax.patches if hasattr(p, "get_boxstyle")]
    for text in ax.texts:
        extent = text.get_window_extent(renderer)
        if text.get_ha() == "center":
            home = next(b for b in boxes if b.contains(*extent.corners().mean(axis=0)))
            assert all(home.contains(*corner) for corner in extent.corners()), text.get_text()


def slope(a):
    if a > 4:
        raise ValueError("too steep for <this> figure")
    fig, ax = figures.subplots(figsize=(3, 2))
    ax.plot([0, 1], [0, a])
    ax.set_ylim(0, 5)
    return fig


def test_a_change_redraws_the_picture_and_an_error_is_told(shown, monkeypatch):
    boxes, real = [], widgets._box
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


def test_the_static_figure_is_stored_and_is_there_without_ipywidgets(shown, monkeypatch):
    for _ in range(2):
        widgets.explore(slope, ALT, a=widgets.slider("slope", 0, 5, 2))
        monkeypatch.setitem(sys.modules, "ipywidgets", None)
    ((bundle,), settings), ((image,), _) = shown
    assert base64.b64decode(bundle["image/png"]) == image.data == figures.png(slope(2))
    assert settings["metadata"]["image/png"]["alt"] == ALT and widgets.VIEW in bundle


def live_curve(monkeypatch, steps, drawing_s, **settings):
    """Return (a curve, [(time, figure)] of its drawings, what is displayed) after training steps of 0.1 seconds."""
    now, drawn, displayed = [0.0], [], []

    def png(fig, real=figures.png):
        now[0] += drawing_s
        drawn.append((now[0], fig))
        return real(fig)

    for name in ("display", "update"):
        monkeypatch.setattr(f"IPython.display.DisplayHandle.{name}", lambda self, x: displayed.append(x))
    monkeypatch.setattr(figures, "png", png)
    curve = widgets.LiveCurve(steps=steps, alt="The loss falls over all steps.", **settings)
    curve.clock, curve.start = lambda: now[0], 0.0
    for step in range(1, steps + 1):
        now[0] += 0.1
        curve(SimpleNamespace(loss=8.0 / np.arange(1, step + 1)))
    return curve, drawn, displayed


def test_the_live_curve_draws_rarely_and_ends_whole(shown, monkeypatch):
    curve, drawn, displayed = live_curve(monkeypatch, 50, drawing_s=0.0, levels={"a guesser": 7.0})
    assert 4 <= len(drawn) <= 6 and curve.bar.max == 50  # in 5 seconds
    curve.finish("00_curve", "It falls.")
    assert displayed[-1].data == figures.png(drawn[-1][1]) and drawn[-1][1].get_suptitle() == "It falls."
    assert displayed[-1]._repr_png_()[1]["alt"] == "It falls. The loss falls over all steps."
    assert [len(line.get_xdata()) for line in drawn[-1][1].axes[0].lines] == [50, 50, 2]
    assert widgets._smooth([2.0, 2.0, 2.0]) == pytest.approx([2.0, 2.0, 2.0])  # corrected for its start


def test_drawing_takes_a_tenth_of_the_time_where_it_is_slow(monkeypatch):
    """A drawing of 2 seconds: 20 seconds have one, not one each."""
    _, drawn, _ = live_curve(monkeypatch, 600, drawing_s=2.0)
    assert np.diff([time for time, _ in drawn]) == pytest.approx(20.0, abs=0.2) and 3 <= len(drawn) <= 4

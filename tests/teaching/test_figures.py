"""Figures are small, the same on every run, described in words, and written only where they are asked for."""

import io

import numpy as np
import pytest
from PIL import Image

from afm_ref.teaching import figures, system_map

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
    data = figures.save("00_line", line(), ALT)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv(figures.FOLDER_VARIABLE, str(tmp_path / "figures"))
    figures.show("00_line", line(), ALT)
    assert [(p.name, p.read_bytes()) for p in (tmp_path / "figures").iterdir()] == [("00_line.png", data)]
    (((image,), _),) = shown
    assert image.data == data
    _, metadata = image._repr_png_()
    assert metadata["alt"] == ALT and metadata["width"] == 4 * figures.SCREEN_DPI


def test_bad_figures_are_refused():
    with pytest.raises(ValueError, match="alt text"):
        figures.save("00_line", line(), "a line")
    with pytest.raises(ValueError, match="figure name"):
        figures.save("../line", line(), ALT)
    with pytest.raises(ValueError, match="no chapter 9"):
        system_map.at_chapter(9)
    fig, ax = figures.subplots(figsize=(9, 6))
    ax.imshow(np.random.default_rng(0).random((400, 600)))
    with pytest.raises(ValueError, match="draw less or smaller"):
        figures.save("00_noise", fig, ALT)


def test_the_map_names_every_chapter():
    assert {box.chapter for box in system_map.BOXES} == set(range(1, 9))
    fig, alt = system_map.at_chapter(3)
    texts = [t.get_text() for t in fig.axes[0].texts]
    assert all(any(t == f"{b.chapter}  {b.title}" for t in texts) for b in system_map.BOXES)
    assert {"On-device model", "Server model", "Coding model", "Diffusion model"} <= set(texts)
    assert "Chapter 3 is lit up" in alt and len(figures.png(fig)) < figures.MAX_BYTES
    assert figures.png(fig) != figures.png(system_map.at_chapter(0)[0])


def test_no_text_of_the_map_leaves_its_box():
    """Every line of text must fit inside the box that it is centred in."""
    fig, _ = system_map.at_chapter(1)
    figures.png(fig)
    ax, renderer = fig.axes[0], fig.canvas.get_renderer()
    boxes = [p.get_window_extent(renderer) for p in ax.patches if hasattr(p, "get_boxstyle")]
    for text in ax.texts:
        extent = text.get_window_extent(renderer)
        if text.get_ha() != "center":
            continue
        middle = ((extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2)
        home = [b for b in boxes if b.contains(*middle)]
        assert home and home[0].x0 <= extent.x0 and extent.x1 <= home[0].x1, text.get_text()
        assert home[0].y0 <= extent.y0 and extent.y1 <= home[0].y1, text.get_text()

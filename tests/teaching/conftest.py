"""What is displayed, and what is handed to a widget, is caught instead."""

import pytest


@pytest.fixture
def shown(monkeypatch):
    """The list of what is displayed: (objects, settings)."""
    outputs = []
    monkeypatch.setattr("IPython.display.display", lambda *a, **k: outputs.append((a, k)))
    return outputs


@pytest.fixture
def explored(monkeypatch):
    """The list of what widgets are to explore: (function, alt text, controls)."""
    asked = []
    explore = "afm_ref.teaching.widgets.explore"
    monkeypatch.setattr(explore, lambda draw, alt, **controls: asked.append((draw, alt, controls)))
    return asked

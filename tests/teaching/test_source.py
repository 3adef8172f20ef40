"""`show_source` shows what runs, and the same text wherever it runs."""

import numpy as np

from afm_ref import ops, transformer
from afm_ref.teaching import show_source
from afm_ref.teaching.source import source_text


def test_the_text_is_the_code_that_runs():
    names = {"wide": ops.wide, "narrow": ops.narrow}
    exec(source_text(ops.silu).replace('Float[Array, "*batch F"]', "object"), names)
    x = np.array([1.0, 2.0, -3.0])
    assert np.array_equal(names["silu"](x), ops.silu(x))


def test_only_the_docstrings_test_line_is_left_out():
    text = source_text(ops.rms_norm)
    assert text.startswith("def rms_norm(") and "Source: TR24 section 2" in text and "Test:" not in text
    assert 'if hasattr(gain, "rms_norm")' in text or "gain" in text.split('"""')[2]


def test_long_lines_of_docstrings_are_wrapped_and_code_is_not():
    import inspect

    text = source_text(ops.attention)
    docstring, real = text.split('"""')[1], inspect.getdoc(inspect.unwrap(ops.attention))
    assert max(map(len, docstring.splitlines())) <= 92 < max(map(len, real.splitlines())) + 4
    assert docstring.split() == real.split("Test:")[0].split()
    assert text.split('"""')[2] in inspect.getsource(inspect.unwrap(ops.attention))


def test_a_class_and_a_function_without_docstring():
    assert source_text(transformer.Causal).startswith("class Causal:")

    def bare(x):
        return x

    assert source_text(bare) == "def bare(x):\n    return x"


def test_it_displays_markdown_that_names_the_file(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    show_source(ops.softmax, ops.silu)
    assert [m.data.split("\n")[0] for m in shown] == ["`afm_ref/ops.py`"] * 2
    assert all("```python\ndef " in m.data for m in shown)

"""`show_source` shows what runs, the same wherever it runs; the glossary is one table, of the config's letters."""

import re

import numpy as np

from afm_ref import config, ops, transformer
from afm_ref.teaching import glossary, show_source
from afm_ref.teaching.source import source_text


def test_the_text_is_the_code_that_runs():
    names = {"wide": ops.wide, "narrow": ops.narrow}
    exec(source_text(ops.silu).replace('Float[Array, "*batch F"]', "object"), names)
    x = np.array([1.0, 2.0, -3.0])
    assert np.array_equal(names["silu"](x), ops.silu(x))


def test_only_the_lines_that_name_tests_are_left_out():
    def double(x):
        """Return 2 x.

        Source: Euclid [standard].
        Test: tests/a.py::test_one,
        tests/a.py::test_two
        """
        return 2 * x  # Test: by hand

    head = 'def double(x):\n    """Return 2 x.\n\n    Source: Euclid [standard].\n    """\n'
    assert source_text(double) == head + "    return 2 * x  # Test: by hand"
    assert "Source: TR24 section 2" in source_text(ops.rms_norm)


def test_a_class_and_a_function_without_docstring():
    assert source_text(transformer.Causal).startswith("class Causal:")

    def bare(x):
        return x

    assert source_text(bare) == "def bare(x):\n    return x"


def test_it_displays_markdown_that_names_the_file(shown):
    show_source(ops.softmax, ops.silu)
    texts = [markdown.data for (markdown,), _ in shown]
    assert [text.split("\n")[0] for text in texts] == ["`afm_ref/ops.py`"] * 2
    assert all("\n\n```python\ndef " in text and "width: max-content" in text for text in texts)


def test_every_axis_letter_of_the_config_is_in_the_legend():
    letters = re.findall(r"\b([A-Z])\s+\(", config.AFMConfig.__doc__)
    assert len(letters) == 7 and set(letters) <= set(glossary.AXES)


def test_tables_have_a_row_for_each_entry_and_no_stray_columns(shown):
    glossary.show_axes()
    glossary.show_terms()
    for ((table,), _), entries in zip(shown, (glossary.AXES, glossary.TERMS), strict=True):
        lines = table.data.splitlines()
        assert len(lines) == len(entries) + 2
        assert all(line.count("|") == 3 for line in lines)
    assert list(glossary.TERMS) == sorted(glossary.TERMS, key=str.lower)

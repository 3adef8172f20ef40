"""The glossary is one table, and its letters are the ones in the config's dimensions."""

import re

from afm_ref import config
from afm_ref.teaching import glossary


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

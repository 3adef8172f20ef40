"""What the notebooks share: checks, sources, tables, exercises, figures, widgets, words."""

from .checks import check
from .exercises import attempt
from .source import show_source
from .tables import show_table

__all__ = ["attempt", "check", "show_source", "show_table"]

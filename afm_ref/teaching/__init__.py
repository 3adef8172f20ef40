"""What the notebooks share: checks, sources, exercises, figures, widgets and the glossary."""

from .checks import check
from .exercises import attempt
from .source import show_source

__all__ = ["attempt", "check", "show_source"]

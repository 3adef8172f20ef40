"""LoRA: adapters beside frozen weights, their files, and the bank that serves them."""

from ..config import ATTENTION
from . import costs, files
from .adapter import TARGETS, LoRA, attach, detach, merge, trainable, unmerge
from .extraction import extract
from .serving import AdapterBank

__all__ = [
    "ATTENTION",
    "TARGETS",
    "AdapterBank",
    "LoRA",
    "attach",
    "costs",
    "detach",
    "extract",
    "files",
    "merge",
    "trainable",
    "unmerge",
]

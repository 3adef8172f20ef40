"""Parallelism: strategies on real and fake devices, a simulator, and what they cost."""

from .sharded import fsdp

__all__ = ["fsdp"]

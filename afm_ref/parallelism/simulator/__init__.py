"""Collectives hop by hop, and arrays cut over devices that are only imagined."""

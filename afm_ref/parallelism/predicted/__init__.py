"""Bytes, memory and seconds of a plan before anything is compiled."""

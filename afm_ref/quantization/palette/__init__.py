"""Palettes: a table of few values for a group of rows, and a code of 1 to 8 bits for every
weight.
"""
